//! Silent transmission and reception.

use super::super::finding::{Detector, Symptom};
use super::super::judge::Order;
use super::super::sample::Sample;
use super::super::speed::LinkSpeed;
use super::{MS, World, serve, wake_in_vain};
use microvm::domain::VcpuState;

#[test]
fn claims_that_are_not_confirmed_are_silence() {
    let mut world = World::with(|_| ());
    let finding = world.assert_fails(Detector::SilentTransmit, 8, |s, passed_ns, order| {
        let awaiting = s.confirmations.awaiting;
        serve(s, passed_ns, order);
        s.confirmations.awaiting = awaiting + u64::from(passed_ns > 0);
    });
    assert!(matches!(finding.symptom, Symptom::Unconfirmed(n) if n > 0), "{finding}");
}

#[test]
fn one_unsent_frame_among_many_is_silence_too() {
    let mut world = World::with(|_| ());
    let mut n = 0;
    world.assert_fails(Detector::SilentTransmit, 20, |s, passed_ns, order| {
        let awaiting = s.confirmations.awaiting;
        serve(s, passed_ns, order);
        n += 1;
        // Every third frame stays behind.
        s.confirmations.awaiting = awaiting.max(1) + u64::from(n % 3 == 0);
    });
}

#[test]
fn a_busy_sender_is_not_silent() {
    // 100 frames a sample, all of them younger than two samples.
    let mut world = World::with(|_| ());
    world.assert_silent(1_000, |s, passed_ns, order| {
        serve(s, passed_ns, order);
        s.confirmations.claimed += 100;
        s.confirmations.awaiting = 150;
    });
}

#[test]
fn claims_wait_for_a_switchboard_that_is_not_run() {
    let mut world = World::with(|s| s.confirmations.awaiting = 3);
    world.assert_silent(1_000, wake_in_vain);
}

/// Claims one frame a millisecond; the buffer on the chip holds 13, so the oldest is 13 ms old.
fn sends_slowly(s: &mut Sample, passed_ns: u64, order: Order) {
    serve(s, passed_ns, order);
    s.confirmations.awaiting = 13;
}

#[test]
fn a_slow_link_gets_the_time_that_its_frames_take() {
    let mut slow = World::with(|s| s.nic.speed = LinkSpeed::Mbps10);
    slow.assert_silent(1_000, sends_slowly);
    let mut fast = World::with(|s| s.nic.speed = LinkSpeed::Mbps1000);
    fast.assert_fails(Detector::SilentTransmit, 8, sends_slowly);
}

#[test]
fn silence_on_a_slow_link_is_found_too() {
    for (speed, within_ms) in [(LinkSpeed::Mbps100, 12), (LinkSpeed::Mbps10, 50)] {
        let mut world = World::with(|s| s.nic.speed = speed);
        world.assert_fails(Detector::SilentTransmit, within_ms, |s, passed_ns, order| {
            let awaiting = s.confirmations.awaiting;
            serve(s, passed_ns, order);
            s.confirmations.awaiting = awaiting + u64::from(passed_ns > 0);
        });
    }
}

#[test]
fn a_head_that_moves_unseen_is_silence() {
    let mut world = World::with(|_| ());
    let finding = world.assert_fails(Detector::SilentReceive, 7, |s, passed_ns, order| {
        if passed_ns > 0 {
            // Each frame wakes the driver, which sees nothing.
            s.nic.rx_head += 1;
            s.waits += 1;
            s.heartbeat += 1;
        }
        wake_in_vain(s, passed_ns, order);
    });
    assert_eq!(finding.symptom, Symptom::ReceiveUnseen);
}

#[test]
fn a_nic_that_fetches_ahead_is_not_silent() {
    // The head of an idle NIC that reads 16 descriptors ahead moves once with new buffers.
    let mut world = World::with(|s| {
        s.nic.rx_head += 16;
        s.nic.rx_tail = (s.nic.rx_tail + 16) % 512;
        s.cursors.rx_taken += 16;
    });
    world.assert_silent(1_000, wake_in_vain);
}

#[test]
fn a_starved_nic_is_silence() {
    let mut world = World::with(|s| s.nic.rx_head = s.nic.rx_tail);
    // The jump itself is what a flood looks like: nothing published yet.
    let finding = world.assert_fails(Detector::SilentReceive, 6, wake_in_vain);
    assert!(
        matches!(finding.symptom, Symptom::ReceiveStarved | Symptom::ReceiveUnseen),
        "{finding}"
    );
}

#[test]
fn buffers_that_the_driver_took_and_never_gave_to_the_nic_are_silence() {
    let mut world = World::with(|s| {
        s.nic.rx_tail = s.nic.rx_head;
        // It has taken all there are.
        s.cursors.rx_taken = s.cursors.rx_provided;
    });
    let finding = world.assert_fails(Detector::SilentReceive, 6, wake_in_vain);
    assert_eq!(finding.symptom, Symptom::ReceiveStarved);
}

#[test]
fn a_nic_without_buffers_because_the_guest_has_them_all_is_not_starved() {
    let mut world = World::with(|s| {
        s.nic.rx_head = s.nic.rx_tail;
        s.cursors.rx_taken = s.cursors.rx_provided;
        s.cursors.rx_returned = s.cursors.rx_taken;
        s.cursors.rx_read = s.cursors.rx_returned;
    });
    world.assert_silent(1_000, |_, _, _| ());
}

#[test]
fn a_masked_interrupt_of_a_parked_domain_is_silence() {
    let mut world = World::with(|s| s.nic.masked = true);
    let finding = world.assert_fails(Detector::SilentReceive, 9, |_, _, _| ());
    assert_eq!(finding.symptom, Symptom::InterruptMasked);
}

#[test]
fn a_busy_driver_may_mask_its_interrupt() {
    let mut world = World::with(|s| {
        s.vcpu = VcpuState::InGuest;
        s.nic.masked = true;
    });
    world.assert_silent(1_000, serve);
}

#[test]
fn a_switchboard_that_was_stopped_in_the_middle_of_a_turn_has_not_asked() {
    // It began one more turn after the claim, long ago, and is still in it.
    let mut world = World::with(|s| s.confirmations.awaiting = 1);
    let mut ran_ns = 0;
    world.assert_silent(100, |s, passed_ns, order| {
        ran_ns += passed_ns;
        if ran_ns < MS {
            s.confirmations.turns += 1;
        }
        wake_in_vain(s, passed_ns, order);
    });
}

//! Ring stalls and lost wakeups.

use super::super::finding::{Detector, Symptom};
use super::super::judge::Order;
use super::super::sample::Sample;
use super::{MS, World, wake_in_vain};
use microvm::domain::VcpuState;

#[test]
fn work_that_is_not_touched_stalls_the_ring() {
    type Change = fn(&mut Sample);
    let cases: [(Symptom, Change); 3] = [
        (Symptom::TransmitUntaken, |s| s.cursors.tx_posted += 1),
        (Symptom::TransmitUnclaimed, |s| {
            s.cursors.tx_posted += 1;
            s.cursors.tx_taken += 1;
        }),
        (Symptom::ReceiveUnpublished, |s| s.rx_completed = true),
    ];
    for (symptom, change) in cases {
        let mut world = World::with(change);
        let finding = world.assert_fails(Detector::RingStall, 6, wake_in_vain);
        assert_eq!(finding.symptom, symptom);
        assert_eq!(world.wakes, 1, "one spurious wake at half time");
    }
}

#[test]
fn a_lost_wakeup_heals_and_is_counted() {
    let mut world = World::with(|s| s.cursors.tx_posted += 1);
    world.assert_silent(300, |s, _, order| {
        s.nic.progress += 1;
        s.confirmations.turns += 1;
        if order == Order::Wake && s.cursors.tx_claimed != s.cursors.tx_posted {
            s.cursors.tx_taken = s.cursors.tx_posted;
            s.cursors.tx_claimed = s.cursors.tx_posted;
        }
        wake_in_vain(s, 0, order);
    });
    assert_eq!(world.healed, 1);
}

#[test]
fn wakeups_that_are_lost_again_and_again_are_a_ring_stall() {
    let mut world = World::with(|_| ());
    let finding = world.assert_fails(Detector::RingStall, 20, |s, _, order| {
        s.rx_completed = true;
        s.nic.progress += 1;
        s.confirmations.turns += 1;
        if order == Order::Wake {
            wake_in_vain(s, 0, order);
            s.rx_completed = false;
            s.cursors.rx_returned += 1;
        }
    });
    assert_eq!(finding.symptom, Symptom::LostWakeups(3));
}

/// The switchboard reads when it is notified; the domain publishes and never notifies.
#[test]
fn notifications_that_are_lost_again_and_again_are_a_ring_stall() {
    let mut world = World::with(|s| {
        s.switchboard_asleep = true;
        s.cursors.rx_returned += 1;
    });
    let finding = world.assert_fails(Detector::RingStall, 20, |s, _, order| {
        if order == Order::NotifySwitchboard {
            s.confirmations.turns += 1;
            s.cursors.rx_read = s.cursors.rx_returned;
        } else {
            s.cursors.rx_returned = s.cursors.rx_read + 1;
        }
    });
    assert_eq!(finding.symptom, Symptom::LostWakeups(3));
}

#[test]
fn what_waits_for_the_guest_is_not_the_domains_fault() {
    let mut world = World::with(|s| {
        s.switchboard_asleep = true;
        s.cursors.rx_returned += 1;
    });
    world.assert_silent(500, |s, _, order| {
        // Notified, it checks, and cannot go on.
        s.confirmations.turns += u64::from(order == Order::NotifySwitchboard);
        wake_in_vain(s, 0, order);
    });
    // The guest has buffers again, much later.
    world.s.cursors.rx_read = world.s.cursors.rx_returned;
    world.assert_silent(500, wake_in_vain);
    assert_eq!(world.healed, 0);
}

#[test]
fn a_switchboard_that_is_at_work_needs_no_notification() {
    let mut world = World::with(|s| {
        s.switchboard_asleep = true;
        for cursor in [&mut s.cursors.tx_posted, &mut s.cursors.tx_taken, &mut s.cursors.tx_claimed]
        {
            *cursor += 1;
        }
    });
    world.assert_silent(50, |s, _, order| {
        s.confirmations.turns += 1;
        assert_ne!(order, Order::NotifySwitchboard);
    });
}

#[test]
fn a_domain_that_was_woken_and_not_yet_run_has_not_had_its_chance() {
    let mut world = World::with(|s| {
        s.cursors.tx_posted += 1;
        s.signalled = true;
    });
    world.assert_silent(95, |_, _, _| ());
    assert_eq!(world.wakes, 0, "it is on its way");
    // ... and at the cap it has failed all the same.
    assert!(world.run(20, |_, _, _| ()).is_some());
}

#[test]
fn slow_progress_is_progress() {
    let mut world = World::with(|s| {
        s.vcpu = VcpuState::InGuest;
        s.cursors.tx_posted += 800;
    });
    let mut since_ns = 0;
    world.assert_silent(500, |s, passed_ns, _| {
        s.cpu_ns += passed_ns / 4;
        since_ns += passed_ns;
        // One frame in four milliseconds.
        if since_ns >= 4 * MS {
            since_ns = 0;
            s.heartbeat += 1;
            s.cursors.tx_taken += 1;
            s.cursors.tx_claimed += 1;
        }
    });
}

#[test]
fn an_engine_that_was_not_run_keeps_the_domain_innocent() {
    let mut world = World::with(|s| {
        s.cursors.tx_posted += 1;
        s.cursors.tx_taken += 1;
        s.nic.tx_tail += 1;
    });
    world.assert_silent(90, wake_in_vain);
    world.s.nic.progress += 2;
    world.assert_fails(Detector::RingStall, 6, wake_in_vain);
}

/// The domain is woken while the NIC's engine is stopped, and then the engine sends the frame: the
/// interrupt is on its way when the domain is sampled.
#[test]
fn a_domain_that_had_its_turn_before_the_engine_keeps_its_innocence() {
    for engine_stopped_ms in 1..20 {
        let mut world = World::with(|s| {
            s.cursors.tx_posted += 1;
            s.cursors.tx_taken += 1;
            s.nic.tx_tail += 1;
        });
        world.assert_silent(engine_stopped_ms, wake_in_vain);
        world.s.nic.progress += 2;
        world.s.nic.tx_head = world.s.nic.tx_tail;
        world.s.signalled = true;
        world.assert_silent(10, |_, _, _| ());
        world.s.signalled = false;
        world.s.waits += 1;
        world.s.heartbeat += 1;
        world.s.cursors.tx_claimed = world.s.cursors.tx_taken;
        world.assert_silent(90, wake_in_vain);
        assert_eq!(world.healed, 0);
    }
}

/// The engine sends the frame and is stopped before it interrupts, again and again.
#[test]
fn an_interrupt_that_is_only_late_is_not_counted_as_lost() {
    let mut world = World::with(|_| ());
    world.assert_silent(90, |s, _, order| {
        if s.cursors.tx_taken == s.cursors.tx_claimed {
            s.cursors.tx_posted += 1;
            s.cursors.tx_taken += 1;
            s.nic.tx_tail += 1;
        } else if s.nic.tx_head != s.nic.tx_tail {
            s.nic.progress += 1;
            s.nic.tx_head = s.nic.tx_tail;
        }
        if order == Order::Wake {
            wake_in_vain(s, 0, order);
            s.cursors.tx_claimed = s.cursors.tx_taken;
        }
    });
    assert_eq!(world.healed, 0);
}

/// The frame is sent and the interrupt lost, and everybody but the domain goes on.
#[test]
fn a_lost_interrupt_of_a_sent_frame_heals_once() {
    let mut world = World::with(|s| {
        s.cursors.tx_posted += 1;
        s.cursors.tx_taken += 1;
    });
    world.assert_silent(90, |s, _, order| {
        s.nic.progress += 1;
        if order == Order::Wake {
            wake_in_vain(s, 0, order);
            s.cursors.tx_claimed = s.cursors.tx_taken;
        }
    });
    assert_eq!(world.healed, 1);
}

#[test]
fn a_wakeup_that_is_only_late_is_not_counted_as_lost() {
    // The NIC's engine is stopped between the write-back and the interrupt, again and again.
    let mut world = World::with(|_| ());
    world.assert_silent(90, |s, _, order| {
        s.rx_completed = true;
        if order == Order::Wake {
            wake_in_vain(s, 0, order);
            s.rx_completed = false;
            s.cursors.rx_returned += 1;
        }
    });
    assert_eq!(world.healed, 0);
}

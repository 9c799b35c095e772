//! Hang, spin, blocked.

use super::super::finding::{Detector, Symptom};
use super::super::judge::{Duty, Order};
use super::super::sample::Sample;
use super::{MS, World, hang, serve};
use microvm::domain::VcpuState;

#[test]
fn a_hang_is_found_by_cpu_time_and_kicks() {
    let mut world = World::with(|s| s.vcpu = VcpuState::InGuest);
    let finding = world.assert_fails(Detector::Hang, 3, hang);
    assert_eq!(finding.symptom, Symptom::NoHeartbeat);
    assert!(finding.cpu_us >= 1_800, "{finding}");
    assert_eq!(world.kicks, 3);
}

#[test]
fn a_long_turn_that_ends_at_a_kick_is_no_hang() {
    let mut world = World::with(|s| s.vcpu = VcpuState::InGuest);
    world.assert_silent(500, |s, passed_ns, order| {
        s.cpu_ns += passed_ns;
        s.interruptions += u64::from(order == Order::Kick);
        s.heartbeat += u64::from(order == Order::Kick);
        s.cursors.tx_claimed += u32::from(order == Order::Kick);
        s.cursors.tx_taken = s.cursors.tx_claimed;
        s.cursors.tx_posted = s.cursors.tx_claimed;
    });
    assert!(world.kicks > 10);
}

#[test]
fn a_processor_that_stands_still_is_no_hang_though_the_cpu_clock_runs_on() {
    // The kick is answered only when the processor runs again, and then the heartbeat moves.
    let mut world = World::with(|s| s.vcpu = VcpuState::InGuest);
    for _ in 0..20 {
        world.assert_silent(8, |s, passed_ns, _| s.cpu_ns += passed_ns);
        world.s.interruptions += 1;
        // The rest of the turn that was under way takes half a millisecond.
        let mut ran_ns = 0;
        world.assert_silent(1, |s, passed_ns, order| {
            hang(s, passed_ns, order);
            ran_ns += passed_ns;
            s.heartbeat += ran_ns / (MS / 2);
        });
        serve(&mut world.s, MS, Order::Nothing);
    }
}

#[test]
fn a_domain_that_is_not_run_does_not_hang() {
    // Runnable, but the machine runs something else: 99 ms is the longest that is tolerated.
    let mut world = World::with(|s| s.vcpu = VcpuState::InGuest);
    world.assert_silent(99, |_, _, _| ());
    assert_eq!(world.kicks, 0);
}

#[test]
fn a_domain_that_is_never_run_is_blocked_at_the_cap() {
    let mut world = World::with(|s| s.vcpu = VcpuState::Serving);
    let finding = world.assert_fails(Detector::Blocked, 102, |_, _, _| ());
    assert_eq!(finding.symptom, Symptom::NoProgress);
}

#[test]
fn a_hang_that_is_hardly_run_is_found_at_the_cap() {
    let mut world = World::with(|s| s.vcpu = VcpuState::InGuest);
    world.assert_fails(Detector::Hang, 102, |s, passed_ns, _| s.cpu_ns += passed_ns / 150);
}

#[test]
fn when_the_whole_machine_stood_still_nobody_hangs() {
    let mut world = World::with(|s| s.vcpu = VcpuState::InGuest);
    // The samples come 80 ms late, and an unsound CPU clock ran on all the time.
    for _ in 0..20 {
        world.s.now_ns += 80 * MS;
        world.s.cpu_ns += 80 * MS;
        let assessment = world.judge.assess(&world.s, Duty::Serving, &world.t);
        assert!(!matches!(assessment.order, Order::Fail(_)), "{assessment:?}");
        world.s.heartbeat += 1;
        world.s.waits += 1;
    }
}

#[test]
fn a_loop_that_turns_in_vain_spins() {
    let mut world = World::with(|s| s.vcpu = VcpuState::InGuest);
    let spin = |s: &mut Sample, passed_ns: u64, _: Order| {
        s.cpu_ns += passed_ns;
        s.heartbeat += passed_ns / 1_000;
    };
    let finding = world.assert_fails(Detector::Spin, 4, spin);
    assert_eq!(finding.symptom, Symptom::TurnsInVain);
}

#[test]
fn a_loop_that_turns_in_vain_with_work_at_hand_stalls_the_ring() {
    let mut world = World::with(|s| {
        s.vcpu = VcpuState::InGuest;
        s.rx_completed = true;
    });
    let finding = world.assert_fails(Detector::RingStall, 4, |s, passed_ns, _| {
        s.cpu_ns += passed_ns;
        s.heartbeat += passed_ns / 1_000;
    });
    assert_eq!(finding.symptom, Symptom::TurnsInVain);
}

#[test]
fn waiting_for_the_switchboard_is_no_spin() {
    let mut world = World::with(|s| {
        s.vcpu = VcpuState::InGuest;
        s.cursors.rx_read = s.cursors.rx_returned.wrapping_sub(600);
    });
    world.assert_silent(100, |s, passed_ns, _| {
        s.cpu_ns += passed_ns;
        s.heartbeat += passed_ns / 1_000;
    });
}

#[test]
fn parking_again_and_again_without_a_turn_is_a_hang() {
    let mut world = World::with(|_| ());
    let finding = world.assert_fails(Detector::Hang, 5, |s, passed_ns, _| {
        s.waits += u64::from(passed_ns > 0);
    });
    assert_eq!(finding.symptom, Symptom::ParksWithoutHeartbeat);
}

#[test]
fn an_idle_domain_that_does_not_wake_is_blocked() {
    let mut world = World::idle();
    let finding = world.assert_fails(Detector::Blocked, 330, |s, _, order| {
        s.signalled |= order == Order::Wake;
    });
    assert_eq!(finding.symptom, Symptom::DoesNotWake);
}

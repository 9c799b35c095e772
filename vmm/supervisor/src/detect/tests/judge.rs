//! What concerns all detectors, and the device.

use super::super::finding::{Detector, Symptom};
use super::super::judge::{Duty, Order};
use super::super::sample::{Cursors, Mismatch, Sample};
use super::{MS, World, hang, serve, wake_in_vain};
use microvm::domain::VcpuState;

#[test]
fn a_working_domain_is_left_alone() {
    let mut world = World::idle();
    world.assert_silent(2_000, serve);
    assert_eq!((world.wakes, world.kicks, world.healed), (0, 0, 0));
}

#[test]
fn held_is_not_hung() {
    let mut world = World::with(|s| {
        s.vcpu = VcpuState::Held;
        s.cursors.tx_posted += 3;
        s.rx_completed = true;
        s.nic.rx_head += 9;
    });
    world.assert_silent(1_000, |_, _, _| ());
    assert_eq!((world.wakes, world.kicks), (0, 0));
}

#[test]
fn nothing_is_judged_by_its_work_while_the_link_is_down() {
    let mut world = World::with(|s| {
        s.nic.link_up = false;
        s.cursors.tx_posted += 9;
        s.cursors.tx_taken += 4;
        s.nic.tx_tail += 4;
        s.nic.masked = true;
        s.confirmations.awaiting = 3;
    });
    world.assert_silent(1_000, wake_in_vain);
}

#[test]
fn a_nic_that_is_gone_or_changed_is_found_at_the_second_sample() {
    let mismatch = Mismatch { register: 0x100, expected: 2, found: 0 };
    type Change = fn(&mut Sample, Mismatch);
    let cases: [(Symptom, Change); 2] = [
        (Symptom::AllOnes, |s, _| s.nic.gone = true),
        (Symptom::Register(mismatch), |s, m| s.nic.mismatch = Some(m)),
    ];
    for (symptom, change) in cases {
        let mut world = World::with(|s| change(s, mismatch));
        let finding = world.assert_fails(Detector::Device, 2, |_, _, _| ());
        assert_eq!(finding.symptom, symptom);
    }
}

#[test]
fn registers_that_are_wrong_for_one_sample_are_no_fault() {
    let mut world = World::with(|_| ());
    let mut samples = 0;
    world.assert_silent(200, |s, _, _| {
        samples += 1;
        let wrong = Mismatch { register: 0x5404, expected: 1 << 31, found: 0 };
        s.nic.mismatch = (samples % 2 == 0).then_some(wrong);
    });
}

#[test]
fn an_idle_domain_is_woken_ten_times_a_second_and_seldom_sampled() {
    let mut world = World::idle();
    let (mut samples, mut order) = (0, Order::Nothing);
    let end_ns = world.s.now_ns + 1_000 * MS;
    let mut wakes = 0;
    while world.s.now_ns < end_ns {
        wake_in_vain(&mut world.s, 0, order);
        let assessment = world.judge.assess(&world.s, Duty::Serving, &world.t);
        assert!(!matches!(assessment.order, Order::Fail(_)), "{assessment:?}");
        wakes += u32::from(assessment.order == Order::Wake);
        order = assessment.order;
        samples += 1;
        world.s.now_ns += assessment.next_ns;
    }
    assert!((7..=11).contains(&wakes), "{wakes}");
    assert!(samples < 200, "{samples}");
}

#[test]
fn a_standby_is_judged_by_its_cpu_and_its_nic_only() {
    let mut world = World::idle();
    world.duty = Duty::StandingBy;
    world.s.cursors = Cursors { rx_provided: 1024, rx_taken: 511, ..Cursors::default() };
    world.s.nic.rx_head = 0;
    world.s.nic.rx_tail = 511;
    world.assert_silent(1_000, |_, _, _| ());
    assert_eq!(world.wakes, 0, "a paused spare uses no CPU");
    world.s.vcpu = VcpuState::InGuest;
    world.assert_fails(Detector::Hang, 4, hang);
}

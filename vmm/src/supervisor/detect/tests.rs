//! Each detector fires when it should, and stays silent where something else is the matter.

use super::finding::{Detector, Finding, Symptom};
use super::judge::{Duty, Judge, Order};
use super::sample::{Confirmations, Cursors, Mismatch, NicView, Sample};
use super::thresholds::Thresholds;
use crate::domain::VcpuState;

const MS: u64 = 1_000_000;

/// A domain that changes as a test says, looked at whenever the judge asks for it.
struct World {
    s: Sample,
    judge: Judge,
    t: Thresholds,
    duty: Duty,
    wakes: u32,
    second_looks: u32,
    healed: u32,
}

impl World {
    /// Parked, nothing to do, link up; it has served for a while.
    fn idle() -> Self {
        let cursors = Cursors {
            tx_posted: 40,
            tx_taken: 40,
            tx_claimed: 40,
            tx_heard: 40,
            rx_provided: 1074,
            rx_taken: 561,
            rx_returned: 50,
            rx_heard: 50,
        };
        let nic = NicView {
            link_up: true,
            rx_head: 50,
            rx_tail: 49,
            tx_head: 41,
            tx_tail: 41,
            progress: 900,
            ..NicView::default()
        };
        let confirmations = Confirmations { claimed: 40, awaiting: 0, turns: 100 };
        let s = Sample {
            now_ns: 1_000 * MS,
            epoch: 1,
            vcpu: VcpuState::Parked,
            cpu_ns: 5 * MS,
            waits: 30,
            heartbeat: 80,
            signalled: false,
            rx_completed: false,
            cursors,
            nic,
            confirmations,
        };
        Self {
            s,
            judge: Judge::default(),
            t: Thresholds::DEFAULT,
            duty: Duty::Serving,
            wakes: 0,
            second_looks: 0,
            healed: 0,
        }
    }

    fn with(change: impl FnOnce(&mut Sample)) -> Self {
        let mut world = Self::idle();
        // The judge knows the healthy domain before the fault.
        assert_eq!(world.run(3, |_, _, _| ()), None);
        change(&mut world.s);
        world
    }

    /// Runs for so long; `live` is told how many nanoseconds have passed and what the judge had
    /// ordered before. Ends with the first verdict, and says after how many milliseconds.
    fn run(
        &mut self,
        ms: u64,
        mut live: impl FnMut(&mut Sample, u64, Order),
    ) -> Option<(Finding, u64)> {
        let began_ns = self.s.now_ns;
        let mut passed_ns = 0;
        let mut order = Order::Nothing;
        while self.s.now_ns < began_ns + ms * MS {
            self.s.now_ns += passed_ns;
            live(&mut self.s, passed_ns, order);
            let look = self.judge.look(&self.s, self.duty, &self.t);
            self.wakes += u32::from(look.order == Order::Wake);
            self.second_looks += u32::from(look.order == Order::SecondLook);
            self.healed += u32::from(look.healed_us.is_some());
            if let Order::Fail(finding) = look.order {
                return Some((finding, (self.s.now_ns - began_ns) / MS));
            }
            order = look.order;
            // Frequent looks even where the judge would sleep: the vCPU's bell does that.
            passed_ns = look.next_ns.min(MS);
        }
        None
    }

    fn assert_silent(&mut self, ms: u64, live: impl FnMut(&mut Sample, u64, Order)) {
        let verdict = self.run(ms, live);
        assert_eq!(verdict, None, "a false alarm");
    }

    fn assert_fails(
        &mut self,
        detector: Detector,
        within_ms: u64,
        live: impl FnMut(&mut Sample, u64, Order),
    ) -> Finding {
        let (finding, after_ms) = self.run(1_000, live).expect("a verdict");
        assert_eq!(finding.detector, detector, "{finding:?}");
        assert!(after_ms <= within_ms, "after {after_ms} ms: {finding}");
        finding
    }
}

/// In the guest, using all its CPU time, without a heartbeat.
fn hang(s: &mut Sample, passed_ns: u64, _: Order) {
    s.cpu_ns += passed_ns;
}

/// Serves one datagram each way a millisecond, and parks in between.
fn serve(s: &mut Sample, passed_ns: u64, _: Order) {
    if passed_ns == 0 {
        return;
    }
    s.cpu_ns += passed_ns / 5;
    s.heartbeat += 4;
    s.waits += 2;
    let c = &mut s.cursors;
    for cursor in [&mut c.tx_posted, &mut c.tx_taken, &mut c.tx_claimed, &mut c.tx_heard] {
        *cursor += 1;
    }
    for cursor in [&mut c.rx_provided, &mut c.rx_taken, &mut c.rx_returned, &mut c.rx_heard] {
        *cursor += 1;
    }
    s.nic.rx_head = (s.nic.rx_head + 1) % 512;
    s.nic.rx_tail = (s.nic.rx_tail + 1) % 512;
    s.nic.tx_head = (s.nic.tx_head + 1) % 512;
    s.nic.tx_tail = s.nic.tx_head;
    s.nic.progress += 3;
    s.confirmations.claimed += 1;
    s.confirmations.awaiting = 1;
    s.confirmations.turns += 3;
}

/// Looks at everything once and parks again, if it was woken, without doing anything.
fn wake_in_vain(s: &mut Sample, _: u64, order: Order) {
    if order == Order::Wake {
        s.waits += 1;
        s.heartbeat += 1;
        s.cpu_ns += 200_000;
    }
}

#[test]
fn a_working_domain_is_left_alone() {
    let mut world = World::idle();
    world.assert_silent(2_000, serve);
    assert_eq!((world.wakes, world.second_looks, world.healed), (0, 0, 0));
}

#[test]
fn a_hang_is_found_by_cpu_time_and_a_second_look() {
    let mut world = World::with(|s| s.vcpu = VcpuState::InGuest);
    let finding = world.assert_fails(Detector::Hang, 3, hang);
    assert_eq!(finding.symptom, Symptom::NoHeartbeat);
    assert!(finding.cpu_us >= 1_800, "{finding}");
    assert_eq!(world.second_looks, 1);
}

#[test]
fn a_long_turn_that_ends_at_the_second_look_is_no_hang() {
    let mut world = World::with(|s| s.vcpu = VcpuState::InGuest);
    world.assert_silent(500, |s, passed_ns, order| {
        s.cpu_ns += passed_ns;
        s.heartbeat += u64::from(order == Order::SecondLook);
        s.cursors.tx_claimed += u32::from(order == Order::SecondLook);
        s.cursors.tx_taken = s.cursors.tx_claimed;
        s.cursors.tx_posted = s.cursors.tx_claimed;
    });
    assert!(world.second_looks > 10);
}

#[test]
fn a_domain_that_is_not_run_does_not_hang() {
    // Runnable, but the machine runs something else: 99 ms is the longest that is borne.
    let mut world = World::with(|s| s.vcpu = VcpuState::InGuest);
    world.assert_silent(99, |_, _, _| ());
    assert_eq!(world.second_looks, 0);
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
    world.assert_fails(Detector::Hang, 102, |s, passed_ns, _| s.cpu_ns += passed_ns / 100);
}

#[test]
fn when_the_whole_machine_stood_still_nobody_hangs() {
    let mut world = World::with(|s| s.vcpu = VcpuState::InGuest);
    // Looks come 80 ms late, and an unsound CPU clock ran on all the time.
    for _ in 0..20 {
        world.s.now_ns += 80 * MS;
        world.s.cpu_ns += 80 * MS;
        let look = world.judge.look(&world.s, Duty::Serving, &world.t);
        assert!(!matches!(look.order, Order::Fail(_)), "{look:?}");
        world.s.heartbeat += 1;
        world.s.waits += 1;
    }
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
    assert_eq!((world.wakes, world.second_looks), (0, 0));
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
        s.cursors.rx_heard = s.cursors.rx_returned.wrapping_sub(600);
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
fn work_that_is_not_touched_stalls_the_ring() {
    let cases: [(Symptom, fn(&mut Sample)); 3] = [
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
        if order == Order::Wake {
            wake_in_vain(s, 0, order);
            s.rx_completed = false;
            s.cursors.rx_returned += 1;
        }
    });
    assert_eq!(finding.symptom, Symptom::LostWakeups(3));
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
    world.s.nic.progress += 1;
    world.assert_fails(Detector::RingStall, 6, wake_in_vain);
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
    // 100 frames a look, all of them younger than two looks.
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
fn a_nic_that_is_gone_or_changed_is_found_at_the_second_look() {
    let mismatch = Mismatch { register: 0x100, expected: 2, found: 0 };
    let cases: [(Symptom, fn(&mut Sample, Mismatch)); 2] = [
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
fn registers_that_are_wrong_for_one_look_are_no_fault() {
    let mut world = World::with(|_| ());
    let mut looks = 0;
    world.assert_silent(200, |s, _, _| {
        looks += 1;
        let wrong = Mismatch { register: 0x5404, expected: 1 << 31, found: 0 };
        s.nic.mismatch = (looks % 2 == 0).then_some(wrong);
    });
}

#[test]
fn an_idle_domain_is_woken_ten_times_a_second_and_seldom_looked_at() {
    let mut world = World::idle();
    let (mut looks, mut order) = (0, Order::Nothing);
    let end_ns = world.s.now_ns + 1_000 * MS;
    let mut wakes = 0;
    while world.s.now_ns < end_ns {
        wake_in_vain(&mut world.s, 0, order);
        let look = world.judge.look(&world.s, Duty::Serving, &world.t);
        assert!(!matches!(look.order, Order::Fail(_)), "{look:?}");
        wakes += u32::from(look.order == Order::Wake);
        order = look.order;
        looks += 1;
        world.s.now_ns += look.next_ns;
    }
    assert!((7..=11).contains(&wakes), "{wakes}");
    assert!(looks < 200, "{looks}");
}

#[test]
fn an_idle_domain_that_does_not_wake_is_blocked() {
    let mut world = World::idle();
    let finding = world.assert_fails(Detector::Blocked, 330, |s, _, order| {
        s.signalled |= order == Order::Wake;
    });
    assert_eq!(finding.symptom, Symptom::DoesNotWake);
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

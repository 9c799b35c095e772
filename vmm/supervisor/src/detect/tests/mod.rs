//! Each detector fires when it should, and stays silent where something else is the matter.

mod judge;
mod running;
mod silent;
mod work;

use super::finding::{Detector, Finding};
use super::judge::{Duty, Judge, Order};
use super::sample::{Confirmations, Cursors, NicView, Sample};
use crate::topology::Thresholds;
use microvm::domain::VcpuState;

const MS: u64 = 1_000_000;

/// A domain that changes as a test says, sampled whenever the judge asks for it.
struct World {
    s: Sample,
    judge: Judge,
    t: Thresholds,
    duty: Duty,
    wakes: u32,
    kicks: u32,
    healed: u32,
}

impl World {
    /// Parked, nothing to do, link up; it has served for a while.
    fn idle() -> Self {
        let cursors = Cursors {
            tx_posted: 40,
            tx_taken: 40,
            tx_claimed: 40,
            tx_read: 40,
            rx_provided: 1074,
            rx_taken: 561,
            rx_returned: 50,
            rx_read: 50,
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
            interruptions: 0,
            heartbeat: 80,
            signalled: false,
            rx_completed: false,
            switchboard_asleep: false,
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
            kicks: 0,
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
            let assessment = self.judge.assess(&self.s, self.duty, &self.t);
            self.wakes += u32::from(assessment.order == Order::Wake);
            self.kicks += u32::from(assessment.order == Order::Kick);
            self.healed += u32::from(assessment.healed_us.is_some());
            if let Order::Fail(finding) = assessment.order {
                return Some((finding, (self.s.now_ns - began_ns) / MS));
            }
            order = assessment.order;
            // Samples stay frequent even where the judge would sleep: a domain that wakes notifies
            // the supervisor.
            passed_ns = assessment.next_ns.min(MS);
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

/// In the guest, using all its CPU time, without a heartbeat; it comes out when it is kicked.
fn hang(s: &mut Sample, passed_ns: u64, order: Order) {
    s.cpu_ns += passed_ns;
    s.interruptions += u64::from(order == Order::Kick);
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
    for cursor in [&mut c.tx_posted, &mut c.tx_taken, &mut c.tx_claimed, &mut c.tx_read] {
        *cursor += 1;
    }
    for cursor in [&mut c.rx_provided, &mut c.rx_taken, &mut c.rx_returned, &mut c.rx_read] {
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

/// Checks everything once and parks again, if it was woken, without doing anything.
fn wake_in_vain(s: &mut Sample, _: u64, order: Order) {
    if order == Order::Wake {
        s.waits += 1;
        s.heartbeat += 1;
        s.cpu_ns += 200_000;
    }
}

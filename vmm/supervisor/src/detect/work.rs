//! Work that is there and stays undone, whether the domain is parked or not.
//!
//! ```text
//!   work appears ── half time ─────────────── full time ──────── wall-clock cap
//!                   asleep, unsignalled:      had its chance     failed
//!                   wake it                   since: failed      in any case
//! ```
//! A domain that had not been run, or a NIC engine that had not, has not had its chance: on a
//! loaded machine the verdict waits for it, up to the cap. If the wake helps, a wakeup had been
//! lost: that heals, and is counted.

use super::finding::{Detector, Finding, Symptom};
use super::opinion::Opinion;
use super::sample::Sample;
use super::time::{Age, Moment, Stretch, ns};
use crate::topology::Thresholds;
use microvm::domain::VcpuState;

/// Who wakes the domain for a kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waker {
    Engine,
    Switchboard,
}

/// What a watch looks at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    /// There is something to do.
    pub(super) pending: bool,
    /// What moves when it is done.
    pub(super) cursor: [u32; 2],
    /// The NIC's engine must do its part before the domain can do its own.
    pub(super) needs_engine: bool,
    pub(super) waker: Waker,
    /// Full time, nanoseconds.
    pub(super) limit_ns: u64,
    /// Whose verdict it is.
    pub(super) detector: Detector,
    /// What it will say.
    pub(super) symptom: Symptom,
}

/// Where everybody stood when the chance began.
#[derive(Clone, Copy, Debug, Default)]
struct Start {
    waits: u64,
    heartbeat: u64,
    was_parked: bool,
    progress: u64,
    turns: u64,
}

impl Start {
    fn of(s: &Sample) -> Self {
        Self {
            waits: s.waits,
            heartbeat: s.heartbeat,
            was_parked: s.vcpu == VcpuState::Parked,
            progress: s.nic.progress,
            turns: s.confirmations.turns,
        }
    }

    /// Whether the domain has looked at everything since: two beats enclose a whole turn of its
    /// loop, and so does a sleep that ended and began again.
    fn domain_had_its_chance(&self, s: &Sample) -> bool {
        let parks = if self.was_parked { 1 } else { 2 };
        s.heartbeat.wrapping_sub(self.heartbeat) >= 2 || s.waits.wrapping_sub(self.waits) >= parks
    }

    /// Turns of the NIC's engine that began since. Hardware is always at work.
    fn engine_turns(&self, s: &Sample) -> u64 {
        if s.nic.progress == 0 { u64::MAX } else { s.nic.progress.wrapping_sub(self.progress) }
    }

    /// Whether the NIC's engine has looked at everything since: two beginnings enclose a turn.
    fn engine_had_its_chance(&self, s: &Sample) -> bool {
        s.nic.tx_head == s.nic.tx_tail || self.engine_turns(s) >= 2
    }

    /// Whether who wakes the domain cannot have stood still between the work and the wakeup: it
    /// began another turn since.
    fn waker_went_on(&self, waker: Waker, s: &Sample) -> bool {
        match waker {
            Waker::Engine => self.engine_turns(s) >= 1,
            Waker::Switchboard => s.confirmations.turns != self.turns,
        }
    }
}

/// Watches one kind of work.
#[derive(Debug, Default)]
pub(super) struct Watch {
    undone: Stretch<[u32; 2]>,
    start: Start,
    woken: bool,
    /// When it was woken: its waker had not just been stopped.
    waker_went_on: bool,
    last: Age,
}

impl Watch {
    pub(super) fn look(&mut self, case: &Case, s: &Sample, now: Moment, t: &Thresholds) -> Opinion {
        let running = s.runs() || s.vcpu == VcpuState::Parked;
        if !running || !s.nic.link_up {
            self.forget();
            return Opinion::Fine;
        }
        let moved = self.undone.key().is_some_and(|cursor| cursor != case.cursor);
        if moved || !case.pending {
            // A waker that had only been stopped on its way would have woken it too.
            let healed = self.woken && self.waker_went_on;
            let lasted_ns = self.last.wall_ns;
            self.forget();
            if healed {
                return Opinion::Healed(lasted_ns);
            }
        }
        if !case.pending {
            return Opinion::Fine;
        }
        let age = self.undone.age(case.cursor, now);
        if age.wall_ns == 0 {
            self.start = Start::of(s);
        }
        self.last = age;
        self.judge(case, s, age, t)
    }

    fn judge(&mut self, case: &Case, s: &Sample, age: Age, t: &Thresholds) -> Opinion {
        let half_ns = case.limit_ns / 2;
        if age.wall_ns < half_ns {
            return Opinion::Suspect(half_ns - age.wall_ns);
        }
        if !self.woken && s.sleeps() {
            self.woken = true;
            self.waker_went_on = self.start.waker_went_on(case.waker, s);
            self.start = Start::of(s);
            return Opinion::Wake(half_ns);
        }
        if age.wall_ns < case.limit_ns {
            return Opinion::Suspect(case.limit_ns - age.wall_ns);
        }
        let had_chance = self.start.domain_had_its_chance(s)
            && (!case.needs_engine || self.start.engine_had_its_chance(s));
        if had_chance || age.wall_ns >= ns(t.wall_cap_us) {
            return Opinion::Failed(Finding::new(case.detector, case.symptom, age, s));
        }
        Opinion::Suspect(half_ns)
    }

    fn forget(&mut self) {
        self.undone.forget();
        self.woken = false;
        self.last = Age::default();
    }
}

/// Ring stall: the three kinds of work of a domain.
#[derive(Debug, Default)]
pub(super) struct RingStall {
    untaken: Watch,
    unclaimed: Watch,
    unpublished: Watch,
}

impl RingStall {
    pub(super) fn look(&mut self, s: &Sample, now: Moment, t: &Thresholds) -> [Opinion; 3] {
        let c = &s.cursors;
        let case = |pending, cursor, symptom| Case {
            pending,
            cursor: [cursor, 0],
            needs_engine: false,
            waker: Waker::Engine,
            limit_ns: ns(t.stall_us),
            detector: Detector::RingStall,
            symptom,
        };
        let untaken = Case {
            waker: Waker::Switchboard,
            ..case(s.untaken(), c.tx_taken, Symptom::TransmitUntaken)
        };
        let unclaimed = Case {
            needs_engine: true,
            ..case(s.unclaimed(), c.tx_claimed, Symptom::TransmitUnclaimed)
        };
        let unpublished = case(s.rx_completed, c.rx_returned, Symptom::ReceiveUnpublished);
        [
            self.untaken.look(&untaken, s, now, t),
            self.unclaimed.look(&unclaimed, s, now, t),
            self.unpublished.look(&unpublished, s, now, t),
        ]
    }
}

//! Pending work that stays undone, whether the domain is parked or not.
//!
//! ```text
//!   work appears ── half time ─────────────── full time ──────── wall-clock cap
//!                   asleep, unsignalled:      could have acted   failed
//!                   wake it                   since: failed      in any case
//! ```
//! A domain or a NIC engine that was not scheduled could not have acted: on a loaded machine the
//! verdict waits for that, up to the cap. If the wake helps, a wakeup had been lost; that heals,
//! and is counted.

use super::finding::{Detector, Finding, Symptom};
use super::opinion::{Opinion, StallOpinions};
use super::sample::Sample;
use super::time::{Age, Moment, Stretch, ns};
use crate::topology::Thresholds;
use microvm::domain::VcpuState;

/// What wakes the domain for a kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waker {
    Engine,
    Switchboard,
}

/// How far work has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    /// In the domain's ring.
    pub(super) ring: u32,
    /// In the NIC's ring; 0 where the NIC does not matter.
    pub(super) nic: u32,
}

/// The work that a watch observes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    /// There is something to do.
    pub(super) pending: bool,
    /// What moves when it is done.
    pub(super) cursor: Cursor,
    /// The NIC's engine must do its part before the domain can do its own.
    pub(super) needs_engine: bool,
    pub(super) waker: Waker,
    /// How long it may stay undone, nanoseconds.
    pub(super) limit_ns: u64,
    /// The detector that gives the verdict.
    pub(super) detector: Detector,
    /// The symptom in that verdict.
    pub(super) symptom: Symptom,
}

/// The state at the moment from which the domain could have acted.
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

    /// Returns true if the domain has checked everything since: two heartbeats enclose a whole turn
    /// of its loop, and so does a sleep that ended and began again.
    fn domain_could_act(&self, s: &Sample) -> bool {
        let parks = if self.was_parked { 1 } else { 2 };
        s.heartbeat.wrapping_sub(self.heartbeat) >= 2 || s.waits.wrapping_sub(self.waits) >= parks
    }

    /// Turns of the NIC's engine that began since. Hardware is always running.
    fn engine_turns(&self, s: &Sample) -> u64 {
        if s.nic.progress == 0 { u64::MAX } else { s.nic.progress.wrapping_sub(self.progress) }
    }

    /// Returns true if the NIC's engine has checked everything since: two beginnings enclose a
    /// turn.
    fn engine_could_act(&self, s: &Sample) -> bool {
        s.nic.tx_head == s.nic.tx_tail || self.engine_turns(s) >= 2
    }

    /// Returns true if the waker did not stand still between the work and the wakeup: it began
    /// another turn since.
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
    undone: Stretch<Cursor>,
    start: Start,
    woken: bool,
    /// Whether the waker was running when the domain was woken.
    waker_went_on: bool,
    last: Age,
}

impl Watch {
    pub(super) fn assess(
        &mut self,
        case: &Case,
        s: &Sample,
        now: Moment,
        t: &Thresholds,
    ) -> Opinion {
        let running = s.runs() || s.vcpu == VcpuState::Parked;
        if !running || !s.nic.link_up {
            self.forget();
            return Opinion::Fine;
        }
        let moved = self.undone.key().is_some_and(|cursor| cursor != case.cursor);
        if moved || !case.pending {
            // A waker that was only preempted on its way would have woken the domain too.
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
        let could_act = self.start.domain_could_act(s)
            && (!case.needs_engine || self.start.engine_could_act(s));
        if could_act || age.wall_ns >= ns(t.wall_cap_us) {
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
    pub(super) fn assess(&mut self, s: &Sample, now: Moment, t: &Thresholds) -> StallOpinions {
        let c = &s.cursors;
        let case = |pending, cursor, symptom| Case {
            pending,
            cursor: Cursor { ring: cursor, nic: 0 },
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
            limit_ns: ns(t.stall_us) + s.nic.speed.allowance_ns(),
            ..case(s.unclaimed(), c.tx_claimed, Symptom::TransmitUnclaimed)
        };
        let unpublished = case(s.rx_completed, c.rx_returned, Symptom::ReceiveUnpublished);
        StallOpinions {
            untaken: self.untaken.assess(&untaken, s, now, t),
            unclaimed: self.unclaimed.assess(&unclaimed, s, now, t),
            unpublished: self.unpublished.assess(&unpublished, s, now, t),
        }
    }
}

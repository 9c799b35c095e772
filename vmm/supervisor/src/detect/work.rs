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

/// A domain at the moment from which it had all that it needed to do its work.
#[derive(Clone, Copy, Debug)]
struct Ready {
    waits: u64,
    heartbeat: u64,
    was_parked: bool,
}

impl Ready {
    fn at(s: &Sample) -> Self {
        Self { waits: s.waits, heartbeat: s.heartbeat, was_parked: s.vcpu == VcpuState::Parked }
    }

    /// Returns true if the domain has checked everything since: two heartbeats enclose a whole turn
    /// of its loop, and so does a sleep that ended and began again.
    fn domain_could_act(&self, s: &Sample) -> bool {
        let parks = if self.was_parked { 1 } else { 2 };
        s.heartbeat.wrapping_sub(self.heartbeat) >= 2 || s.waits.wrapping_sub(self.waits) >= parks
    }
}

/// What the domain's wakers have done since the work appeared.
#[derive(Clone, Copy, Debug)]
struct Wakers {
    /// Signs of life of the NIC's engine when frames for it to send appeared.
    engine: u64,
    /// The last sample showed none.
    engine_was_idle: bool,
    /// Turns of the switchboard when the work appeared.
    switchboard: u64,
}

impl Wakers {
    fn at(s: &Sample) -> Self {
        Self { engine: s.nic.progress, engine_was_idle: true, switchboard: s.confirmations.turns }
    }

    /// Follows the frames that the engine is to send. Returns true if it has checked all of them:
    /// two beginnings enclose a turn.
    fn engine_could_act(&mut self, s: &Sample) -> bool {
        let is_idle = s.nic.tx_head == s.nic.tx_tail;
        if self.engine_was_idle && !is_idle {
            self.engine = s.nic.progress;
        }
        self.engine_was_idle = is_idle;
        is_idle || self.engine_turns(s) >= 2
    }

    /// Turns that the engine has begun since. Hardware is always running.
    fn engine_turns(&self, s: &Sample) -> u64 {
        if s.nic.progress == 0 { u64::MAX } else { s.nic.progress.wrapping_sub(self.engine) }
    }

    /// Returns true if the waker did not stand still between the work and the wakeup. A turn that
    /// it began since is enough, unless the work comes from such a turn.
    fn went_on(&self, case: &Case, s: &Sample) -> bool {
        match case.waker {
            Waker::Engine => self.engine_turns(s) >= if case.needs_engine { 2 } else { 1 },
            Waker::Switchboard => s.confirmations.turns != self.switchboard,
        }
    }
}

/// A watch on work that is undone.
#[derive(Clone, Copy, Debug)]
struct Undone {
    wakers: Wakers,
    /// Since when the domain has had all that it needs; `None` while it waits for the engine.
    ready: Option<Ready>,
    /// The domain was woken since then; whether its waker had gone on.
    woken: Option<bool>,
    age: Age,
}

impl Undone {
    fn at(s: &Sample) -> Self {
        Self { wakers: Wakers::at(s), ready: None, woken: None, age: Age::default() }
    }

    /// A domain that had its turns before the engine had its own could not have acted.
    fn follow(&mut self, case: &Case, s: &Sample) {
        if case.needs_engine && !self.wakers.engine_could_act(s) {
            (self.ready, self.woken) = (None, None);
        } else if self.ready.is_none() {
            self.ready = Some(Ready::at(s));
        }
    }
}

/// Watches one kind of work.
#[derive(Debug, Default)]
pub(super) struct Watch {
    stretch: Stretch<Cursor>,
    undone: Option<Undone>,
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
        let moved = self.stretch.key().is_some_and(|cursor| cursor != case.cursor);
        if moved || !case.pending {
            let was = self.undone;
            self.forget();
            // A waker that was only preempted on its way would have woken the domain too.
            if let Some(Undone { woken: Some(true), age, .. }) = was {
                return Opinion::Healed(age.wall_ns);
            }
        }
        if !case.pending {
            return Opinion::Fine;
        }
        let undone = self.undone.get_or_insert_with(|| Undone::at(s));
        undone.age = self.stretch.age(case.cursor, now);
        undone.follow(case, s);
        Self::judge(undone, case, s, t)
    }

    fn judge(undone: &mut Undone, case: &Case, s: &Sample, t: &Thresholds) -> Opinion {
        let (age, half_ns) = (undone.age, case.limit_ns / 2);
        if age.wall_ns < half_ns {
            return Opinion::Suspect(half_ns - age.wall_ns);
        }
        if undone.ready.is_some() && undone.woken.is_none() && s.sleeps() {
            undone.woken = Some(undone.wakers.went_on(case, s));
            undone.ready = Some(Ready::at(s));
            return Opinion::Wake(half_ns);
        }
        if age.wall_ns < case.limit_ns {
            return Opinion::Suspect(case.limit_ns - age.wall_ns);
        }
        let could_act = undone.ready.is_some_and(|ready| ready.domain_could_act(s));
        if could_act || age.wall_ns >= ns(t.wall_cap_us) {
            return Opinion::Failed(Finding::new(case.detector, case.symptom, age, s));
        }
        Opinion::Suspect(half_ns)
    }

    fn forget(&mut self) {
        self.stretch.forget();
        self.undone = None;
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

//! When the supervisor looks at the domains, and what it orders then.
//!
//! ```text
//!            something moves, or may be wrong              nothing moves for a while
//!   timer:   every millisecond, sooner where a       ─▶    every 100 ms; a domain that wakes rings
//!            detector has a due time                 ◀─    the supervisor (event_sink)
//! ```

use std::sync::Arc;
use std::time::Duration;

use vmm_sys_util::timerfd::TimerFd;

use super::detect::{Detector, Duty, Finding, Judge, Look, Order, Sampler, Symptom};
use super::event_sink::EventSink;
use super::failover::Failover;
use super::roles::RoleState;
use crate::topology::MAX_DOMAINS;
use crate::topology::Thresholds;
use microvm::domain::{DomainSlot, Life};
use platform::budget::READY_DEADLINE;
use platform::clock::monotonic_ns;

/// The judge of one life, and when it looked last.
struct Seen {
    epoch: u32,
    duty: Duty,
    judge: Judge,
    looked_ns: u64,
    /// Whether its driver has its NIC.
    attached: bool,
    since_ns: u64,
}

/// What a look at one domain came to.
#[derive(Default)]
pub(super) struct Outcome {
    /// The life was looked at for the first time.
    pub(super) is_new: bool,
    /// A wakeup had been lost; what it delayed waited so long, microseconds.
    pub(super) healed_us: Option<u64>,
    /// It has failed.
    pub(super) failed: Option<(Arc<Life>, Finding)>,
}

/// Outcomes by the domain's place. Without allocations: they lead to failovers.
pub(super) type Outcomes = [Outcome; MAX_DOMAINS];

/// Sampling at all domains when it is time.
pub(super) struct Sampling {
    sampler: Sampler,
    thresholds: Thresholds,
    failover: Arc<Failover>,
    event_sink: Arc<EventSink>,
    seen: [Option<Seen>; MAX_DOMAINS],
    timer: TimerFd,
}

impl Sampling {
    pub(super) fn new(
        sampler: Sampler,
        thresholds: Thresholds,
        failover: Arc<Failover>,
        event_sink: Arc<EventSink>,
    ) -> std::io::Result<Self> {
        let timer = TimerFd::new().map_err(std::io::Error::from)?;
        let seen = Default::default();
        let mut sampling = Self { sampler, thresholds, failover, event_sink, seen, timer };
        sampling.sleep(true, sampling.rare_ns());
        Ok(sampling)
    }

    /// Readable when it is time to look. Looking sets it anew, so it is never read.
    pub(super) fn timer(&self) -> &TimerFd {
        &self.timer
    }

    fn rare_ns(&self) -> u64 {
        u64::from(self.thresholds.idle_look_us) * 1_000
    }

    /// Sampling at everyone whose turn it is, and sets the timer for the next time.
    pub(super) fn look(&mut self, slots: &[Arc<DomainSlot>]) -> Outcomes {
        let mut outcomes = Outcomes::default();
        let (mut idle, mut next_ns) = (true, self.rare_ns());
        for (slot, outcome) in slots.iter().zip(&mut outcomes) {
            let Some(look) = self.look_at(slot, outcome) else { continue };
            idle &= look.idle;
            next_ns = next_ns.min(look.next_ns);
        }
        self.sleep(idle, next_ns);
        outcomes
    }

    /// A life whose NIC the bus reports broken has failed, whatever else is known of it.
    pub(super) fn bus_error(&mut self, slot: &DomainSlot) -> Option<(Arc<Life>, Finding)> {
        let (state, life) = self.failover.state_and_life(slot.id)?;
        duty(state)?;
        let sample = self.sampler.sample(slot, &life);
        Some((life, Finding::reported(Detector::Device, Symptom::BusError, &sample)))
    }

    fn look_at(&mut self, slot: &DomainSlot, outcome: &mut Outcome) -> Option<Look> {
        let place = &mut self.seen[slot.id.index()];
        let seated = self.failover.state_and_life(slot.id);
        let Some((duty, life)) = seated.and_then(|(state, life)| Some((duty(state)?, life))) else {
            *place = None;
            return None;
        };
        let attached = life.is_attached();
        let same = |seen: &Seen| {
            seen.epoch == life.epoch() && seen.duty == duty && seen.attached == attached
        };
        outcome.is_new = !place.as_ref().is_some_and(same);
        if outcome.is_new {
            let (epoch, judge) = (life.epoch(), Judge::default());
            let since_ns = monotonic_ns();
            *place = Some(Seen { epoch, duty, judge, looked_ns: 0, attached, since_ns });
        }
        let seen = place.as_mut()?;
        let standby = duty == Duty::StandingBy;
        let now_ns = monotonic_ns();
        if !standby && !attached {
            // Its bring-up has bounded polls of its own; no other measure holds before it serves.
            let lasted_ns = now_ns - seen.since_ns;
            if lasted_ns > READY_DEADLINE.as_nanos() as u64 {
                let sample = self.sampler.sample_standby(slot, &life);
                outcome.failed = Some((life, Finding::unattached(lasted_ns, &sample)));
                *place = None;
            }
            let next_ns = u64::from(self.thresholds.look_us) * 1_000;
            return Some(Look { order: Order::Nothing, healed_us: None, idle: false, next_ns });
        }
        // A paused spare needs no more than a glance now and then.
        let rare_ns = u64::from(self.thresholds.idle_look_us) * 1_000;
        if standby && now_ns < seen.looked_ns + rare_ns {
            return None;
        }
        seen.looked_ns = now_ns;
        let sample = match duty {
            Duty::Serving => self.sampler.sample(slot, &life),
            Duty::StandingBy => self.sampler.sample_standby(slot, &life),
        };
        let look = seen.judge.look(&sample, duty, &self.thresholds);
        outcome.healed_us = look.healed_us;
        match look.order {
            Order::Nothing => {}
            Order::Wake => life.check(),
            // Fails only where the counter is full: then it is rung already.
            Order::Ring => drop(slot.notify.write(1)),
            Order::Kick => life.nudge(),
            Order::Fail(finding) => outcome.failed = Some((life, finding)),
        }
        if outcome.failed.is_some() {
            *place = None;
        }
        (!standby).then_some(look)
    }

    /// Sets the timer. Where everything is idle, waking domains ring from here on; one that woke
    /// just before has not rung, so the next look still comes soon.
    fn sleep(&mut self, idle: bool, next_ns: u64) {
        let was_asleep = self.event_sink.set_asleep(idle);
        let soon_ns = u64::from(self.thresholds.look_us) * 1_000;
        let in_ns = if idle && !was_asleep { soon_ns } else { next_ns };
        if let Err(error) = self.timer.reset(Duration::from_nanos(in_ns.max(1)), None) {
            tracing::error!(?error, "the supervisor cannot set its timer");
        }
    }
}

/// What a domain in this state is judged for, if it is.
fn duty(state: RoleState) -> Option<Duty> {
    match state {
        RoleState::Active => Some(Duty::Serving),
        RoleState::Standby => Some(Duty::StandingBy),
        RoleState::Failed | RoleState::Restarting | RoleState::Quarantined => None,
    }
}

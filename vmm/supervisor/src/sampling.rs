//! When the supervisor samples the domains, and what it orders then.
//!
//! ```text
//!            something moves, or may be wrong              nothing moves for a while
//!   timer:   every millisecond, sooner where a       ─▶    every 100 ms; a domain that wakes
//!            detector has a due time                 ◀─    notifies the supervisor (event sink)
//! ```

use std::sync::Arc;
use std::time::Duration;

use vmm_sys_util::timerfd::TimerFd;

use super::domain::{Domain, LifeHandle};
use super::event_sink::EventSink;
use super::failover::Failover;
use super::roles::RoleState;
use crate::detect::{Assessment, Detector, Duty, Finding, Judge, Order, Sampler, Symptom};
use crate::topology::{MAX_DOMAINS, Thresholds};
use platform::budget::READY_DEADLINE;
use platform::clock::monotonic_ns;

/// A life that is being sampled.
struct Observed {
    epoch: u32,
    duty: Duty,
    /// Whether its driver has its NIC.
    attached: bool,
    judge: Judge,
    /// When it was sampled last.
    sampled_ns: u64,
    /// Since when it has been sampled in this duty.
    since_ns: u64,
}

/// The outcome of sampling one domain.
#[derive(Default)]
pub(super) struct Outcome {
    /// The life was sampled for the first time.
    pub(super) is_new: bool,
    /// The link of its NIC, as the sample saw it; `None` if nothing was sampled or the NIC is gone.
    pub(super) link_up: Option<bool>,
    /// A wakeup had been lost; what it delayed waited so long, microseconds.
    pub(super) healed_us: Option<u64>,
    /// The life has failed.
    pub(super) failed: Option<(LifeHandle, Finding)>,
}

/// The outcome for each domain, in their order. Not allocated: it leads to failovers.
pub(super) type Outcomes = [Outcome; MAX_DOMAINS];

/// When a domain needs the next sample.
struct Next {
    /// Nothing happens in the domain: the next sample may be a rare one.
    idle: bool,
    /// In how many nanoseconds.
    in_ns: u64,
}

/// Samples all domains when it is time.
pub(super) struct Sampling {
    sampler: Sampler,
    thresholds: Thresholds,
    failover: Arc<Failover>,
    event_sink: Arc<EventSink>,
    observed: [Option<Observed>; MAX_DOMAINS],
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
        let observed = Default::default();
        let mut sampling = Self { sampler, thresholds, failover, event_sink, observed, timer };
        sampling.sleep(&Next { idle: true, in_ns: sampling.rare_ns() });
        Ok(sampling)
    }

    /// Readable when it is time to sample. Sampling sets the timer anew, so it is never read.
    pub(super) fn timer(&self) -> &TimerFd {
        &self.timer
    }

    fn frequent_ns(&self) -> u64 {
        u64::from(self.thresholds.look_us) * 1_000
    }

    fn rare_ns(&self) -> u64 {
        u64::from(self.thresholds.idle_look_us) * 1_000
    }

    /// Samples each domain whose time has come, and sets the timer for the next time.
    pub(super) fn sample(&mut self) -> Outcomes {
        let mut outcomes = Outcomes::default();
        let mut next = Next { idle: true, in_ns: self.rare_ns() };
        let failover = self.failover.clone();
        self.note_hearing();
        for (domain, outcome) in failover.domains.iter().zip(&mut outcomes) {
            let Some(of_domain) = self.sample_domain(domain, outcome) else { continue };
            next.idle &= of_domain.idle;
            next.in_ns = next.in_ns.min(of_domain.in_ns);
        }
        self.sleep(&next);
        outcomes
    }

    /// Notes whether the domain that serves hears anything, for drills.
    fn note_hearing(&self) {
        let Some(active) = self.failover.active() else { return };
        let counters = self.failover.switchboard.counters();
        let received = counters.received() + counters.rx_probes.get();
        let life = (active, self.failover.state(active).1);
        self.failover.hearing.note(life, received, monotonic_ns());
    }

    /// A life whose NIC the bus reports broken or gone has failed, whatever else is known of it.
    pub(super) fn lost_nic(
        &mut self,
        domain: &Domain,
        symptom: Symptom,
    ) -> Option<(LifeHandle, Finding)> {
        let (role, life) = self.failover.role_and_life(domain.id())?;
        if role.is_down() {
            return None;
        }
        // The NIC is not read: it may not answer, and the verdict would wait for it.
        let sample = domain.sample_blindly(&self.sampler, &life);
        Some((life, Finding::reported(Detector::Device, symptom, &sample)))
    }

    /// Samples one domain. Returns when to sample it next, unless it needs no frequent samples.
    fn sample_domain(&mut self, domain: &Domain, outcome: &mut Outcome) -> Option<Next> {
        let index = domain.id().index();
        let entry = self.failover.role_and_life(domain.id());
        let Some((duty, life)) = entry.and_then(|(role, life)| Some((duty(role)?, life))) else {
            self.observed[index] = None;
            return None;
        };
        let attached = life.is_attached();
        outcome.is_new = self.observe(index, duty, life.epoch(), attached);
        let now_ns = monotonic_ns();
        let next = match (duty, attached) {
            (Duty::Serving, false) => self.await_attachment(domain, life, now_ns, outcome),
            (Duty::Serving, true) => self.judge(domain, life, duty, now_ns, outcome),
            (Duty::StandingBy, _) => {
                self.judge_standby(domain, life, now_ns, outcome);
                None
            }
        };
        if outcome.failed.is_some() {
            self.observed[index] = None;
        }
        next
    }

    /// Begins to observe a life, if it is not the one that is observed, or has another duty, or has
    /// attached its NIC since. Returns true if so.
    fn observe(&mut self, index: usize, duty: Duty, epoch: u32, attached: bool) -> bool {
        let known = self.observed[index].as_ref();
        if known.is_some_and(|o| (o.epoch, o.duty, o.attached) == (epoch, duty, attached)) {
            return false;
        }
        let (judge, since_ns) = (Judge::default(), monotonic_ns());
        self.observed[index] =
            Some(Observed { epoch, duty, attached, judge, sampled_ns: 0, since_ns });
        true
    }

    /// A domain that is to serve and has not attached its NIC fails when its time is over. Its
    /// bring-up has bounded polls of its own, and no other measure applies before it serves.
    fn await_attachment(
        &mut self,
        domain: &Domain,
        life: LifeHandle,
        now_ns: u64,
        outcome: &mut Outcome,
    ) -> Option<Next> {
        let lasted_ns = now_ns - self.observed[domain.id().index()].as_ref()?.since_ns;
        if lasted_ns > READY_DEADLINE.as_nanos() as u64 {
            let sample = domain.sample_standby(&self.sampler, &life);
            outcome.failed = Some((life, Finding::unattached(lasted_ns, &sample)));
        }
        Some(Next { idle: false, in_ns: self.frequent_ns() })
    }

    /// A paused spare needs no more than a rare sample.
    fn judge_standby(
        &mut self,
        domain: &Domain,
        life: LifeHandle,
        now_ns: u64,
        outcome: &mut Outcome,
    ) {
        let sampled_ns = self.observed[domain.id().index()].as_ref().map(|o| o.sampled_ns);
        if sampled_ns.is_none_or(|sampled_ns| now_ns >= sampled_ns + self.rare_ns()) {
            self.judge(domain, life, Duty::StandingBy, now_ns, outcome);
        }
    }

    fn judge(
        &mut self,
        domain: &Domain,
        life: LifeHandle,
        duty: Duty,
        now_ns: u64,
        outcome: &mut Outcome,
    ) -> Option<Next> {
        let observed = self.observed[domain.id().index()].as_mut()?;
        observed.sampled_ns = now_ns;
        let sample = match duty {
            Duty::Serving => domain.sample(&self.sampler, &life),
            Duty::StandingBy => domain.sample_standby(&self.sampler, &life),
        };
        let Assessment { order, healed_us, idle, next_ns } =
            observed.judge.assess(&sample, duty, &self.thresholds);
        outcome.healed_us = healed_us;
        outcome.link_up = (!sample.nic.gone).then_some(sample.nic.link_up);
        match order {
            Order::Nothing => {}
            Order::Wake => life.check(),
            Order::NotifySwitchboard => domain.notify_switchboard(),
            Order::Kick => life.kick(),
            Order::Fail(finding) => outcome.failed = Some((life, finding)),
        }
        Some(Next { idle, in_ns: next_ns })
    }

    /// Sets the timer. If every domain is idle, those that wake notify the supervisor from here on;
    /// one that woke just before has not done so, and therefore the next sample still comes soon.
    fn sleep(&mut self, next: &Next) {
        let was_asleep = self.event_sink.set_asleep(next.idle);
        let in_ns = if next.idle && !was_asleep { self.frequent_ns() } else { next.in_ns };
        if let Err(error) = self.timer.reset(Duration::from_nanos(in_ns.max(1)), None) {
            tracing::error!(?error, "the supervisor cannot set its timer");
        }
    }
}

/// The duty by which a domain with this role is judged, if it is.
fn duty(role: RoleState) -> Option<Duty> {
    match role {
        RoleState::Active => Some(Duty::Serving),
        RoleState::Standby => Some(Duty::StandingBy),
        RoleState::Failed | RoleState::Restarting | RoleState::Quarantined => None,
    }
}

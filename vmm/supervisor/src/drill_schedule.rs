//! When standbys are drilled, and the thread that does it.
//!
//! ```text
//!   built anew, link up again ─▶ owed: at once
//!   passed                    ─▶ by the clock
//!   failed                    ─▶ again after a second, then two, four, ... until one passes
//!   not possible now          ─▶ again soon
//! ```
//! A drill that is owed waits for nobody and delays nobody: a takeover finds the drilled domain
//! awake, and the drill is abandoned.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::drill::{DrillError, DrillNeed};
use super::failover::Notice;
use super::operator::Operator;
use super::reports::DrillReport;
use platform::realtime::guarded;

/// Until a drill that was not possible is tried again: the other operation, the pause or the
/// failover that was in its way lasts about as long or much longer.
const RETRY: Duration = Duration::from_millis(250);
/// From a drill that failed to the next one; it doubles with each in a row.
const AGAIN_FIRST: Duration = Duration::from_secs(1);
/// Longest such pause, unless the clock's is shorter.
const AGAIN_LONGEST: Duration = Duration::from_secs(60);
/// How long the thread sleeps at most: not every change that makes a drill possible is told.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// When one domain is drilled next. Pure.
#[derive(Clone, Copy, Debug)]
struct Plan {
    /// By the clock, or again after a failure.
    clock: Instant,
    /// No drill before this.
    not_before: Instant,
    /// Drills that failed in a row.
    failures: u32,
}

impl Plan {
    fn new(now: Instant, every: Duration) -> Self {
        Self { clock: now + every, not_before: now, failures: 0 }
    }

    /// When the drill that is needed is due.
    fn due(&self, need: DrillNeed) -> Option<Instant> {
        match need {
            DrillNeed::Nothing => None,
            DrillNeed::Owed => Some(self.not_before),
            DrillNeed::ByClock => Some(self.clock.max(self.not_before)),
        }
    }

    /// A drill has ended, or none was possible.
    fn drilled(&mut self, passed: Option<bool>, now: Instant, every: Duration) {
        match passed {
            Some(true) => *self = Self::new(now, every),
            Some(false) => {
                let again = AGAIN_FIRST.saturating_mul(1 << self.failures.min(16));
                self.failures += 1;
                self.clock = now + again.min(AGAIN_LONGEST).min(every);
            }
            None => self.not_before = now + RETRY,
        }
    }
}

/// Drills standbys when it is time.
pub(super) struct DrillSchedule {
    operator: Operator,
    /// Between two drills of a standby that passes them.
    every: Duration,
    plans: Vec<Plan>,
}

impl DrillSchedule {
    /// Drills each standby after each pause `every`. With `None` only those are drilled that have
    /// failed a drill.
    pub(super) fn new(operator: Operator, every: Option<Duration>) -> Self {
        let every = every.unwrap_or(AGAIN_LONGEST);
        let plan = Plan::new(Instant::now(), every);
        let plans = vec![plan; operator.failover().domains.len()];
        Self { operator, every, plans }
    }

    /// Body of the thread: looks at each notice and when something is due, until told to stop.
    pub(super) fn run(mut self, notices: &Receiver<Notice>) {
        let mut pause = Duration::ZERO;
        loop {
            match notices.recv_timeout(pause) {
                Ok(Notice::Changed) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Notice::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            }
            // Each drill begins anew, so a panic in one does not concern the next.
            pause = guarded("drill", || self.drill_due()).unwrap_or(RETRY);
        }
    }

    /// Holds the drills that are due. Returns for how long nothing is.
    fn drill_due(&mut self) -> Duration {
        let operator = self.operator.clone();
        let mut pause = LONGEST_SLEEP;
        for (domain, plan) in operator.failover().domains.iter().zip(&mut self.plans) {
            let Some(due) = plan.due(operator.failover().drill_need(domain.id())) else { continue };
            let left = due.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                pause = pause.min(left);
                continue;
            }
            let outcome = operator.drill(Some(domain.id()));
            if let Err(error) = &outcome {
                tracing::debug!(domain = domain.name(), %error, "no drill");
            }
            plan.drilled(passed(&outcome), Instant::now(), self.every);
            pause = Duration::ZERO;
        }
        pause
    }
}

/// Whether a drill passed, if there was one.
fn passed(outcome: &Result<DrillReport, DrillError>) -> Option<bool> {
    outcome.as_ref().ok().map(DrillReport::passed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(10);

    #[test]
    fn one_drill_is_owed_at_once_and_the_others_come_by_the_clock() {
        let now = Instant::now();
        let mut plan = Plan::new(now, EVERY);
        assert_eq!(plan.due(DrillNeed::Owed), Some(now));
        assert_eq!(plan.due(DrillNeed::Nothing), None);
        plan.drilled(Some(true), now, EVERY);
        assert_eq!(plan.due(DrillNeed::ByClock), Some(now + EVERY));
    }

    #[test]
    fn drills_that_fail_are_repeated_more_rarely_each_time_until_one_passes() {
        let now = Instant::now();
        let mut plan = Plan::new(now, EVERY);
        for seconds in [1, 2, 4, 8, 10, 10] {
            plan.drilled(Some(false), now, EVERY);
            assert_eq!(plan.due(DrillNeed::ByClock), Some(now + Duration::from_secs(seconds)));
            assert_eq!(plan.due(DrillNeed::Owed), Some(now), "a new life is drilled at once");
        }
        plan.drilled(Some(true), now, EVERY);
        plan.drilled(Some(false), now, EVERY);
        assert_eq!(plan.due(DrillNeed::ByClock), Some(now + AGAIN_FIRST));
    }

    #[test]
    fn a_drill_that_was_not_possible_is_tried_again_soon() {
        let now = Instant::now();
        let mut plan = Plan::new(now, EVERY);
        plan.drilled(None, now, EVERY);
        assert_eq!(plan.due(DrillNeed::Owed), Some(now + RETRY));
    }
}

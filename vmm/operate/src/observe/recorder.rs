//! Keeps the books of what happened: histograms, the newest failures, redundancy; and publishes
//! each event. Fed by whoever takes the supervisor's events, asked by the control thread.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::bus::{EventBus, Published, Subscription};
use super::event::{EventLine, FailoverOutcome, FailoverView, Occurrence, Phases};
use super::heard::{FailoverFacts, Heard};
use super::histogram::{EDGES_US, Histogram};
use super::redundancy::{Redundancy, redundant};
use super::snapshot::{DomainView, FailoverCount, InterruptionView};
use super::view::SystemView;
use super::wall;
use platform::clock::monotonic_ns;
use supervisor::RoleState;

/// Failures that are kept in full.
pub const KEPT_FAILOVERS: usize = 1000;

/// Events that are kept for those who ask later.
pub const KEPT_EVENTS: usize = 1000;

/// Counts of what is no failure.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Planned switches.
    pub switches: u64,
    /// Upgrades that took place.
    pub upgrades: u64,
    /// Upgrades that were refused or rolled back.
    pub upgrades_failed: u64,
    /// Lost wakeups that were noticed and made good, by domain.
    pub healed: BTreeMap<String, u64>,
    /// Drills by domain.
    pub drills: BTreeMap<String, Drills>,
}

/// Drills of one domain.
#[derive(Clone, Copy, Debug, Default)]
pub struct Drills {
    /// Those that it passed.
    pub passed: u64,
    /// Those that it did not.
    pub failed: u64,
    /// When the last one ended, `CLOCK_MONOTONIC` nanoseconds.
    pub last_ns: u64,
}

#[derive(Debug)]
struct Books {
    seq: u64,
    lines: VecDeque<Arc<Published>>,
    redundancy: Redundancy,
    failures: u64,
    newest: VecDeque<(u64, FailoverView)>,
    tally: Tally,
    counts: BTreeMap<(&'static str, FailoverOutcome), u64>,
    interruptions: BTreeMap<&'static str, Histogram>,
    all_interruptions: Histogram,
    phases: BTreeMap<(&'static str, &'static str), Histogram>,
}

/// The books and the bus.
pub struct Recorder {
    view: Arc<dyn SystemView>,
    began_ns: u64,
    books: Mutex<Books>,
    bus: EventBus,
}

impl Recorder {
    /// Empty books of this system, which is not redundant as far as they know.
    pub fn new(view: Arc<dyn SystemView>) -> Self {
        let began_ns = monotonic_ns();
        let books = Books {
            seq: 0,
            lines: VecDeque::new(),
            redundancy: Redundancy::none(began_ns),
            failures: 0,
            newest: VecDeque::new(),
            tally: Tally::default(),
            counts: BTreeMap::new(),
            interruptions: BTreeMap::new(),
            all_interruptions: Histogram::default(),
            phases: BTreeMap::new(),
        };
        Self { view, began_ns, books: Mutex::new(books), bus: EventBus::default() }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters something into the books and tells all subscribers.
    pub fn hear(&self, heard: Heard) {
        let mut books = self.books();
        let failed = heard.failed().map(|(name, verdict_ns)| (name.to_owned(), verdict_ns));
        let (at_ns, occurrence) = books.enter(heard);
        self.publish(&mut books, at_ns, occurrence);
        let domains = self.view.domains();
        if let Some((name, verdict_ns)) = failed
            && !redundant(domains.iter().filter(|domain| domain.name != name))
        {
            let lost = books.redundancy.lost_at(verdict_ns);
            self.publish_change(&mut books, lost);
        }
        let change = books.redundancy.see(redundant(domains.iter()), at_ns);
        self.publish_change(&mut books, change);
    }

    /// The domains as they are now, and whether they make the service redundant. Whoever wants to
    /// know asks here: a change is published before anybody hears of it.
    pub fn look(&self) -> (Vec<DomainView>, bool) {
        let mut books = self.books();
        // Under the lock, so that nobody enters what is older than the newest look.
        let domains = self.view.domains();
        let now = redundant(domains.iter());
        let change = books.redundancy.see(now, monotonic_ns());
        self.publish_change(&mut books, change);
        (domains, now)
    }

    fn publish_change(&self, books: &mut Books, change: Option<(u64, Occurrence)>) {
        if let Some((at_ns, change)) = change {
            self.publish(books, at_ns, change);
        }
    }

    /// Under the lock, so that subscribers see the numbers in order.
    fn publish(&self, books: &mut Books, at_ns: u64, occurrence: Occurrence) {
        books.seq += 1;
        let kind = occurrence.kind().name();
        let seq = books.seq;
        let line = EventLine { seq, time: wall::at(at_ns), monotonic_ns: at_ns, occurrence };
        match serde_json::to_string(&line) {
            Ok(json) => {
                let event = Arc::new(Published { seq, kind, json });
                if books.lines.len() == KEPT_EVENTS {
                    books.lines.pop_front();
                }
                books.lines.push_back(event.clone());
                self.bus.publish(event);
            }
            Err(error) => tracing::error!(%error, kind, "an event cannot be written as JSON"),
        }
    }

    /// Hears all events from now on.
    pub fn subscribe(&self) -> Subscription {
        self.bus.subscribe()
    }

    /// The kept events with higher numbers than `seq`, and all that come after them.
    pub fn subscribe_after(&self, seq: u64) -> (Vec<Arc<Published>>, Subscription) {
        let books = self.books();
        let kept = books.lines.iter().filter(|event| event.seq > seq).cloned().collect();
        (kept, self.bus.subscribe())
    }

    /// When it was made, `CLOCK_MONOTONIC` nanoseconds.
    pub fn began_ns(&self) -> u64 {
        self.began_ns
    }

    /// The newest failures, newest first, at most `most` of the [`KEPT_FAILOVERS`].
    pub fn failovers(&self, most: usize) -> Vec<FailoverView> {
        self.books().newest.iter().rev().take(most).map(|(_, view)| view.clone()).collect()
    }

    /// What else was counted.
    pub fn tally(&self) -> Tally {
        self.books().tally.clone()
    }

    /// Failures by cause and outcome.
    pub fn counts(&self) -> Vec<FailoverCount> {
        let count = |(&(cause, outcome), &count): (&(&str, FailoverOutcome), &u64)| FailoverCount {
            cause: cause.to_owned(),
            outcome: outcome.name().to_owned(),
            count,
        };
        self.books().counts.iter().map(count).collect()
    }

    /// Interruptions, all and by cause.
    pub fn interruption(&self) -> InterruptionView {
        let books = self.books();
        let view =
            |(cause, histogram): (&&str, &Histogram)| ((*cause).to_owned(), histogram.view());
        InterruptionView {
            edges_us: EDGES_US.to_vec(),
            all: books.all_interruptions.view(),
            by_cause: books.interruptions.iter().map(view).collect(),
        }
    }

    /// Interruptions by cause, for metrics.
    pub fn interruption_histograms(&self) -> Vec<(&'static str, Histogram)> {
        self.books().interruptions.iter().map(|(cause, h)| (*cause, h.clone())).collect()
    }

    /// Durations of phases by phase and cause, for metrics.
    pub fn phase_histograms(&self) -> Vec<(&'static str, &'static str, Histogram)> {
        let books = self.books();
        books.phases.iter().map(|(&(phase, cause), h)| (phase, cause, h.clone())).collect()
    }
}

impl Books {
    fn enter(&mut self, heard: Heard) -> (u64, Occurrence) {
        match heard {
            Heard::Link { nic, up } => (monotonic_ns(), Occurrence::Link { nic, up }),
            Heard::Failover(facts) => {
                let at_ns = facts.verdict_ns;
                (at_ns, Occurrence::Failover(Box::new(self.enter_failover(facts))))
            }
            Heard::Ready { domain, role, at_ns } => {
                self.close_failure(&domain, role, at_ns);
                (at_ns, Occurrence::Ready { domain, role })
            }
            Heard::BuildFailed { domain, reason } => {
                (monotonic_ns(), Occurrence::BuildFailed { domain, reason })
            }
            Heard::Quarantined { domain, pause } => {
                let pause_seconds = pause.as_secs_f64();
                (monotonic_ns(), Occurrence::Quarantine { domain, pause_seconds })
            }
            Heard::Switched { from, to, waited_ns, at_ns } => {
                self.tally.switches += 1;
                (at_ns, Occurrence::Switched { from, to, waited_us: waited_ns as f64 / 1000.0 })
            }
            Heard::Drilled { domain, blame, round_trip_ns, at_ns } => {
                let passed = blame.is_none();
                let drills = self.tally.drills.entry(domain.clone()).or_default();
                *(if passed { &mut drills.passed } else { &mut drills.failed }) += 1;
                drills.last_ns = at_ns;
                let round_trip_us = round_trip_ns as f64 / 1000.0;
                (at_ns, Occurrence::Drilled { domain, passed, blame, round_trip_us })
            }
            Heard::Upgrade(Ok((serves, took))) => {
                self.tally.upgrades += 1;
                let took_seconds = took.as_secs_f64();
                (monotonic_ns(), Occurrence::Upgraded { serves, took_seconds })
            }
            Heard::Upgrade(Err(reason)) => {
                self.tally.upgrades_failed += 1;
                (monotonic_ns(), Occurrence::UpgradeFailed { reason })
            }
            Heard::Healed { domain, delayed_us, at_ns } => {
                *self.tally.healed.entry(domain.clone()).or_default() += 1;
                (at_ns, Occurrence::Healed { domain, delayed_us })
            }
            Heard::State { from, to } => (monotonic_ns(), Occurrence::State { from, to }),
            Heard::Dump { domain, result, requested } => {
                (monotonic_ns(), self.enter_dump(domain, result, requested))
            }
            Heard::Paused { domain } => (monotonic_ns(), Occurrence::Paused { domain }),
            Heard::Resumed { domain } => (monotonic_ns(), Occurrence::Resumed { domain }),
            Heard::Debugger { domain, attached } => {
                (monotonic_ns(), Occurrence::Debugger { domain, attached })
            }
            Heard::Reloaded { applied, ignored } => {
                (monotonic_ns(), Occurrence::Reloaded { applied, ignored })
            }
            Heard::ReloadFailed { reason } => (monotonic_ns(), Occurrence::ReloadFailed { reason }),
        }
    }

    fn enter_dump(
        &mut self,
        domain: String,
        result: Result<String, String>,
        requested: bool,
    ) -> Occurrence {
        match result {
            Ok(folder) => {
                let of_domain = |(_, view): &&mut (u64, FailoverView)| view.from == domain;
                if let Some((_, view)) = self.newest.iter_mut().rev().find(of_domain)
                    && !requested
                {
                    view.dump = Some(folder.clone());
                }
                Occurrence::Dumped { domain, folder, requested }
            }
            Err(reason) => Occurrence::DumpLost { domain, reason },
        }
    }

    fn enter_failover(&mut self, facts: FailoverFacts) -> FailoverView {
        let outcome = match (facts.was_active, &facts.to) {
            (false, _) => FailoverOutcome::StandbyLost,
            (true, Some(_)) => FailoverOutcome::TakenOver,
            (true, None) => FailoverOutcome::NoSpare,
        };
        self.failures += 1;
        *self.counts.entry((facts.cause, outcome)).or_default() += 1;
        let phases = phases_of(&facts);
        let interruption_us = facts.first_sent_ns.map(|sent| micros(facts.entered_ns, sent));
        self.record_phase("detect", facts.cause, Some(phases.detect_us));
        self.record_phase("release", facts.cause, phases.release_us);
        self.record_phase("first-frame", facts.cause, phases.first_frame_us);
        self.record_interruption(facts.cause, interruption_us);
        let view = FailoverView {
            number: self.failures,
            verdict_time: wall::at(facts.verdict_ns),
            from: facts.from,
            epoch: facts.epoch,
            to: facts.to,
            cause: facts.cause.to_owned(),
            evidence: facts.evidence,
            outcome,
            phases,
            interruption_us,
            resent: facts.resent,
            poisoned: facts.poisoned,
            salvaged: facts.salvaged,
            epitaph: facts.epitaph,
            dump: None,
        };
        if self.newest.len() == KEPT_FAILOVERS {
            self.newest.pop_front();
        }
        self.newest.push_back((facts.verdict_ns, view.clone()));
        view
    }

    /// A domain is back: completes its last failure.
    fn close_failure(&mut self, domain: &str, role: RoleState, at_ns: u64) {
        let open = |(_, view): &&mut (u64, FailoverView)| view.from == domain;
        let Some((verdict_ns, view)) = self.newest.iter_mut().rev().find(open) else { return };
        if view.phases.rebuild_us.is_some() {
            return;
        }
        let rebuild_us = micros(*verdict_ns, at_ns);
        view.phases.rebuild_us = Some(rebuild_us);
        let restarted = view.outcome == FailoverOutcome::NoSpare && role == RoleState::Active;
        if restarted {
            view.interruption_us = Some(view.phases.detect_us + rebuild_us);
        }
        let interruption_us = view.interruption_us.filter(|_| restarted);
        let Some(cause) = self.counts.keys().map(|key| key.0).find(|c| *c == view.cause) else {
            return;
        };
        self.record_phase("rebuild", cause, Some(rebuild_us));
        self.record_interruption(cause, interruption_us);
    }

    fn record_phase(&mut self, phase: &'static str, cause: &'static str, value_us: Option<f64>) {
        if let Some(value_us) = value_us {
            self.phases.entry((phase, cause)).or_default().record(value_us);
        }
    }

    fn record_interruption(&mut self, cause: &'static str, value_us: Option<f64>) {
        if let Some(value_us) = value_us {
            self.interruptions.entry(cause).or_default().record(value_us);
            self.all_interruptions.record(value_us);
        }
    }
}

fn phases_of(facts: &FailoverFacts) -> Phases {
    let release_us = facts.to.as_ref().map(|_| micros(facts.verdict_ns, facts.released_ns));
    Phases {
        detect_us: micros(facts.entered_ns, facts.verdict_ns),
        release_us,
        first_frame_us: facts.first_sent_ns.map(|sent| micros(facts.released_ns, sent)),
        rebuild_us: None,
    }
}

pub(super) fn micros(from_ns: u64, to_ns: u64) -> f64 {
    to_ns.saturating_sub(from_ns) as f64 / 1000.0
}

#[cfg(test)]
mod tests;

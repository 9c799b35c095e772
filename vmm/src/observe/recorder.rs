//! Keeps the books of what happened: histograms, the newest failures, redundancy; and publishes
//! each event. Fed by whoever takes the supervisor's events, asked by the control thread.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::bus::{EventBus, Published, Subscription};
use super::event::{EventLine, FailoverOutcome, FailoverView, Occurrence, Phases};
use super::histogram::{EDGES_US, Histogram};
use super::snapshot::{FailoverCount, InterruptionView, is_redundant};
use super::wall;
use crate::clock::monotonic_ns;
use crate::supervisor::{Blame, RoleState, SystemState};

/// Failures that are kept in full.
pub const KEPT_FAILOVERS: usize = 1000;

/// Events that are kept for those who ask later.
pub const KEPT_EVENTS: usize = 1000;

/// What the system reports, with names instead of numbers. Stamps are `CLOCK_MONOTONIC`.
#[derive(Clone, Debug)]
pub enum Heard {
    /// A NIC's link came or went.
    Link {
        /// The NIC.
        nic: String,
        /// Whether it is up now.
        up: bool,
    },
    /// A verdict fell.
    Failover(FailoverFacts),
    /// A domain is built and attached.
    Ready {
        /// The domain.
        domain: String,
        /// What it is now.
        role: RoleState,
        /// When.
        at_ns: u64,
    },
    /// A domain could not be built.
    BuildFailed {
        /// The domain.
        domain: String,
        /// Why, in one line.
        reason: String,
    },
    /// A domain failed too often and is left alone for a while.
    Quarantined {
        /// The domain.
        domain: String,
        /// For how long.
        pause: Duration,
    },
    /// The ring changed hands in plan.
    Switched {
        /// The domain that served.
        from: String,
        /// The domain that serves.
        to: String,
        /// How long the guest's frames waited.
        waited_ns: u64,
        /// When the ring had changed hands.
        at_ns: u64,
    },
    /// A standby was drilled.
    Drilled {
        /// The standby.
        domain: String,
        /// Whose fault it was, if it failed.
        blame: Option<Blame>,
        /// How long it took.
        round_trip_ns: u64,
        /// When it ended.
        at_ns: u64,
    },
    /// An upgrade ended: who serves and how long it took, or why not.
    Upgrade(Result<(String, Duration), String>),
    /// A lost wakeup was noticed and made good.
    Healed {
        /// The domain.
        domain: String,
        /// How long work had waited, microseconds.
        delayed_us: u64,
        /// When.
        at_ns: u64,
    },
    /// The service as a whole became something else.
    State {
        /// What it was.
        from: SystemState,
        /// What it is.
        to: SystemState,
    },
    /// The remains of a failed domain were written to a folder, or are lost.
    Dump {
        /// The domain.
        domain: String,
        /// The folder, or why there is none.
        result: Result<String, String>,
    },
}

/// What the system reports of a failure.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "as in `FailoverView` and `supervisor::FailoverRecord`")]
pub struct FailoverFacts {
    pub from: String,
    pub epoch: u32,
    pub was_active: bool,
    pub to: Option<String>,
    pub cause: &'static str,
    pub evidence: String,
    pub entered_ns: u64,
    pub verdict_ns: u64,
    pub released_ns: u64,
    pub first_sent_ns: Option<u64>,
    pub resent: u64,
    pub poisoned: u64,
    pub salvaged: u64,
    pub epitaph: String,
}

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

/// A domain as far as events tell.
#[derive(Debug)]
struct Known {
    name: String,
    nic: String,
    role: RoleState,
    link_up: bool,
}

#[derive(Debug)]
struct Books {
    seq: u64,
    lines: VecDeque<Arc<Published>>,
    domains: Vec<Known>,
    /// Since when there is no redundancy; `None` while there is.
    bare_since_ns: Option<u64>,
    was_redundant: bool,
    failures: u64,
    newest: VecDeque<(u64, FailoverView)>,
    tally: Tally,
    counts: BTreeMap<(&'static str, FailoverOutcome), u64>,
    interruptions: BTreeMap<&'static str, Histogram>,
    all_interruptions: Histogram,
    phases: BTreeMap<(&'static str, &'static str), Histogram>,
}

/// The books and the bus.
#[derive(Debug)]
pub struct Recorder {
    began_ns: u64,
    books: Mutex<Books>,
    bus: EventBus,
}

impl Recorder {
    /// Empty books of a system with these domains: name, and name of its NIC. Links count as up
    /// until an event says otherwise.
    pub fn new(domains: impl Iterator<Item = (String, String)>) -> Self {
        let known = |(name, nic)| Known { name, nic, role: RoleState::Failed, link_up: true };
        let began_ns = monotonic_ns();
        let books = Books {
            seq: 0,
            lines: VecDeque::new(),
            domains: domains.map(known).collect(),
            bare_since_ns: Some(began_ns),
            was_redundant: false,
            failures: 0,
            newest: VecDeque::new(),
            tally: Tally::default(),
            counts: BTreeMap::new(),
            interruptions: BTreeMap::new(),
            all_interruptions: Histogram::default(),
            phases: BTreeMap::new(),
        };
        Self { began_ns, books: Mutex::new(books), bus: EventBus::default() }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters something into the books and tells all subscribers.
    pub fn hear(&self, heard: Heard) {
        let mut books = self.books();
        let (at_ns, occurrence) = books.enter(heard);
        self.publish(&mut books, at_ns, occurrence);
        if let Some(change) = books.redundancy_change(at_ns) {
            self.publish(&mut books, at_ns, change);
        }
    }

    /// Under the lock, so that subscribers see the numbers in order.
    fn publish(&self, books: &mut Books, at_ns: u64, occurrence: Occurrence) {
        books.seq += 1;
        let kind = occurrence.kind();
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
            Heard::Link { nic, up } => {
                self.domains.iter_mut().filter(|d| d.nic == nic).for_each(|d| d.link_up = up);
                (monotonic_ns(), Occurrence::Link { nic, up })
            }
            Heard::Failover(facts) => {
                let at_ns = facts.verdict_ns;
                (at_ns, Occurrence::Failover(Box::new(self.enter_failover(facts))))
            }
            Heard::Ready { domain, role, at_ns } => {
                self.set_role(&domain, role);
                self.close_failure(&domain, role, at_ns);
                (at_ns, Occurrence::Ready { domain, role })
            }
            Heard::BuildFailed { domain, reason } => {
                (monotonic_ns(), Occurrence::BuildFailed { domain, reason })
            }
            Heard::Quarantined { domain, pause } => {
                self.set_role(&domain, RoleState::Quarantined);
                let pause_seconds = pause.as_secs_f64();
                (monotonic_ns(), Occurrence::Quarantine { domain, pause_seconds })
            }
            Heard::Switched { from, to, waited_ns, at_ns } => {
                self.set_role(&from, RoleState::Standby);
                self.set_role(&to, RoleState::Active);
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
            Heard::Dump { domain, result } => (monotonic_ns(), self.enter_dump(domain, result)),
        }
    }

    fn enter_dump(&mut self, domain: String, result: Result<String, String>) -> Occurrence {
        match result {
            Ok(folder) => {
                let of_domain = |(_, view): &&mut (u64, FailoverView)| view.from == domain;
                if let Some((_, view)) = self.newest.iter_mut().rev().find(of_domain) {
                    view.dump = Some(folder.clone());
                }
                Occurrence::Dumped { domain, folder }
            }
            Err(reason) => Occurrence::DumpLost { domain, reason },
        }
    }

    fn set_role(&mut self, name: &str, role: RoleState) {
        if let Some(known) = self.domains.iter_mut().find(|known| known.name == name) {
            known.role = role;
        }
    }

    fn enter_failover(&mut self, facts: FailoverFacts) -> FailoverView {
        let outcome = match (facts.was_active, &facts.to) {
            (false, _) => FailoverOutcome::StandbyLost,
            (true, Some(_)) => FailoverOutcome::TakenOver,
            (true, None) => FailoverOutcome::NoSpare,
        };
        self.set_role(&facts.from, RoleState::Failed);
        if let Some(to) = &facts.to {
            self.set_role(to, RoleState::Active);
        }
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

    fn redundancy_change(&mut self, at_ns: u64) -> Option<Occurrence> {
        let redundant = is_redundant(self.domains.iter().map(|d| (d.role, d.link_up)));
        if redundant == self.was_redundant {
            return None;
        }
        self.was_redundant = redundant;
        if !redundant {
            self.bare_since_ns = Some(at_ns);
            return Some(Occurrence::RedundancyLost);
        }
        let since_ns = self.bare_since_ns.take().unwrap_or(at_ns);
        Some(Occurrence::RedundancyRegained { after_us: micros(since_ns, at_ns) })
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

fn micros(from_ns: u64, to_ns: u64) -> f64 {
    to_ns.saturating_sub(from_ns) as f64 / 1000.0
}

#[cfg(test)]
mod tests;

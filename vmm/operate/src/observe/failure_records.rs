//! Records of failed domains: the newest failures in full, and counts and durations of all.

use std::collections::{BTreeMap, VecDeque};

use super::duration::micros_between;
use super::event::{FailoverOutcome, FailoverView, Phases};
use super::histogram::{EDGES_US, Histogram};
use super::received_event::FailoverFacts;
use super::snapshot::{FailoverCount, InterruptionView};
use super::wall_clock;
use supervisor::RoleState;

/// Failures that are kept in full.
pub(crate) const KEPT_FAILOVERS: usize = 1000;

/// Durations of one phase of failovers with one cause.
#[derive(Clone, Debug)]
pub(crate) struct PhaseHistogram {
    /// `detect`, `release`, `first-frame` or `rebuild`.
    pub(crate) phase: &'static str,
    /// The detector's name.
    pub(crate) cause: &'static str,
    /// The durations.
    pub(crate) histogram: Histogram,
}

/// A failure that is kept in full.
#[derive(Debug)]
struct Kept {
    /// Since when the guests had felt the failure.
    felt_ns: u64,
    verdict_ns: u64,
    view: FailoverView,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct CountKey {
    cause: &'static str,
    outcome: FailoverOutcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct PhaseKey {
    phase: &'static str,
    cause: &'static str,
}

/// All failures since the program began to observe.
#[derive(Debug, Default)]
pub(super) struct FailureRecords {
    total: u64,
    newest: VecDeque<Kept>,
    counts: BTreeMap<CountKey, u64>,
    interruptions: BTreeMap<&'static str, Histogram>,
    all_interruptions: Histogram,
    phases: BTreeMap<PhaseKey, Histogram>,
}

impl FailureRecords {
    /// Adds a failure, and returns it as the API shows it.
    pub(super) fn add(&mut self, facts: FailoverFacts) -> FailoverView {
        let outcome = outcome_of(&facts);
        let phases = phases_of(&facts);
        let interruption_us =
            facts.first_sent_ns.map(|sent_ns| micros_between(facts.felt_ns, sent_ns));
        self.total += 1;
        *self.counts.entry(CountKey { cause: facts.cause, outcome }).or_default() += 1;
        self.add_phase("detect", facts.cause, Some(phases.detect_us));
        self.add_phase("release", facts.cause, phases.release_us);
        self.add_phase("first-frame", facts.cause, phases.first_frame_us);
        self.add_interruption(facts.cause, interruption_us);
        let (felt_ns, verdict_ns) = (facts.felt_ns, facts.verdict_ns);
        let view = FailoverView {
            number: self.total,
            verdict_time: wall_clock::at(verdict_ns),
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
            crash_summary: facts.crash_summary,
            dump: None,
        };
        if self.newest.len() == KEPT_FAILOVERS {
            self.newest.pop_front();
        }
        self.newest.push_back(Kept { felt_ns, verdict_ns, view: view.clone() });
        view
    }

    /// A domain is built anew: completes the record of its last failure, unless that is complete.
    pub(super) fn complete(&mut self, domain: &str, role: RoleState, at_ns: u64) {
        let Some(kept) = self.last_of(domain) else { return };
        if kept.view.phases.rebuild_us.is_some() {
            return;
        }
        let rebuild_us = micros_between(kept.verdict_ns, at_ns);
        let view = &mut kept.view;
        view.phases.rebuild_us = Some(rebuild_us);
        let restarted = view.outcome == FailoverOutcome::NoSpare && role == RoleState::Active;
        if restarted {
            view.interruption_us = Some(micros_between(kept.felt_ns, at_ns));
        }
        let interruption_us = view.interruption_us.filter(|_| restarted);
        let cause = view.cause.clone();
        // The histograms want the cause as it was counted, with its static lifetime.
        let Some(cause) = self.counts.keys().map(|key| key.cause).find(|known| *known == cause)
        else {
            return;
        };
        self.add_phase("rebuild", cause, Some(rebuild_us));
        self.add_interruption(cause, interruption_us);
    }

    /// Notes the folder with the remains of this domain's last failure.
    pub(super) fn set_dump(&mut self, domain: &str, folder: &str) {
        if let Some(kept) = self.last_of(domain) {
            kept.view.dump = Some(folder.to_owned());
        }
    }

    fn last_of(&mut self, domain: &str) -> Option<&mut Kept> {
        self.newest.iter_mut().rev().find(|kept| kept.view.from == domain)
    }

    fn add_phase(&mut self, phase: &'static str, cause: &'static str, value_us: Option<f64>) {
        if let Some(value_us) = value_us {
            self.phases.entry(PhaseKey { phase, cause }).or_default().record(value_us);
        }
    }

    fn add_interruption(&mut self, cause: &'static str, value_us: Option<f64>) {
        if let Some(value_us) = value_us {
            self.interruptions.entry(cause).or_default().record(value_us);
            self.all_interruptions.record(value_us);
        }
    }

    /// The newest failures, newest first, at most `most` of the [`KEPT_FAILOVERS`].
    pub(super) fn newest(&self, most: usize) -> Vec<FailoverView> {
        self.newest.iter().rev().take(most).map(|kept| kept.view.clone()).collect()
    }

    /// Failures by cause and outcome.
    pub(super) fn counts(&self) -> Vec<FailoverCount> {
        let view = |(key, &count): (&CountKey, &u64)| FailoverCount {
            cause: key.cause.to_owned(),
            outcome: key.outcome.name().to_owned(),
            count,
        };
        self.counts.iter().map(view).collect()
    }

    /// Interruptions as the API shows them.
    pub(super) fn interruption(&self) -> InterruptionView {
        let by_cause =
            self.interruptions.iter().map(|(cause, h)| ((*cause).to_owned(), h.view())).collect();
        InterruptionView {
            edges_us: EDGES_US.to_vec(),
            all: self.all_interruptions.view(),
            by_cause,
        }
    }

    /// Interruptions by cause, for metrics.
    pub(super) fn interruption_histograms(&self) -> BTreeMap<&'static str, Histogram> {
        self.interruptions.clone()
    }

    /// Durations of phases, for metrics.
    pub(super) fn phase_histograms(&self) -> Vec<PhaseHistogram> {
        let of = |(key, histogram): (&PhaseKey, &Histogram)| PhaseHistogram {
            phase: key.phase,
            cause: key.cause,
            histogram: histogram.clone(),
        };
        self.phases.iter().map(of).collect()
    }
}

fn outcome_of(facts: &FailoverFacts) -> FailoverOutcome {
    match (facts.was_active, &facts.to) {
        (false, _) => FailoverOutcome::StandbyLost,
        (true, Some(_)) => FailoverOutcome::TakenOver,
        (true, None) => FailoverOutcome::NoSpare,
    }
}

fn phases_of(facts: &FailoverFacts) -> Phases {
    Phases {
        detect_us: micros_between(facts.entered_ns, facts.verdict_ns),
        release_us: facts.to.as_ref().map(|_| micros_between(facts.verdict_ns, facts.released_ns)),
        first_frame_us: facts.first_sent_ns.map(|sent| micros_between(facts.released_ns, sent)),
        rebuild_us: None,
    }
}

//! The results of a run with faults: a row for each fault, medians, and the verdict.
//!
//! Every run is judged by its recovery from faults, and by having no failover without an injected
//! fault. Times are judged by their medians, and only if the step has gates: the machine under this
//! one may be busy, and stands still for longer than a failover takes.

use anyhow::{Result, ensure};
use lab::fault::Cause;
use lab::traffic::{Gap, Ledger, percentile};
use operate::observe::{Stall, stalled_ns};
use serde_json::{Value, json};
use supervisor::FailoverReport;
use supervisor::topology::Policy;
use warmspare_tests::gates::Relative;
use warmspare_tests::nested::protocol::{FromGuest, Row, Summary};

use crate::report::Report;

/// How long after the service is back the sender's ledger is searched for effects of the fault: a
/// little longer than the last announcement of a takeover takes.
const AFTERMATH_NS: u64 = 25_000_000;
/// Datagrams sent up to this long before the fault may still have been under way when it struck.
const UNDER_WAY_NS: u64 = 5_000_000;

/// Verdicts that an injected fault may lead to. A domain that hangs or publishes nothing also leaves a
/// ring unattended. The thresholds are equal here, so that it depends on the machine which is seen
/// first.
const VERDICTS: [(&str, &[&str]); 7] = [
    ("crash", &["crash"]),
    ("hang", &["hang", "spin", "ring-stall"]),
    ("silent-tx", &["silent-transmit"]),
    ("silent-rx", &["silent-receive", "ring-stall"]),
    ("link", &["link"]),
    ("removal", &["device"]),
    ("leak", &["hang", "spin", "ring-stall"]),
];

/// One injected fault and the failover that followed.
pub(super) struct Outcome {
    pub(super) injected: &'static str,
    pub(super) site: &'static str,
    pub(super) injected_ns: u64,
    /// When the driver reached faulty code, if that is known; else when the fault was injected.
    pub(super) struck_ns: u64,
    /// When the service was redundant again, or with no spare, when it served again.
    pub(super) whole_ns: u64,
    pub(super) report: FailoverReport,
}

/// The results of a run: all outcomes, and the sender's ledger.
pub(super) struct Outcomes {
    pub(super) policy: Policy,
    pub(super) outcomes: Vec<Outcome>,
    pub(super) uncaused: Vec<String>,
    pub(super) stalls: Vec<Stall>,
    pub(super) ledger: Ledger,
    /// Number of frames that were accepted from the guest and are to reach the sender.
    pub(super) accepted: u64,
    pub(super) poisoned: u64,
    /// Round trips of the drills before the faults.
    pub(super) drills_us: Vec<f64>,
    /// Drills before the faults that did not pass, and what each said.
    pub(super) drills_failed: Vec<String>,
    pub(super) first_echo_ms: f64,
}

impl Outcome {
    fn fault_ns(&self) -> u64 {
        // For a crash, the record has the nearest stamp before it. Faults that the detector finds
        // by sampling have the stamp of the trap on the faulty code.
        if self.injected == Cause::Crash.name() {
            self.report.record.entered_ns.max(self.injected_ns)
        } else {
            self.struck_ns
        }
    }

    /// Returns the interruption: from the last echo before the fault to the first one after it.
    fn gap(&self, ledger: &Ledger, next_ns: u64) -> Gap {
        let record = &self.report.record;
        let served_ns = if record.to.is_some() { record.verdict_ns } else { self.whole_ns };
        let until_ns = next_ns.min(served_ns + AFTERMATH_NS);
        ledger.longest_gap(self.fault_ns(), until_ns).unwrap_or_default()
    }
}

impl Outcomes {
    fn rows(&self) -> Vec<Row> {
        let next = self.outcomes.iter().skip(1).map(|o| o.injected_ns - UNDER_WAY_NS);
        let ends = next.chain([u64::MAX]);
        self.outcomes
            .iter()
            .zip(ends)
            .map(|(outcome, next_ns)| self.row(outcome, next_ns))
            .collect()
    }

    fn row(&self, outcome: &Outcome, next_ns: u64) -> Row {
        let record = &outcome.report.record;
        let Gap { from_ns, to_ns } = outcome.gap(&self.ledger, next_ns);
        let (stalls, fault_ns) = (&self.stalls, outcome.fault_ns());
        let lost_until_ns = next_ns.min(outcome.whole_ns + AFTERMATH_NS);
        Row {
            policy: self.policy.name().to_owned(),
            injected: outcome.injected.to_owned(),
            site: outcome.site.to_owned(),
            cause: record.verdict.cause().to_owned(),
            from: record.from.0,
            to: record.to.map(|id| id.0),
            detect_us: micros(fault_ns, record.verdict_ns),
            switch_us: micros(record.verdict_ns, self.served_again_ns(record.verdict_ns)),
            interruption_us: micros(from_ns, to_ns),
            healthy_us: self.healthy_us(fault_ns),
            stalled_us: micros(0, stalled_ns(stalls, from_ns, to_ns)),
            lost: self.ledger.lost_between(fault_ns - UNDER_WAY_NS, lost_until_ns),
            resent: outcome.report.resent,
            salvaged: outcome.report.salvaged,
            redundant_again_ms: micros(record.verdict_ns, outcome.whole_ns) / 1000.0,
        }
    }

    /// Returns the longest time between two echoes, up to the last echo before a fault.
    fn healthy_us(&self, fault_ns: u64) -> f64 {
        let last_ns =
            self.ledger.longest_gap(fault_ns, fault_ns + 1).map_or(fault_ns, |gap| gap.from_ns);
        let before = self.ledger.longest_gap(last_ns - AFTERMATH_NS, last_ns - 1);
        before.map_or(0.0, |gap| micros(gap.from_ns, gap.to_ns))
    }

    /// Returns when the first echo after a verdict came.
    fn served_again_ns(&self, verdict_ns: u64) -> u64 {
        self.ledger.longest_gap(verdict_ns, verdict_ns + 1).map_or(verdict_ns, |gap| gap.to_ns)
    }

    /// Returns bounds, lower and upper, of the number of frames that were accepted from the guest
    /// and did not arrive. It is known of each datagram whether its echo came, and of the guest how
    /// many echoes it sent. On this wire, a hub, a datagram reaches both NICs; if both took it at
    /// the moment of a takeover, the guest has echoed it twice.
    fn accepted_lost(&self) -> (u64, u64) {
        let echoed = self.ledger.total_echoed() + self.poisoned;
        let missing = self.accepted.saturating_sub(echoed);
        let unanswered = self.ledger.total_sent().saturating_sub(echoed);
        (missing.saturating_sub(self.ledger.total_duplicated()), missing.min(unanswered))
    }

    /// Returns the median round trip of all datagrams: what the machine takes for one with nothing
    /// wrong.
    fn round_trip_us(&self) -> Option<f64> {
        percentile(&self.ledger.round_trips_ns(), 0.5).map(|ns| ns as f64 / 1000.0)
    }

    /// Reports each failover as a line, and judges the run.
    pub(super) fn close(&self, report: &Report) -> Result<Value> {
        let rows = self.rows();
        for row in &rows {
            report.say(&FromGuest::Failover(row.clone()))?;
        }
        let (ledger, echoed) = (&self.ledger, self.ledger.total_echoed());
        let (lost_at_least, lost_at_most) = self.accepted_lost();
        let (first, last) = (self.stalls.first(), self.stalls.last());
        let detail = json!({
            "summary": Summary::by_cause(&rows),
            "first_echo_ms": self.first_echo_ms,
            "sent": ledger.total_sent(),
            "echoed": echoed,
            "accepted": self.accepted,
            "accepted_lost": [lost_at_least, lost_at_most],
            "duplicated": ledger.total_duplicated(),
            "poisoned": self.poisoned,
            "drills_us": self.drills_us,
            "drills_failed": self.drills_failed,
            "round_trip_us": self.round_trip_us(),
            "failovers_nobody_caused": self.uncaused,
            "stalls_ms": first.zip(last).map_or(0.0, |(first, last)| {
                stalled_ns(&self.stalls, first.due_ns, last.woke_ns) as f64 / 1e6
            }),
        });
        ensure!(ledger.total_corrupted() == 0, "corrupted frames: {detail}");
        ensure!(lost_at_least == 0, "frames that were accepted from the guest are lost: {detail}");
        ensure!(self.uncaused.is_empty(), "unexpected failovers: {:?}; {detail}", self.uncaused);
        for row in &rows {
            let fits = VERDICTS.iter().find(|(injected, _)| *injected == row.injected);
            let fits = fits.is_none_or(|(_, verdicts)| verdicts.contains(&row.cause.as_str()));
            ensure!(fits, "{} ({}) was found as {}: {detail}", row.injected, row.site, row.cause);
        }
        Ok(detail)
    }

    /// Like [`Self::close`], and also judges the median of each cause by its gate, after the
    /// machine's own stalls are taken off.
    pub(super) fn close_within(
        &self,
        report: &Report,
        gates: &[(&str, Relative)],
    ) -> Result<Value> {
        let detail = self.close(report)?;
        for summary in Summary::by_cause(&self.rows()) {
            let injected = summary.injected.as_str();
            let Some((_, gate)) = gates.iter().find(|(name, _)| *name == injected) else {
                continue;
            };
            let (median_ms, healthy_ms) =
                (summary.less_stalls_us / 1000.0, summary.healthy_us / 1000.0);
            let limit_ms = gate.limit_ms(healthy_ms);
            ensure!(
                median_ms <= limit_ms,
                "{injected}: the median interruption less stalls of {median_ms:.1} ms is over the \
                 limit of {limit_ms:.1} ms, with nothing wrong {healthy_ms:.1} ms; {detail}"
            );
        }
        Ok(detail)
    }
}

fn micros(from_ns: u64, to_ns: u64) -> f64 {
    to_ns.saturating_sub(from_ns) as f64 / 1000.0
}

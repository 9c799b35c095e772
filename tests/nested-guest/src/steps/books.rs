//! What a run with faults came to: a row for each fault, medians, and the verdict.
//!
//! Recovery is judged, and that nothing failed which nobody caused. Of times medians are, where a step
//! has gates: the machine under this one may be busy, and stands still for longer than a failover
//! takes.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use warmspare::fault::Cause;
use warmspare::observe::Stall;
use warmspare::supervisor::FailoverReport;
use warmspare::topology::Policy;
use warmspare::traffic::{Ledger, percentile};
use warmspare_tests::gates::Relative;
use warmspare_tests::nested::protocol::{FromGuest, Row, Summary};

use crate::report::Report;

/// How long after the service is back the books are searched for what the fault did to them: a
/// little longer than the last announcement of a takeover takes.
const AFTERMATH_NS: u64 = 25_000_000;
/// Datagrams sent so long before the fault can still have been under way when it struck.
const UNDER_WAY_NS: u64 = 5_000_000;

/// One fault.
pub(super) struct Outcome {
    pub(super) injected: &'static str,
    pub(super) site: &'static str,
    pub(super) injected_ns: u64,
    /// When the driver met faulty code, where that is known.
    pub(super) struck_ns: u64,
    /// When the service was redundant again; with no spare, served again.
    pub(super) whole_ns: u64,
    pub(super) report: FailoverReport,
}

/// All of them, and the sender's books.
pub(super) struct Books {
    pub(super) policy: Policy,
    pub(super) outcomes: Vec<Outcome>,
    pub(super) unasked: Vec<String>,
    pub(super) stalls: Vec<Stall>,
    pub(super) ledger: Ledger,
    /// Frames that were accepted from the guest and are to reach the sender.
    pub(super) accepted: u64,
    pub(super) poisoned: u64,
    /// Round trips of the drills before the faults.
    pub(super) drills_us: Vec<f64>,
    pub(super) first_echo_ms: f64,
}

impl Outcome {
    fn fault_ns(&self) -> u64 {
        // A crash leaves the nearest stamp behind; what is found by looking has that of the trap.
        if self.injected == Cause::Crash.name() {
            self.report.record.entered_ns.max(self.injected_ns)
        } else {
            self.struck_ns
        }
    }

    /// The interruption: end of the last echo before, and the first one after.
    fn gap(&self, ledger: &Ledger, next_ns: u64) -> (u64, u64) {
        let record = &self.report.record;
        let served_ns = if record.to.is_some() { record.verdict_ns } else { self.whole_ns };
        let until_ns = next_ns.min(served_ns + AFTERMATH_NS);
        ledger.longest_gap(self.fault_ns(), until_ns).unwrap_or((0, 0))
    }
}

impl Books {
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
        let (from_ns, to_ns) = outcome.gap(&self.ledger, next_ns);
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

    /// The longest time between two echoes up to the last one before a fault.
    fn healthy_us(&self, fault_ns: u64) -> f64 {
        let last_ns = self.ledger.longest_gap(fault_ns, fault_ns + 1).map_or(fault_ns, |gap| gap.0);
        let before = self.ledger.longest_gap(last_ns - AFTERMATH_NS, last_ns - 1);
        before.map_or(0.0, |(from_ns, to_ns)| micros(from_ns, to_ns))
    }

    /// The first echo after a verdict.
    fn served_again_ns(&self, verdict_ns: u64) -> u64 {
        self.ledger.longest_gap(verdict_ns, verdict_ns + 1).map_or(verdict_ns, |(_, to)| to)
    }

    /// Frames that were accepted from the guest and did not arrive: at least, and at most. It is
    /// known of each datagram whether its echo came, and how many echoes the guest sent. On this
    /// wire, a hub, a datagram reaches both NICs; where both took it in the moment of a takeover,
    /// the guest has echoed it twice.
    fn accepted_lost(&self) -> (u64, u64) {
        let echoed = self.ledger.total_echoed() + self.poisoned;
        let missing = self.accepted.saturating_sub(echoed);
        let unanswered = self.ledger.total_sent().saturating_sub(echoed);
        (missing.saturating_sub(self.ledger.total_duplicated()), missing.min(unanswered))
    }

    /// The median of all datagrams: what the machine takes for one way there and back, with nothing
    /// wrong.
    fn round_trip_us(&self) -> Option<f64> {
        percentile(&self.ledger.round_trips_ns(), 0.5).map(|ns| ns as f64 / 1000.0)
    }

    /// Reports each failover as a line, and judges.
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
            "round_trip_us": self.round_trip_us(),
            "failovers_nobody_caused": self.unasked,
            "stalls_ms": first.zip(last).map_or(0.0, |(first, last)| {
                stalled_ns(&self.stalls, first.due_ns, last.woke_ns) as f64 / 1e6
            }),
        });
        ensure!(ledger.total_corrupted() == 0, "corrupted frames: {detail}");
        ensure!(lost_at_least == 0, "frames that were accepted from the guest are lost: {detail}");
        ensure!(self.unasked.is_empty(), "nobody caused these: {:?}; {detail}", self.unasked);
        Ok(detail)
    }

    /// The same, and judges the medians of each cause by its gate, less the machine's own stalls.
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

/// For how much of a span at least one processor stood still. The stalls are in order of their
/// beginnings.
fn stalled_ns(stalls: &[Stall], from_ns: u64, to_ns: u64) -> u64 {
    let (mut total_ns, mut until_ns) = (0, from_ns);
    for stall in stalls.iter().filter(|stall| stall.overlaps(from_ns, to_ns)) {
        let (begin, end) = (stall.due_ns.max(until_ns), stall.woke_ns.min(to_ns));
        total_ns += end.saturating_sub(begin);
        until_ns = until_ns.max(end);
    }
    total_ns
}

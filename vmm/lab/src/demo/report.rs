//! The demo's result, as JSON has it (`warmspare.demo/1`), and the verdict on it.

use std::sync::Arc;

use serde::Serialize;

use super::confusion::CauseSummary;
use super::outcome::{Outcome, Recovery, micros};
use super::plan::Injection;
use crate::traffic::{Gaps, Ledger, percentile};
use microvm::domain::{DomainId, DomainSlot};
use operate::observe::{Stall, stalled_ns};
use supervisor::topology::Policy;

/// An interruption should be shorter than this, in microseconds.
pub(super) const GOAL_INTERRUPTION_US: f64 = 10_000.0;

/// How long after a verdict the sender's ledger is searched for losses and gaps by the fault: a
/// little longer than the last announcement of a takeover takes.
const AFTERMATH_NS: u64 = 25_000_000;
/// Datagrams sent so long before the fault can still have been under way at its moment.
const UNDER_WAY_NS: u64 = 5_000_000;

/// What a run is judged by, beside what no run may do.
///
/// Interruptions in which the machine itself stood still are listed and not judged: what they tell
/// is not about this program.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Of the longest interruption, in milliseconds.
    pub max_interruption_ms: Option<f64>,
    /// Of the median of all interruptions, in milliseconds.
    pub max_median_interruption_ms: Option<f64>,
}

/// The whole result.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Name and version of this shape.
    pub schema: &'static str,
    /// What happened when the active domain failed.
    pub policy: Policy,
    /// Whether the threads of the failover path ran under real-time scheduling.
    pub realtime: bool,
    /// Times in which the machine itself stood still, in milliseconds.
    pub machine_stalls_ms: Vec<f64>,
    /// From the start of the command to the first echo, in milliseconds.
    pub first_echo_ms: f64,
    /// What the sender saw.
    pub traffic: Traffic,
    /// Median of the interruptions in which the machine did not stand still by itself, microseconds;
    /// nothing if it did in all of them.
    pub stall_free_median_us: Option<f64>,
    /// What each injected cause did, and as what it was found.
    pub causes: Vec<CauseSummary>,
    /// One row for each fault.
    pub failovers: Vec<FailoverRow>,
    /// What the redundancy costs.
    pub memory: Memory,
}

/// What the sender saw, in datagrams.
#[derive(Debug, Serialize)]
pub struct Traffic {
    /// Sent.
    pub sent: u64,
    /// Echoed at least once, whole.
    pub received: u64,
    /// Never echoed.
    pub lost: u64,
    /// Second and further echoes.
    pub duplicated: u64,
    /// Frames to the sender that were not what it had sent.
    pub corrupted: u64,
    /// Between successive echoes, microseconds.
    pub gap_us: Gaps,
    /// From a datagram to its echo, median, microseconds.
    pub round_trip_us: f64,
}

/// One failover.
#[derive(Debug, Serialize)]
pub struct FailoverRow {
    /// The detector's verdict; `lost-wakeup` where a lost wakeup was healed without a failover.
    pub cause: &'static str,
    /// The fault that was injected, or the planned operation.
    pub injected: Injection,
    /// Where: a path of the driver, a register, the cable.
    pub site: &'static str,
    /// Name of the failed domain.
    pub from: String,
    /// Name of the domain that took over; the same one where no failover was needed.
    pub to: String,
    /// From the last stamp before the faulting instruction to the verdict.
    pub detect_us: f64,
    /// From the verdict to the spare's first frame on the wire; in a planned switch, how long the
    /// guest's frames waited.
    pub switch_us: f64,
    /// The longest time between successive echoes around the fault, at the sender.
    pub interruption_us: f64,
    /// The same by the VMM's own account, as `warmspare_interruption_seconds` has it; nothing where
    /// no domain failed.
    pub metric_us: Option<f64>,
    /// Datagrams around the fault that were never echoed.
    pub frames_lost: u64,
    /// Frames that were sent again through the spare.
    pub frames_resent: u64,
    /// Received frames that were saved from the failed NIC.
    pub frames_salvaged: u64,
    /// From the verdict until a spare stood by again.
    pub redundant_again_ms: f64,
    /// Whether the machine itself stood still in this interruption.
    pub machine_stalled: bool,
    /// How long the machine itself stood still in this interruption.
    pub stalled_us: f64,
}

/// Memory, in KiB.
#[derive(Debug, Serialize)]
pub struct Memory {
    /// RAM of one domain.
    pub domain_kib: u64,
    /// Resident memory of the VMM, all domains included.
    pub vmm_rss_kib: u64,
    /// File descriptors that the VMM has open at the end.
    pub vmm_descriptors: u64,
}

impl FailoverRow {
    /// The row of an outcome; what happens after `until_ns` belongs to the next fault.
    fn new(
        outcome: &Outcome,
        slots: &[Arc<DomainSlot>],
        ledger: &Ledger,
        stalls: &[Stall],
        until_ns: u64,
    ) -> Self {
        let name = |id: DomainId| slots[id.index()].name.clone();
        let (fault_ns, verdict_ns) = (outcome.fault_ns(), outcome.verdict_ns());
        // Where no domain took over at once, the aftermath begins when one serves.
        let served_ns = if outcome.to().is_some() { verdict_ns } else { outcome.redundant_ns };
        let after_ns = until_ns.min(served_ns.max(verdict_ns) + AFTERMATH_NS);
        let gap = ledger.longest_gap(fault_ns, after_ns).unwrap_or_default();
        let (frames_resent, frames_salvaged) = match &outcome.recovery {
            Recovery::Failover(report) => (report.resent, report.salvaged),
            Recovery::Healed { .. } | Recovery::Planned(_) => (0, 0),
        };
        Self {
            cause: outcome.cause(),
            injected: outcome.injected,
            site: outcome.site,
            from: name(outcome.from()),
            to: outcome.to().map_or_else(|| "-".into(), name),
            detect_us: micros(fault_ns, verdict_ns),
            switch_us: outcome.switch_us(),
            interruption_us: micros(gap.from_ns, gap.to_ns),
            metric_us: outcome.metric_us(),
            frames_lost: ledger.lost_between(fault_ns - UNDER_WAY_NS, after_ns),
            frames_resent,
            frames_salvaged,
            redundant_again_ms: micros(verdict_ns, outcome.redundant_ns) / 1000.0,
            machine_stalled: stalls.iter().any(|stall| stall.overlaps(gap.from_ns, gap.to_ns)),
            stalled_us: micros(0, stalled_ns(stalls, gap.from_ns, gap.to_ns)),
        }
    }
}

/// The rows of a run, each with its own stretch of the sender's ledger.
pub(super) fn rows(
    outcomes: &[Outcome],
    slots: &[Arc<DomainSlot>],
    ledger: &Ledger,
    stalls: &[Stall],
) -> Vec<FailoverRow> {
    // The silence that the next fault makes begins with the last echo before it.
    let next = outcomes.iter().skip(1).map(|outcome| outcome.injected_ns - UNDER_WAY_NS);
    let ends = next.chain([u64::MAX]);
    outcomes
        .iter()
        .zip(ends)
        .map(|(o, end)| FailoverRow::new(o, slots, ledger, stalls, end))
        .collect()
}

impl Traffic {
    pub(super) fn of(ledger: &Ledger) -> Self {
        let (sent, received) = (ledger.total_sent(), ledger.total_echoed());
        Self {
            sent,
            received,
            lost: sent - received,
            duplicated: ledger.total_duplicated(),
            corrupted: ledger.total_corrupted(),
            gap_us: ledger.gaps(),
            round_trip_us: ledger.round_trip_us(),
        }
    }
}

impl Memory {
    /// Of this process, now.
    pub(super) fn now() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = rss.and_then(|value| value.split_whitespace().next()?.parse().ok());
        let descriptors = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        Self {
            domain_kib: shared_ring::layout::RAM_BYTES / 1024,
            vmm_rss_kib: kib.unwrap_or(0),
            vmm_descriptors: descriptors as u64,
        }
    }
}

impl Report {
    /// Why the run is no success; `None` if it is one.
    pub fn failure(&self, limits: Limits) -> Option<String> {
        let traffic = &self.traffic;
        if traffic.corrupted > 0 {
            return Some(format!("{} frames came back corrupted", traffic.corrupted));
        }
        let unserved = self.failovers.iter().find(|row| row.to == "-");
        if let Some(row) = unserved.filter(|_| self.policy != Policy::Reboot) {
            return Some(format!("no spare was ready when {} failed", row.from));
        }
        let planned = |row: &FailoverRow| matches!(row.injected, Injection::Operation(_));
        if self.failovers.iter().all(planned) && traffic.lost + traffic.duplicated > 0 {
            return Some(format!(
                "planned operations lost {} datagrams and doubled {}",
                traffic.lost, traffic.duplicated
            ));
        }
        if traffic.received == 0 {
            return Some("no datagram came back".into());
        }
        self.over_limit(limits)
    }

    /// Which limit the interruptions are over, if any.
    fn over_limit(&self, limits: Limits) -> Option<String> {
        let stall_free_us = stall_free_us(&self.failovers);
        let is_limited = limits.max_interruption_ms.or(limits.max_median_interruption_ms).is_some();
        let (judged, all) = (stall_free_us.len(), self.failovers.len());
        if is_limited && (judged == 0 || judged * STALL_FREE_SHARE < all) {
            let stalled = all - judged;
            return Some(format!("the machine stood still in {stalled} of {all} interruptions"));
        }
        if let Some(limit_ms) = limits.max_interruption_ms {
            let worst_ms = stall_free_us.last().map_or(0.0, |us| us / 1000.0);
            if worst_ms > limit_ms {
                return Some(format!(
                    "an interruption of {worst_ms:.2} ms is over the limit of {limit_ms} ms"
                ));
            }
        }
        let limit_ms = limits.max_median_interruption_ms?;
        let median_ms = self.stall_free_median_us? / 1000.0;
        (median_ms > limit_ms).then(|| {
            format!(
                "the median interruption of {median_ms:.2} ms is over the limit of {limit_ms} ms"
            )
        })
    }
}

/// One in this many interruptions must be free of the machine's stalls; otherwise limits judge too
/// little.
const STALL_FREE_SHARE: usize = 3;

/// Interruptions in which the machine did not stand still, microseconds, shortest first.
fn stall_free_us(rows: &[FailoverRow]) -> Vec<f64> {
    let stall_free = rows.iter().filter(|row| !row.machine_stalled);
    let mut sorted: Vec<_> = stall_free.map(|row| row.interruption_us).collect();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// See [`Report::stall_free_median_us`].
pub(super) fn stall_free_median_us(rows: &[FailoverRow]) -> Option<f64> {
    percentile(&stall_free_us(rows), 0.5)
}

#[cfg(test)]
mod tests;

//! The demo's result, as JSON has it (`warmspare.demo/1`), and the verdict on it.

use serde::Serialize;

use crate::domain::DomainSlot;
use crate::fault::Site;
use crate::observe::Stall;
use crate::supervisor::FailoverReport;
use crate::traffic::{Gaps, Ledger};

/// What is wanted of an interruption, in microseconds.
pub(super) const GOAL_INTERRUPTION_US: f64 = 10_000.0;

/// How long after a verdict the sender's books are searched for what the fault did to them: a little
/// longer than the last announcement of a takeover takes.
const AFTERMATH_NS: u64 = 25_000_000;
/// Datagrams sent so long before the fault can still have been under way when it struck.
const UNDER_WAY_NS: u64 = 5_000_000;

/// The whole result.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Name and version of this shape.
    pub schema: &'static str,
    /// Whether the threads of the failover path ran under real-time scheduling.
    pub realtime: bool,
    /// Times in which the machine itself stood still, in milliseconds.
    pub machine_stalls_ms: Vec<f64>,
    /// From the start of the command to the first echo, in milliseconds.
    pub first_echo_ms: f64,
    /// What the sender saw.
    pub traffic: Traffic,
    /// One for each fault.
    pub failovers: Vec<FailoverRow>,
    /// What it costs.
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
}

/// One failover.
#[derive(Debug, Serialize)]
pub struct FailoverRow {
    /// The detector's verdict.
    pub cause: &'static str,
    /// Where the fault was injected.
    pub site: Site,
    /// Name of the failed domain.
    pub from: String,
    /// Name of the domain that took over.
    pub to: String,
    /// From the last stamp before the faulting instruction to the verdict.
    pub detect_us: f64,
    /// From the verdict to the spare's first frame on the wire.
    pub switch_us: f64,
    /// The longest time between successive echoes around the fault, at the sender.
    pub interruption_us: f64,
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

/// A fault with everything the system reported of it.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) site: Site,
    /// When the code was overwritten.
    pub(super) injected_ns: u64,
    pub(super) failover: FailoverReport,
    /// When a spare stood by again.
    pub(super) redundant_ns: u64,
}

impl Outcome {
    /// The nearest stamp before the faulting instruction.
    fn fault_ns(&self) -> u64 {
        self.failover.record.entered_ns.max(self.injected_ns)
    }

    /// Its row in the report; what happens after `until_ns` belongs to the next fault.
    fn row(
        &self,
        slots: &[std::sync::Arc<DomainSlot>],
        ledger: &Ledger,
        stalls: &[Stall],
        until_ns: u64,
    ) -> FailoverRow {
        let record = &self.failover.record;
        let name = |id: crate::domain::DomainId| slots[id.index()].name.clone();
        let after_ns = until_ns.min(record.verdict_ns + AFTERMATH_NS);
        let (gap_from, gap_to) = ledger.longest_gap(self.fault_ns(), after_ns).unwrap_or((0, 0));
        let first_sent_ns = self.failover.first_sent_ns.unwrap_or(record.verdict_ns);
        FailoverRow {
            cause: record.verdict.cause(),
            site: self.site,
            from: name(record.from),
            to: record.to.map_or_else(|| "-".into(), name),
            detect_us: micros(self.fault_ns(), record.verdict_ns),
            switch_us: micros(record.verdict_ns, first_sent_ns),
            interruption_us: micros(gap_from, gap_to),
            frames_lost: ledger.lost_between(self.fault_ns() - UNDER_WAY_NS, after_ns),
            frames_resent: self.failover.resent,
            frames_salvaged: self.failover.salvaged,
            redundant_again_ms: micros(record.verdict_ns, self.redundant_ns) / 1000.0,
            machine_stalled: stalls.iter().any(|stall| stall.overlaps(gap_from, gap_to)),
        }
    }
}

fn micros(from_ns: u64, to_ns: u64) -> f64 {
    to_ns.saturating_sub(from_ns) as f64 / 1000.0
}

/// The rows of a run, each with its own stretch of the sender's books.
pub(super) fn rows(
    outcomes: &[Outcome],
    slots: &[std::sync::Arc<DomainSlot>],
    ledger: &Ledger,
    stalls: &[Stall],
) -> Vec<FailoverRow> {
    let next = outcomes.iter().skip(1).map(|outcome| outcome.injected_ns);
    let ends = next.chain([u64::MAX]);
    outcomes.iter().zip(ends).map(|(o, end)| o.row(slots, ledger, stalls, end)).collect()
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
    pub fn failure(&self, max_interruption_ms: Option<f64>) -> Option<String> {
        let traffic = &self.traffic;
        if traffic.corrupted > 0 {
            return Some(format!("{} frames came back corrupted", traffic.corrupted));
        }
        if let Some(row) = self.failovers.iter().find(|row| row.to == "-") {
            return Some(format!("no spare was ready when {} failed", row.from));
        }
        if traffic.received == 0 {
            return Some("no datagram came back".into());
        }
        let limit_us = max_interruption_ms? * 1000.0;
        let worst = self.failovers.iter().map(|row| row.interruption_us).fold(0.0, f64::max);
        (worst > limit_us)
            .then(|| format!("an interruption of {:.2} ms is over the limit", worst / 1000.0))
    }
}

//! What became of one fault or planned operation, as the system itself reported it.

use super::plan::Injection;
use crate::fault::Cause;
use microvm::domain::DomainId;
use supervisor::{FailoverReport, SwitchReport};

/// A fault or operation with everything that the system reported of it. All times are
/// `CLOCK_MONOTONIC` nanoseconds.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) injected: Injection,
    pub(super) site: &'static str,
    /// When the corruption was made.
    pub(super) injected_ns: u64,
    /// When the driver met faulty code; 0 where that is not known.
    pub(super) struck_ns: u64,
    pub(super) recovery: Recovery,
    /// When a spare stood by again.
    pub(super) redundant_ns: u64,
}

/// How the service came back.
#[derive(Debug)]
pub(super) enum Recovery {
    /// Another domain took over.
    Failover(Box<FailoverReport>),
    /// The domain was woken and went on.
    Healed {
        /// Which domain.
        domain: DomainId,
        /// When it was woken.
        at_ns: u64,
    },
    /// Nothing had failed: another domain took over in a planned switch.
    Planned(SwitchReport),
}

impl Outcome {
    /// The nearest time stamp before the fault. A crash leaves such a stamp behind; for a failure
    /// that a detector finds by sampling, it is the time at which faulty code was put in.
    pub(super) fn fault_ns(&self) -> u64 {
        let struck_ns = self.injected_ns.max(self.struck_ns);
        match &self.recovery {
            Recovery::Planned(report) => report.began_ns,
            Recovery::Failover(report) if self.injected == Injection::Fault(Cause::Crash) => {
                struck_ns.max(report.record.entered_ns)
            }
            Recovery::Failover(_) | Recovery::Healed { .. } => struck_ns,
        }
    }

    /// When the verdict fell.
    pub(super) fn verdict_ns(&self) -> u64 {
        match &self.recovery {
            Recovery::Failover(report) => report.record.verdict_ns,
            Recovery::Healed { at_ns, .. } => *at_ns,
            Recovery::Planned(report) => report.began_ns,
        }
    }

    /// What the failure was found as.
    pub(super) fn cause(&self) -> &'static str {
        match &self.recovery {
            Recovery::Failover(report) => report.record.verdict.cause(),
            Recovery::Healed { .. } => Cause::LostWakeup.name(),
            Recovery::Planned(_) => "planned",
        }
    }

    /// The domain that had the fault.
    pub(super) fn from(&self) -> DomainId {
        match &self.recovery {
            Recovery::Failover(report) => report.record.from,
            Recovery::Healed { domain, .. } => *domain,
            Recovery::Planned(report) => report.from,
        }
    }

    /// The domain that took over; the same one where no failover was needed.
    pub(super) fn to(&self) -> Option<DomainId> {
        match &self.recovery {
            Recovery::Failover(report) => report.record.to,
            Recovery::Healed { domain, .. } => Some(*domain),
            Recovery::Planned(report) => Some(report.to),
        }
    }

    /// How long the service was interrupted by the VMM's own account, microseconds: what
    /// `warmspare_interruption_seconds` is made of. Nothing where no domain failed, or where the NIC
    /// of the successor does not tell when it first sent.
    pub(super) fn metric_us(&self) -> Option<f64> {
        let Recovery::Failover(report) = &self.recovery else { return None };
        let served_ns = match report.record.to {
            Some(_) => report.first_sent_ns?,
            None => self.redundant_ns,
        };
        Some(micros(report.felt_ns, served_ns))
    }

    /// From the verdict to the first frame of the domain that serves now, microseconds. In a
    /// planned switch, how long the guest's frames waited.
    pub(super) fn switch_us(&self) -> f64 {
        match &self.recovery {
            Recovery::Failover(report) => {
                let first_ns = report.first_sent_ns.unwrap_or(report.record.verdict_ns);
                micros(report.record.verdict_ns, first_ns)
            }
            Recovery::Healed { .. } => 0.0,
            Recovery::Planned(report) => report.waited_ns as f64 / 1000.0,
        }
    }
}

/// From one time stamp to a later one, in microseconds.
pub(super) fn micros(from_ns: u64, to_ns: u64) -> f64 {
    to_ns.saturating_sub(from_ns) as f64 / 1000.0
}

//! Events, one for each thing an operator would want to know. Sent off the failover path.

use std::path::PathBuf;
use std::time::Duration;

use super::drill::DrillReport;
use super::roles::RoleState;
use super::rules::SystemState;
use super::switch::SwitchReport;
use super::upgrade::UpgradeReport;
use super::verdict::FailoverRecord;
use microvm::domain::DomainId;

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A NIC's link came or went.
    Link {
        /// Name of the NIC.
        nic: String,
        /// Whether it is up now.
        up: bool,
    },
    /// A domain failed, and what was done about it.
    Failover(Box<FailoverReport>),
    /// A wakeup of a domain was lost; the supervisor woke it, and it went on.
    Healed {
        /// Which one.
        domain: DomainId,
        /// How long work had waited for it, in microseconds.
        delayed_us: u64,
        /// When that was seen, in `CLOCK_MONOTONIC` nanoseconds.
        at_ns: u64,
    },
    /// A domain is built and attached.
    Ready {
        /// Which one.
        domain: DomainId,
        /// What it is now.
        state: RoleState,
        /// When, in `CLOCK_MONOTONIC` nanoseconds.
        at_ns: u64,
    },
    /// A domain could not be built.
    BuildFailed {
        /// Which one.
        domain: DomainId,
        /// Why, in one line.
        reason: String,
        /// Whether it is left alone for a while; [`Event::Quarantined`] follows.
        given_up: bool,
    },
    /// A domain failed too often: it is left alone for a while, and then tried again.
    Quarantined {
        /// Which one.
        domain: DomainId,
        /// For how long; it ends early when nobody else can serve.
        pause: Duration,
    },
    /// The service as a whole became something else.
    State {
        /// What it was.
        from: SystemState,
        /// What it is.
        to: SystemState,
    },
    /// The ring changed hands in plan.
    Switched(SwitchReport),
    /// A standby was drilled; one that failed is built anew.
    Drilled(DrillReport),
    /// All domains run another driver now.
    Upgraded(UpgradeReport),
    /// They do not: it was refused, or rolled back.
    UpgradeFailed {
        /// Why, in one line.
        reason: String,
    },
    /// A domain was written to a folder.
    Dumped {
        /// Which domain.
        domain: DomainId,
        /// The folder.
        folder: PathBuf,
        /// Somebody asked for it, and the domain lives on; else it had failed.
        requested: bool,
    },
    /// A dump is lost.
    DumpLost {
        /// Of which domain.
        domain: DomainId,
        /// Why, in one line.
        reason: String,
    },
    /// A standby was stopped on request.
    Paused {
        /// Which one.
        domain: DomainId,
    },
    /// It runs again on request. One that has to serve runs again without this event.
    Resumed {
        /// Which one.
        domain: DomainId,
    },
    /// A debugger may come to a domain, or has gone.
    Debugger {
        /// Which one.
        domain: DomainId,
        /// Whether one may come.
        attached: bool,
    },
}

/// A failure with what the switchboard and the NICs knew of it afterwards.
#[derive(Clone, Debug)]
pub struct FailoverReport {
    /// What was known at the verdict.
    pub record: FailoverRecord,
    /// When the spare's first frame left its NIC, if it did and the NIC can tell.
    pub first_sent_ns: Option<u64>,
    /// Frames that were sent again through the spare.
    pub resent: u64,
    /// Frames dropped because they were in hand at two failures in a row.
    pub poisoned: u64,
    /// Received frames saved from the failed NIC.
    pub salvaged: u64,
    /// Frame for people: what the domain left behind, one line.
    pub crash_summary: String,
}

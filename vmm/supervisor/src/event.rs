//! Events: everything that an operator would want to know. They are sent off the failover path.

use std::path::PathBuf;
use std::time::Duration;

use super::reports::{DrillReport, SwitchReport, UpgradeReport};
use super::roles::RoleState;
use super::rules::SystemState;
use super::verdict::FailoverRecord;
use microvm::domain::DomainId;

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A NIC's link was lost or has returned.
    Link {
        /// Name of the NIC.
        nic: String,
        /// Whether it is up now.
        up: bool,
    },
    /// A domain failed. The report says what was done about it.
    Failover(Box<FailoverReport>),
    /// A wakeup of a domain was lost. The supervisor woke the domain, and it went on.
    Healed {
        /// The domain.
        domain: DomainId,
        /// How long work had waited, in microseconds.
        delayed_us: u64,
        /// When that was noticed, in `CLOCK_MONOTONIC` nanoseconds.
        at_ns: u64,
    },
    /// A domain is built and attached.
    Ready {
        /// The domain.
        domain: DomainId,
        /// Its role now.
        state: RoleState,
        /// When, in `CLOCK_MONOTONIC` nanoseconds.
        at_ns: u64,
    },
    /// A domain could not be built.
    BuildFailed {
        /// The domain.
        domain: DomainId,
        /// Why not, in one line.
        reason: String,
        /// Whether this was the last attempt before a quarantine; [`Event::Quarantined`] follows.
        given_up: bool,
    },
    /// A domain failed too often. It is not rebuilt before its quarantine ends.
    Quarantined {
        /// The domain.
        domain: DomainId,
        /// For how long. The quarantine ends early when no other domain can serve.
        pause: Duration,
    },
    /// The state of the service as a whole changed.
    State {
        /// The state before.
        from: SystemState,
        /// The state now.
        to: SystemState,
    },
    /// The ring changed hands by a planned switch.
    Switched(SwitchReport),
    /// A standby was drilled. A standby that failed its drill is rebuilt.
    Drilled(DrillReport),
    /// All domains run another driver now.
    Upgraded(UpgradeReport),
    /// An upgrade was refused, or rolled back.
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
        /// Whether the dump was requested of a domain that is alive; otherwise the domain had
        /// failed.
        requested: bool,
    },
    /// A dump is lost.
    DumpLost {
        /// Which domain.
        domain: DomainId,
        /// Why, in one line.
        reason: String,
    },
    /// A standby was stopped on request.
    Paused {
        /// The domain.
        domain: DomainId,
    },
    /// A paused standby was resumed on request. A domain that has to serve is resumed without this
    /// event.
    Resumed {
        /// The domain.
        domain: DomainId,
    },
    /// A domain was opened for a debugger, or the debugger has gone.
    Debugger {
        /// The domain.
        domain: DomainId,
        /// Whether a debugger may be there.
        attached: bool,
    },
}

/// A failure with what the switchboard and the NICs knew of it afterwards.
#[derive(Clone, Debug)]
pub struct FailoverReport {
    /// What was known at the verdict.
    pub record: FailoverRecord,
    /// Since when the guests have felt the failure, `CLOCK_MONOTONIC` nanoseconds: the oldest thing
    /// that the failed domain left undone, a frame that it was given and its NIC did not send or one
    /// that its NIC received and nobody published; if there is none, the verdict.
    pub felt_ns: u64,
    /// When the spare's first frame left its NIC, if one did and the NIC can tell.
    pub first_sent_ns: Option<u64>,
    /// Frames that were sent again through the spare.
    pub resent: u64,
    /// Frames dropped as poison: the domain was at each of them at two failures.
    pub poisoned: u64,
    /// Received frames saved from the failed NIC.
    pub salvaged: u64,
    /// What the failed domain left behind, in one line for people.
    pub crash_summary: String,
}

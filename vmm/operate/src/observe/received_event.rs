//! Events as the recorder receives them from the system.

use std::time::Duration;

use supervisor::{Blame, RoleState, SystemState};

/// An event of the system, with names instead of numbers. Stamps are `CLOCK_MONOTONIC`.
#[derive(Clone, Debug)]
pub(crate) enum ReceivedEvent {
    /// A NIC's link came up or went down.
    Link {
        /// The NIC.
        nic: String,
        /// Whether it is up now.
        up: bool,
    },
    /// A domain was judged to have failed.
    Failover(FailoverFacts),
    /// A domain is built and attached.
    Ready {
        /// The domain.
        domain: String,
        /// Its role now.
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
    /// A planned switch handed the ring to another domain.
    Switched {
        /// The domain that served.
        from: String,
        /// The domain that serves.
        to: String,
        /// How long the guest's frames waited.
        waited_ns: u64,
        /// When the ring was handed over.
        at_ns: u64,
    },
    /// A standby was drilled.
    Drilled {
        /// The standby.
        domain: String,
        /// Whose fault it was, if the drill failed.
        blame: Option<Blame>,
        /// How long the drill took.
        round_trip_ns: u64,
        /// When the drill ended.
        at_ns: u64,
    },
    /// All domains run another driver.
    Upgraded {
        /// The domain that serves now.
        serves: String,
        /// How long the upgrade took.
        took: Duration,
    },
    /// An upgrade was refused or rolled back.
    UpgradeFailed {
        /// Why, in one line.
        reason: String,
    },
    /// A lost wakeup was noticed and repaired.
    Healed {
        /// The domain.
        domain: String,
        /// How long work had waited, microseconds.
        delayed_us: u64,
        /// When.
        at_ns: u64,
    },
    /// The state of the whole service changed.
    State {
        /// The state before.
        from: SystemState,
        /// The state now.
        to: SystemState,
    },
    /// A dump of a domain was written.
    Dumped {
        /// The domain.
        domain: String,
        /// The folder.
        folder: String,
        /// Whether an operator asked for it; the domain lives on then.
        requested: bool,
    },
    /// A dump could not be written.
    DumpLost {
        /// The domain.
        domain: String,
        /// Why, in one line.
        reason: String,
    },
    /// A standby was stopped on request.
    Paused {
        /// The domain.
        domain: String,
    },
    /// A paused domain runs again on request.
    Resumed {
        /// The domain.
        domain: String,
    },
    /// A domain was opened to a debugger, or closed again.
    Debugger {
        /// The domain.
        domain: String,
        /// Whether a debugger may connect.
        attached: bool,
    },
    /// Another front-end has connected to the socket of a guest.
    FrontEndWaits {
        /// The socket.
        socket: String,
        /// How many wait now.
        waiting: usize,
    },
    /// Frames of a guest are not let out, for a reason that was not told before.
    FramesRefused {
        /// Its socket.
        socket: String,
        /// The reason.
        reason: String,
        /// The source that was refused, if that is the reason.
        source: Option<String>,
        /// The line of the topology that mends it.
        mend: String,
    },
    /// A guest has other MAC addresses beside its own than before.
    MacsChanged {
        /// Its socket.
        socket: String,
        /// The addresses.
        macs: Vec<String>,
        /// How many had to make room since the last event.
        pushed_out: u64,
    },
    /// The configuration files were read again.
    Reloaded {
        /// Keys whose new values are in effect.
        applied: Vec<String>,
        /// Keys whose new values take a restart.
        ignored: Vec<String>,
    },
    /// The configuration files could not be read again; nothing has changed.
    ReloadFailed {
        /// Why, in one line.
        reason: String,
    },
}

impl ReceivedEvent {
    /// When the event happened, if it carries a stamp.
    pub(super) fn at_ns(&self) -> Option<u64> {
        match self {
            Self::Failover(facts) => Some(facts.verdict_ns),
            Self::Ready { at_ns, .. }
            | Self::Switched { at_ns, .. }
            | Self::Drilled { at_ns, .. }
            | Self::Healed { at_ns, .. } => Some(*at_ns),
            _ => None,
        }
    }

    /// The domain whose failure this event reports, if it reports one.
    pub(super) fn failed_domain(&self) -> Option<&str> {
        match self {
            Self::Failover(facts) => Some(&facts.from),
            _ => None,
        }
    }
}

/// What the system reports of a failure; the fields are those of `FailoverView` and
/// `supervisor::FailoverRecord`.
#[derive(Clone, Debug, Default)]
pub(crate) struct FailoverFacts {
    pub(crate) from: String,
    pub(crate) epoch: u32,
    pub(crate) was_active: bool,
    pub(crate) to: Option<String>,
    pub(crate) cause: &'static str,
    pub(crate) evidence: String,
    pub(crate) entered_ns: u64,
    pub(crate) felt_ns: u64,
    pub(crate) verdict_ns: u64,
    pub(crate) released_ns: u64,
    pub(crate) first_sent_ns: Option<u64>,
    pub(crate) resent: u64,
    pub(crate) poisoned: u64,
    pub(crate) salvaged: u64,
    pub(crate) crash_summary: String,
}

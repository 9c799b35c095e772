//! What the books are fed with.

use std::time::Duration;

use supervisor::{Blame, RoleState, SystemState};

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
    /// A domain was written to a folder, or the dump is lost.
    Dump {
        /// The domain.
        domain: String,
        /// The folder, or why there is none.
        result: Result<String, String>,
        /// Somebody asked for it, and the domain lives on.
        requested: bool,
    },
    /// A standby was stopped on request.
    Paused {
        /// The domain.
        domain: String,
    },
    /// It runs again on request.
    Resumed {
        /// The domain.
        domain: String,
    },
    /// A debugger may come to a domain, or has gone.
    Debugger {
        /// The domain.
        domain: String,
        /// Whether one may come.
        attached: bool,
    },
    /// Files were read again.
    Reloaded {
        /// What is as they say now.
        applied: Vec<String>,
        /// What they say otherwise, and takes a restart.
        ignored: Vec<String>,
    },
    /// Files were to be read again; everything is as it was.
    ReloadFailed {
        /// Why, in one line.
        reason: String,
    },
}

impl Heard {
    /// The domain that has failed, if that is what happened, and when.
    pub(super) fn failed(&self) -> Option<(&str, u64)> {
        match self {
            Self::Failover(facts) => Some((&facts.from, facts.verdict_ns)),
            _ => None,
        }
    }
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

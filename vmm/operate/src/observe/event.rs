//! Events as the outside sees them: one JSON line each.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use supervisor::topology::EventKind;
use supervisor::{Blame, RoleState, SystemState};

/// One line: what happened, with its number and its time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct EventLine {
    /// Counts up from 1; a gap means lost lines.
    pub(crate) seq: u64,
    /// When it happened, RFC 3339, UTC.
    pub(crate) time: String,
    /// The same moment in nanoseconds of `CLOCK_MONOTONIC`.
    pub(crate) monotonic_ns: u64,
    /// What happened.
    #[serde(flatten)]
    pub(crate) occurrence: Occurrence,
}

/// Something that happened, and when, in nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TimedOccurrence {
    pub(super) at_ns: u64,
    pub(super) occurrence: Occurrence,
}

/// Something that an operator wants to know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(crate) enum Occurrence {
    /// A NIC's link came up or went down.
    Link {
        /// The NIC.
        nic: String,
        /// Whether it is up now.
        up: bool,
    },
    /// A domain was judged to have failed, and this is what was done about it.
    Failover(Box<FailoverView>),
    /// A domain is built and attached.
    Ready {
        /// The domain.
        domain: String,
        /// Its role now.
        role: RoleState,
    },
    /// A domain could not be built. Building it will be tried again.
    BuildFailed {
        /// The domain.
        domain: String,
        /// Why, in one line.
        reason: String,
    },
    /// A domain failed too often. It is left alone for a while, or until it is needed.
    Quarantine {
        /// The domain.
        domain: String,
        /// For how long.
        pause_seconds: f64,
    },
    /// A planned switch handed the ring to another domain.
    Switched {
        /// The domain that served, and stands by now.
        from: String,
        /// The domain that serves.
        to: String,
        /// How long the guest's frames waited.
        waited_us: f64,
    },
    /// A standby was drilled.
    Drilled {
        /// The standby.
        domain: String,
        /// Whether it passed the drill.
        passed: bool,
        /// Whose fault it was, if the drill failed.
        blame: Option<Blame>,
        /// Time from the release of the standby to the answer.
        round_trip_us: f64,
    },
    /// All domains run another driver.
    Upgraded {
        /// The domain that serves now.
        serves: String,
        /// How long the upgrade took, probation included.
        took_seconds: f64,
    },
    /// An upgrade was refused or rolled back.
    UpgradeFailed {
        /// Why, in one line.
        reason: String,
    },
    /// A wakeup of a domain was lost. The loss was noticed and repaired.
    Healed {
        /// The domain.
        domain: String,
        /// How long work had waited.
        delayed_us: u64,
    },
    /// The state of the whole service changed.
    #[serde(rename = "service")]
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
        /// Whether an operator asked for it. The domain lives on then; otherwise it had failed.
        requested: bool,
    },
    /// A dump could not be written.
    DumpLost {
        /// The domain.
        domain: String,
        /// Why, in one line.
        reason: String,
    },
    /// A standby was stopped on request. It runs again when it is resumed, or when it has to serve.
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
    /// Another front-end has connected to the socket of a guest, and waits until the one that is
    /// served has ended.
    FrontEndWaits {
        /// The socket.
        socket: String,
        /// How many wait now.
        waiting: usize,
    },
    /// Frames of a guest are dropped instead of sent. Each reason is told once for each guest; the
    /// state has the numbers.
    FramesRefused {
        /// The guest's socket.
        socket: String,
        /// `source`, `pause`, `bpdu`, `lacp`, `lldp`, `eapol` or `reserved`.
        reason: String,
        /// The source address that the guest may not send from, if that is the reason.
        source: Option<String>,
        /// The line of the topology that mends it.
        mend: String,
    },
    /// The MAC addresses have changed that a guest has beside its own.
    MacsChanged {
        /// The guest's socket.
        socket: String,
        /// The addresses now.
        macs: Vec<String>,
        /// How many had to make room for others since the last such event.
        pushed_out: u64,
    },
    /// The configuration files were read again, on SIGHUP.
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
    /// Another failure would interrupt the service from now on.
    RedundancyLost,
    /// A spare can take over again.
    RedundancyRegained {
        /// How long there was no spare.
        after_us: f64,
    },
}

impl Occurrence {
    /// The kind: the value of the key `event`.
    pub(super) fn kind(&self) -> EventKind {
        match self {
            Self::Link { .. } => EventKind::Link,
            Self::Failover(_) => EventKind::Failover,
            Self::Ready { .. } => EventKind::Ready,
            Self::BuildFailed { .. } => EventKind::BuildFailed,
            Self::Quarantine { .. } => EventKind::Quarantine,
            Self::Switched { .. } => EventKind::Switched,
            Self::Drilled { .. } => EventKind::Drilled,
            Self::Upgraded { .. } => EventKind::Upgraded,
            Self::UpgradeFailed { .. } => EventKind::UpgradeFailed,
            Self::Healed { .. } => EventKind::Healed,
            Self::State { .. } => EventKind::Service,
            Self::Dumped { .. } => EventKind::Dumped,
            Self::DumpLost { .. } => EventKind::DumpLost,
            Self::Paused { .. } => EventKind::Paused,
            Self::Resumed { .. } => EventKind::Resumed,
            Self::Debugger { .. } => EventKind::Debugger,
            Self::FrontEndWaits { .. } => EventKind::FrontEndWaits,
            Self::FramesRefused { .. } => EventKind::FramesRefused,
            Self::MacsChanged { .. } => EventKind::MacsChanged,
            Self::Reloaded { .. } => EventKind::Reloaded,
            Self::ReloadFailed { .. } => EventKind::ReloadFailed,
            Self::RedundancyLost => EventKind::RedundancyLost,
            Self::RedundancyRegained { .. } => EventKind::RedundancyRegained,
        }
    }
}

/// How the failure of a domain ended.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum FailoverOutcome {
    /// The active domain failed and a standby took over.
    TakenOver,
    /// The active domain failed and there was no standby: the service waits for a restart.
    NoSpare,
    /// A domain failed that was not serving.
    StandbyLost,
}

impl FailoverOutcome {
    /// The name in JSON and in labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::TakenOver => "taken-over",
            Self::NoSpare => "no-spare",
            Self::StandbyLost => "standby-lost",
        }
    }
}

/// One failure of a domain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FailoverView {
    /// Counts up from 1.
    pub number: u64,
    /// When the domain was judged to have failed, RFC 3339, UTC.
    pub verdict_time: String,
    /// The failed domain.
    pub from: String,
    /// Number of its life.
    pub epoch: u32,
    /// The domain that took over.
    pub to: Option<String>,
    /// The detector's name.
    pub cause: String,
    /// What the detector saw.
    pub evidence: String,
    /// How it ended.
    pub outcome: FailoverOutcome,
    /// How long each step of the failover took.
    pub phases: Phases,
    /// How long the service was interrupted, if it was and has gone on since: from the oldest frame
    /// that the failed domain left undone (one that it was given and its NIC did not send, or one
    /// that its NIC received and nobody published), or else the verdict, to the first frame of its
    /// successor. The phases do not add up to it.
    pub interruption_us: Option<f64>,
    /// Frames sent again through the spare.
    pub resent: u64,
    /// Frames dropped because two domains in a row failed while they had them.
    pub poisoned: u64,
    /// Received frames saved from the failed domain's NIC.
    pub salvaged: u64,
    /// The state in which the domain was left, in one line.
    #[serde(rename = "epitaph")]
    pub crash_summary: String,
    /// Folder with the dump of the failed domain, once it is written.
    pub dump: Option<String>,
}

/// Durations of the steps of a failover, microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Phases {
    /// From the last entry of the failed domain's vCPU into its guest to the verdict.
    pub detect_us: f64,
    /// From the verdict to the release of the spare.
    pub release_us: Option<f64>,
    /// From the release to the spare's first frame on the wire.
    pub first_frame_us: Option<f64>,
    /// From the verdict until the failed domain was rebuilt.
    pub rebuild_us: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_flat_and_names_its_kind() {
        let occurrence = Occurrence::Link { nic: "nic-a".into(), up: false };
        let kind = occurrence.kind();
        let line = EventLine { seq: 7, time: "t".into(), monotonic_ns: 9, occurrence };
        let value = serde_json::to_value(&line).unwrap();
        assert_eq!(
            value,
            serde_json::json!({
                "seq": 7, "time": "t", "monotonic_ns": 9, "event": kind.name(), "nic": "nic-a", "up": false
            })
        );
        assert_eq!(serde_json::from_value::<EventLine>(value).unwrap(), line);
    }
}

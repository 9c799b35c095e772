//! Events as the outside sees them: one JSON line each.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use supervisor::topology::EventKind;
use supervisor::{Blame, RoleState, SystemState};

/// One line: what happened, with its number and time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EventLine {
    /// Counts up from 1; a gap means lost lines.
    pub seq: u64,
    /// When it happened, RFC 3339, UTC.
    pub time: String,
    /// The same in nanoseconds of `CLOCK_MONOTONIC`.
    pub monotonic_ns: u64,
    /// What.
    #[serde(flatten)]
    pub occurrence: Occurrence,
}

/// Something an operator would want to know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Occurrence {
    /// A NIC's link came or went.
    Link {
        /// The NIC.
        nic: String,
        /// Whether it is up now.
        up: bool,
    },
    /// A verdict fell on a domain, and what was done about it.
    Failover(Box<FailoverView>),
    /// A domain is built and attached.
    Ready {
        /// The domain.
        domain: String,
        /// What it is now.
        role: RoleState,
    },
    /// A domain could not be built; it will be tried again.
    BuildFailed {
        /// The domain.
        domain: String,
        /// Why, in one line.
        reason: String,
    },
    /// A domain failed too often: it is left alone for a while, or until it is needed.
    Quarantine {
        /// The domain.
        domain: String,
        /// For how long.
        pause_seconds: f64,
    },
    /// The ring changed hands in plan.
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
        /// Whether it has proved itself.
        passed: bool,
        /// Whose fault it was.
        blame: Option<Blame>,
        /// From the release of the standby to the answer.
        round_trip_us: f64,
    },
    /// All domains run another driver.
    Upgraded {
        /// The domain that serves now.
        serves: String,
        /// How long it took, probation included.
        took_seconds: f64,
    },
    /// They do not: it was refused, or rolled back.
    UpgradeFailed {
        /// Why, in one line.
        reason: String,
    },
    /// A wakeup of a domain was lost; it was noticed and made good.
    Healed {
        /// The domain.
        domain: String,
        /// How long work had waited.
        delayed_us: u64,
    },
    /// The service as a whole became something else.
    #[serde(rename = "service")]
    State {
        /// What it was.
        from: SystemState,
        /// What it is.
        to: SystemState,
    },
    /// A domain was written to a folder.
    Dumped {
        /// The domain.
        domain: String,
        /// The folder.
        folder: String,
        /// Somebody asked for it, and the domain lives on; else it had failed.
        requested: bool,
    },
    /// A dump is lost.
    DumpLost {
        /// The domain.
        domain: String,
        /// Why, in one line.
        reason: String,
    },
    /// A standby was stopped on request. It runs again when it is resumed, or has to serve.
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
    /// Files were read again, on SIGHUP.
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
    /// From now on no failure may happen.
    RedundancyLost,
    /// A spare stands by again.
    RedundancyRegained {
        /// How long there was none.
        after_us: f64,
    },
}

impl Occurrence {
    /// Its kind: the value of the key `event`.
    pub fn kind(&self) -> EventKind {
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
            Self::Reloaded { .. } => EventKind::Reloaded,
            Self::ReloadFailed { .. } => EventKind::ReloadFailed,
            Self::RedundancyLost => EventKind::RedundancyLost,
            Self::RedundancyRegained { .. } => EventKind::RedundancyRegained,
        }
    }
}

/// How a failure ended.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum FailoverOutcome {
    /// The active domain failed and a standby took over.
    TakenOver,
    /// The active domain failed and there was no standby: the service waits for a restart.
    NoSpare,
    /// A domain failed that did not serve.
    StandbyLost,
}

impl FailoverOutcome {
    /// As it stands in JSON and in labels.
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
    /// When the verdict fell, RFC 3339, UTC.
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
    /// How long each step took.
    pub phases: Phases,
    /// How long the service stood still, if it did and has gone on since.
    pub interruption_us: Option<f64>,
    /// Frames sent again through the spare.
    pub resent: u64,
    /// Frames dropped because they were in hand at two failures in a row.
    pub poisoned: u64,
    /// Received frames saved from the failed NIC.
    pub salvaged: u64,
    /// What the domain left behind, in one line.
    pub epitaph: String,
    /// Folder with its remains, once they are written.
    pub dump: Option<String>,
}

/// The steps of a failover, microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Phases {
    /// From the last entry of the failed domain's vCPU into its guest to the verdict.
    pub detect_us: f64,
    /// From the verdict until the spare was released.
    pub release_us: Option<f64>,
    /// From there to the spare's first frame on the wire.
    pub first_frame_us: Option<f64>,
    /// From the verdict until the failed domain was built anew.
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

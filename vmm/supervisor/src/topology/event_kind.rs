//! The names of all events, for topologies that ask for some of them.

/// What kind an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "`operate::observe::event::Occurrence` describes each")]
pub enum EventKind {
    Link,
    Failover,
    Ready,
    BuildFailed,
    Quarantine,
    Switched,
    Drilled,
    Upgraded,
    UpgradeFailed,
    Healed,
    Service,
    Dumped,
    DumpLost,
    Paused,
    Resumed,
    Debugger,
    FrontEndWaits,
    FramesRefused,
    MacsChanged,
    Reloaded,
    ReloadFailed,
    RedundancyLost,
    RedundancyRegained,
}

impl EventKind {
    /// All kinds.
    pub const ALL: [Self; 23] = [
        Self::Link,
        Self::Failover,
        Self::Ready,
        Self::BuildFailed,
        Self::Quarantine,
        Self::Switched,
        Self::Drilled,
        Self::Upgraded,
        Self::UpgradeFailed,
        Self::Healed,
        Self::Service,
        Self::Dumped,
        Self::DumpLost,
        Self::Paused,
        Self::Resumed,
        Self::Debugger,
        Self::FrontEndWaits,
        Self::FramesRefused,
        Self::MacsChanged,
        Self::Reloaded,
        Self::ReloadFailed,
        Self::RedundancyLost,
        Self::RedundancyRegained,
    ];

    /// The value of the key `event`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::Failover => "failover",
            Self::Ready => "ready",
            Self::BuildFailed => "build-failed",
            Self::Quarantine => "quarantine",
            Self::Switched => "switched",
            Self::Drilled => "drilled",
            Self::Upgraded => "upgraded",
            Self::UpgradeFailed => "upgrade-failed",
            Self::Healed => "healed",
            Self::Service => "service",
            Self::Dumped => "dumped",
            Self::DumpLost => "dump-lost",
            Self::Paused => "paused",
            Self::Resumed => "resumed",
            Self::Debugger => "debugger",
            Self::FrontEndWaits => "front-end-waits",
            Self::FramesRefused => "frames-refused",
            Self::MacsChanged => "macs-changed",
            Self::Reloaded => "reloaded",
            Self::ReloadFailed => "reload-failed",
            Self::RedundancyLost => "redundancy-lost",
            Self::RedundancyRegained => "redundancy-regained",
        }
    }

    /// The kind of that name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

//! The classes of what becomes of an injection.

use serde::{Deserialize, Serialize};

/// What became of an injection. Exactly one class is true of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InjectionOutcome {
    /// Execution never reached the fault. It counts in no denominator.
    NotActivated,
    /// No failure was detected and the service did not suffer.
    Masked,
    /// Detected as a crash, and recovered.
    Crash,
    /// Detected as a hang, and recovered.
    Hang,
    /// Detected as a stall (the driver is alive, but serves nothing), and recovered.
    Stall,
    /// Detected as silence (a claim that the NIC's counters refute, a lost wakeup, a NIC's register
    /// that is not as it should be), and recovered.
    Silence,
    /// Detected as a breach of the shared rings' protocol, and recovered.
    Protocol,
    /// Detected as a lost link, and recovered.
    Link,
    /// Detected, and the service recovered, but not everything did: for instance, no spare stood by
    /// again.
    Degraded,
    /// Detected, and the service did not come back.
    Unrecovered,
    /// The service stopped or was damaged, and nothing was detected.
    SilentFailure,
    /// The application guest was harmed: a foreign or damaged frame that its checksums do not
    /// catch, a store to memory outside posted buffers or to its virtqueues.
    Corrupted,
    /// A sound domain was found to have failed.
    FalseFailover,
}

impl InjectionOutcome {
    /// All classes, in the order of tables.
    pub const ALL: [Self; 13] = [
        Self::NotActivated,
        Self::Masked,
        Self::Crash,
        Self::Hang,
        Self::Stall,
        Self::Silence,
        Self::Protocol,
        Self::Link,
        Self::Degraded,
        Self::Unrecovered,
        Self::SilentFailure,
        Self::Corrupted,
        Self::FalseFailover,
    ];

    /// The name in files and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotActivated => "not-activated",
            Self::Masked => "masked",
            Self::Crash => "crash",
            Self::Hang => "hang",
            Self::Stall => "stall",
            Self::Silence => "silence",
            Self::Protocol => "protocol",
            Self::Link => "link",
            Self::Degraded => "degraded",
            Self::Unrecovered => "unrecovered",
            Self::SilentFailure => "silent-failure",
            Self::Corrupted => "corrupted",
            Self::FalseFailover => "false-failover",
        }
    }

    /// Returns true if a detector found the fault and everything recovered, spare included.
    pub fn is_recovered(self) -> bool {
        matches!(
            self,
            Self::Crash | Self::Hang | Self::Stall | Self::Silence | Self::Protocol | Self::Link
        )
    }

    /// Returns true if the class is one of detected failures or, as harm that may go unnoticed, can
    /// be one.
    pub fn can_be_detected(self) -> bool {
        self.is_recovered() || matches!(self, Self::Degraded | Self::Unrecovered | Self::Corrupted)
    }

    /// Returns true if a person should look into it.
    pub fn is_bad(self) -> bool {
        !self.is_recovered() && !matches!(self, Self::NotActivated | Self::Masked)
    }
}

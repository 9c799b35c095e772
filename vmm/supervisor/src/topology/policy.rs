//! What happens when the active domain fails.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What happens when the active domain fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// A spare stands attached and paused, and takes over at once. Needs two domains.
    #[default]
    FastSpare,
    /// A spare stands booted and paused, without its NIC: its driver attaches at takeover. Needs
    /// two domains.
    Spare,
    /// No spare: the failed domain is restarted in place.
    Reboot,
}

impl Policy {
    /// All policies.
    pub const ALL: [Self; 3] = [Self::FastSpare, Self::Spare, Self::Reboot];

    /// The policy of that name, as in a topology.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.name() == name)
    }

    /// As in a topology.
    pub fn name(self) -> &'static str {
        match self {
            Self::FastSpare => "fast-spare",
            Self::Spare => "spare",
            Self::Reboot => "reboot",
        }
    }

    /// Returns true if a standby's driver has already attached its NIC.
    pub fn attaches_early(self) -> bool {
        match self {
            // With one domain, the only standby is the rebuilt one, which serves at once.
            Self::FastSpare | Self::Reboot => true,
            Self::Spare => false,
        }
    }
}

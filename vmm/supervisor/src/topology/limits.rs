//! What an operator may tune about repeated failovers, with the reason for each default.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When a domain or a link counts as flapping, and what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// A domain that fails so often within `window_s` is quarantined; 1 to 100000.
    ///
    /// Default 5: a cause that returns three or four times is more likely traffic that will pass
    /// than a broken NIC or driver, and each failover costs the service about a millisecond.
    pub failures: u32,
    /// Seconds in which failures add up. Default 60.
    pub window_s: u32,
    /// Seconds of the first quarantine. The time doubles with each further quarantine, unless the
    /// domain was healthy for the same time after it. Default 30: long enough for an operator to
    /// read the event, and short enough that a passing cause does not cost the spare for longer.
    pub quarantine_s: u32,
    /// Longest quarantine in seconds. Default 3600: one attempt an hour costs nothing, and a NIC
    /// that was replaced returns without a command.
    pub quarantine_max_s: u32,
    /// Losses of a NIC's link within `link_window_s` that are forgiven; then each return of the
    /// link is trusted later. Default 3: a switch that restarts drops its links two or three times.
    pub link_flaps: u32,
    /// Seconds in which losses add up. Default 60.
    pub link_window_s: u32,
    /// Milliseconds for which a flapping link must be up before its domain is healthy again;
    /// doubles with each further loss. Default 100: longer than a loose plug bounces.
    pub link_hold_ms: u32,
    /// Longest such time in milliseconds. Default 10000: the longest time for which a link that is
    /// up is not used although every other link is down.
    pub link_hold_max_ms: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            failures: 5,
            window_s: 60,
            quarantine_s: 30,
            quarantine_max_s: 3600,
            link_flaps: 3,
            link_window_s: 60,
            link_hold_ms: 100,
            link_hold_max_ms: 10_000,
        }
    }
}

/// Whether the service goes back to a preferred domain once that is healthy again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum FailBackSpec {
    /// The serving domain continues: each switch has a price, and the domains are equal.
    #[default]
    Never,
    /// One domain serves whenever it can. The service returns to it by a planned switch, so the
    /// policy must be `fast-spare`.
    Prefer {
        /// Name of the domain.
        domain: String,
        /// Seconds for which it must be a healthy standby without a break before; at most 86400.
        hold_s: u32,
    },
}

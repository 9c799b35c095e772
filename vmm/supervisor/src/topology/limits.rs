//! What an operator may tune about failing over again and again, with the reason of each default.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When a domain or a link counts as flapping, and what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// A domain that fails so often within `window_s` is quarantined; 1 to 100000.
    ///
    /// Default 5: a cause that comes back three or four times is more likely traffic that will
    /// pass than a NIC or driver that will not; each costs the service about a millisecond.
    pub failures: u32,
    /// Seconds in which failures add up. Default 60.
    pub window_s: u32,
    /// Seconds of the first quarantine; it doubles with each one that follows without a healthy
    /// time of the same length between. Default 30: long enough for somebody to read the event,
    /// and short enough that a spare is missing for no more than that after a passing cause.
    pub quarantine_s: u32,
    /// Longest quarantine in seconds. Default 3600: one try an hour costs nothing, and a NIC that
    /// was replaced comes back without a command.
    pub quarantine_max_s: u32,
    /// Losses of a NIC's link within `link_window_s` that are forgiven; then each return of the
    /// link is trusted later. Default 3: a switch that restarts drops its links two or three times.
    pub link_flaps: u32,
    /// Seconds in which losses add up. Default 60.
    pub link_window_s: u32,
    /// Milliseconds for which a flapping link must be up before its domain is healthy again; doubles
    /// with each further loss. Default 100: longer than a loose plug bounces.
    pub link_hold_ms: u32,
    /// Longest such time in milliseconds. Default 10000: what a service can be denied of a link
    /// that is up at the moment, where every other is down.
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

/// Whether to go back to a domain that failed and is whole again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum FailBackSpec {
    /// Whoever serves goes on: each switch has a price, and the domains are alike.
    #[default]
    Never,
    /// One domain serves whenever it can. By a planned switch, so the policy must be `fast-spare`.
    Prefer {
        /// Name of the domain.
        domain: String,
        /// Seconds for which it must be a healthy standby without a break before; at most 86400.
        hold_s: u32,
    },
}

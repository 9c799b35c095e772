//! The state of the whole system at one moment, in the shape the API shows. Keys are stable.
//!
//! Times are in microseconds where a key ends in `_us`, in seconds where it ends in `_seconds`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::event::FailoverView;
use super::histogram::HistogramView;
use supervisor::{RoleState, SystemState};

/// Name and version of [`Snapshot`]'s shape.
pub const SCHEMA: &str = "warmspare.state/1";

/// Everything.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Snapshot {
    /// `warmspare.state/1`.
    pub schema: String,
    /// Version of the program.
    pub version: String,
    /// When, RFC 3339, UTC.
    pub time: String,
    /// Since the program began to observe.
    pub uptime_seconds: f64,
    /// Name of the topology.
    pub name: String,
    /// What happens when the active domain fails: `fast-spare` or `reboot`.
    pub policy: String,
    /// What the service is worth: `normal`, `disconnected` or `error`.
    pub state: SystemState,
    /// Whether one domain serves and another, healthy one could take over now.
    pub redundant: bool,
    /// Name of the domain that serves, if any.
    pub active: Option<String>,
    /// Whether all threads of the failover path run under real-time scheduling.
    pub realtime: bool,
    /// The domains, in the topology's order.
    pub domains: Vec<DomainView>,
    /// Counters of the switchboard by name.
    pub counters: BTreeMap<String, u64>,
    /// Failures so far by cause and outcome.
    pub failovers: Vec<FailoverCount>,
    /// The newest failures, newest first.
    pub last_failovers: Vec<FailoverView>,
    /// How long the service stood still.
    pub interruption: InterruptionView,
    /// Rates of the last second.
    pub rates: Rates,
}

/// One domain.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct DomainView {
    /// Its name.
    pub name: String,
    /// What it is now.
    pub role: RoleState,
    /// Number of its life, counted from 1.
    pub epoch: u32,
    /// Whether nothing speaks against its taking over: link, flapping, last drill.
    pub healthy: bool,
    /// Whether an operator has put it aside: paused, or in a debugger.
    pub aside: bool,
    /// Its NIC.
    pub nic: NicView,
    /// Turns of its loop in this life, by its own word.
    pub heartbeat: u64,
    /// Whether it sleeps until there is work.
    pub parked: bool,
    /// How its driver attached the NIC: `none`, `reattach` or `reset`.
    pub attach: String,
    /// CPU time of this life.
    pub cpu_seconds: Option<f64>,
    /// Times it left the guest in this life, by reason.
    pub exits: BTreeMap<String, u64>,
    /// Counters of its driver in this life, by its own word.
    pub driver: BTreeMap<String, u64>,
    /// Entries in its four rings.
    pub rings: RingDepths,
}

impl DomainView {
    /// Whether nothing speaks against its serving now; of the one that serves, its link alone.
    pub fn is_able(&self) -> bool {
        match self.role {
            RoleState::Active => self.nic.link_up != Some(false),
            _ => self.healthy,
        }
    }
}

/// A NIC.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct NicView {
    /// Its name.
    pub name: String,
    /// Whether its link is up; unknown while its domain is being built.
    pub link_up: Option<bool>,
}

/// Entries in the rings between the switchboard and a domain; no ring holds more than 1,024.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RingDepths {
    /// Frames posted, not yet taken by the domain.
    pub tx_post: u32,
    /// Frames claimed sent, not yet seen by the switchboard.
    pub tx_done: u32,
    /// Empty buffers that the domain has not taken yet.
    pub rx_provide: u32,
    /// Frames received, not yet seen by the switchboard.
    pub rx_done: u32,
}

/// Failures of one cause that ended in the same way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FailoverCount {
    /// The detector's name.
    pub cause: String,
    /// `taken-over`, `no-spare` or `standby-lost`.
    pub outcome: String,
    /// How many.
    pub count: u64,
}

/// Interruptions as the VMM sees them: from the last entry of the failed domain's vCPU into its
/// guest to the first frame that the NIC of the next one sent; without a spare, until the restart.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct InterruptionView {
    /// Upper edges of the buckets, inclusive.
    pub edges_us: Vec<u64>,
    /// All causes together.
    pub all: HistogramView,
    /// Each cause by itself.
    pub by_cause: BTreeMap<String, HistogramView>,
}

/// What went through, per second, averaged over the time since the sample before.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rates {
    /// End of the interval, seconds since the program began to observe.
    pub at_seconds: f64,
    /// Frames of the guest.
    pub tx_frames: f64,
    /// Bytes of these.
    pub tx_bytes: f64,
    /// Frames to the guest.
    pub rx_frames: f64,
    /// Bytes of these.
    pub rx_bytes: f64,
    /// Frames sent and not yet confirmed by a NIC, at the end of the interval.
    pub tx_unconfirmed: u64,
    /// Entries in the rings of the domain that serves, at the end of the interval.
    pub rings: RingDepths,
    /// Share of the time in which each domain's vCPU did not run, in the topology's order.
    pub parked_share: Vec<f64>,
}

/// Whether one domain serves and another could take over, nothing speaking against either.
pub fn is_redundant<'a>(domains: impl Iterator<Item = (RoleState, bool)> + Clone + 'a) -> bool {
    let has = |wanted| domains.clone().any(|(role, healthy)| role == wanted && healthy);
    has(RoleState::Active) && has(RoleState::Standby)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standby_without_a_link_is_no_spare() {
        let redundant = |domains: &[_]| is_redundant(domains.iter().copied());
        assert!(redundant(&[(RoleState::Active, true), (RoleState::Standby, true)]));
        assert!(!redundant(&[(RoleState::Active, true), (RoleState::Standby, false)]));
        assert!(!redundant(&[(RoleState::Active, true), (RoleState::Restarting, true)]));
        assert!(!redundant(&[(RoleState::Standby, true), (RoleState::Standby, true)]));
        assert!(!redundant(&[]));
    }
}

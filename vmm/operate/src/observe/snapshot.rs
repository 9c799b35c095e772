//! The state of the whole system at one moment, in the shape that the API shows. Keys are stable.
//!
//! A key that ends in `_us` is a time in microseconds, one that ends in `_seconds` in seconds.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::event::FailoverView;
use super::histogram::HistogramView;
use supervisor::{RoleState, SystemState};

/// Name and version of [`Snapshot`]'s shape.
pub(super) const SCHEMA: &str = "warmspare.state/1";

/// State of the whole system.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Snapshot {
    /// `warmspare.state/1`.
    pub schema: String,
    /// Version of the program.
    pub version: String,
    /// When the snapshot was made, RFC 3339, UTC.
    pub time: String,
    /// Time since the program began to observe.
    pub uptime_seconds: f64,
    /// Name of the topology.
    pub name: String,
    /// What happens when the active domain fails: `fast-spare`, `spare` or `reboot`.
    pub policy: String,
    /// State of the service: `normal`, `disconnected` or `error`.
    pub state: SystemState,
    /// Whether one domain serves and another, healthy one could take over now.
    pub redundant: bool,
    /// Name of the domain that serves, if any.
    pub active: Option<String>,
    /// Whether all threads of the failover path run under real-time scheduling.
    pub realtime: bool,
    /// The domains, in the topology's order.
    pub domains: Vec<DomainView>,
    /// The application guests' sockets, in the topology's order.
    #[serde(default)]
    pub apps: Vec<AppView>,
    /// Counters of the switchboard by name.
    pub counters: BTreeMap<String, u64>,
    /// Failures so far by cause and outcome.
    pub failovers: Vec<FailoverCount>,
    /// The newest failures, newest first.
    pub last_failovers: Vec<FailoverView>,
    /// How long the service was interrupted.
    pub interruption: InterruptionView,
    /// Rates of the last second.
    pub rates: Rates,
}

/// One domain.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct DomainView {
    /// Its name.
    pub name: String,
    /// Its role now.
    pub role: RoleState,
    /// Number of its life, counted from 1.
    pub epoch: u32,
    /// Whether it could take over: its link is up and steady, and it passed its last drill.
    pub healthy: bool,
    /// Whether an operator has paused it or opened it to a debugger.
    pub aside: bool,
    /// Its NIC.
    pub nic: NicView,
    /// Turns of its loop in this life, as the domain itself reports them.
    pub heartbeat: u64,
    /// Whether its vCPU sleeps until there is work.
    pub parked: bool,
    /// How its driver attached the NIC: `none`, `reattach` or `reset`.
    pub attach: String,
    /// CPU time of its vCPU in this life.
    pub cpu_seconds: Option<f64>,
    /// Exits of its vCPU in this life, by reason.
    pub exits: BTreeMap<String, u64>,
    /// Counters of its driver in this life, as the domain itself reports them.
    pub driver: BTreeMap<String, u64>,
    /// Entries in its four rings.
    pub rings: RingDepths,
}

impl DomainView {
    /// Returns true if nothing speaks against its serving now. For the domain that serves, only its
    /// link counts.
    pub(super) fn is_able(&self) -> bool {
        match self.role {
            RoleState::Active => self.nic.link_up != Some(false),
            _ => self.healthy,
        }
    }
}

/// The socket of one application guest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AppView {
    /// Its path.
    pub socket: String,
    /// Whether the VMM listens there, and warmspare connects.
    #[serde(default)]
    pub connects: bool,
    /// Whether a front-end is served.
    pub connected: bool,
    /// How many front-ends have connected beside it, and wait until it ends.
    pub waiting: usize,
    /// MAC addresses that the guest has now beside its own, sorted.
    #[serde(default)]
    pub macs: Vec<String>,
    /// Learned MAC addresses that had to make room for others so far.
    #[serde(default)]
    pub macs_pushed_out: u64,
    /// Frames of the guest that were not let out, by reason.
    #[serde(default)]
    pub refused: BTreeMap<String, u64>,
    /// Source of the last frame that was refused for it.
    #[serde(default)]
    pub refused_source: Option<String>,
}

/// A NIC.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct NicView {
    /// Its name.
    pub name: String,
    /// Whether its link is up; unknown while its domain is being built.
    pub link_up: Option<bool>,
    /// Its frames since the start by what became of them: `sent`, `received`, and what was lost or
    /// not wanted; `vanished` are those that it received and a failed driver never passed on.
    #[serde(default)]
    pub counters: BTreeMap<String, u64>,
    /// Whether it, or the TAP of one in software, is there.
    pub present: bool,
    /// What is known to keep it or its link from working, if anything is.
    pub trouble: Option<String>,
}

/// Entries in the rings between the switchboard and a domain; no ring holds more than 1,024.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RingDepths {
    /// Frames posted that the domain has not taken yet.
    pub tx_post: u32,
    /// Frames that the domain reports as sent and the switchboard has not seen yet.
    pub tx_done: u32,
    /// Empty buffers that the domain has not taken yet.
    pub rx_provide: u32,
    /// Received frames that the switchboard has not seen yet.
    pub rx_done: u32,
}

/// Number of failures with one cause and one outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FailoverCount {
    /// The detector's name.
    pub cause: String,
    /// `taken-over`, `no-spare` or `standby-lost`.
    pub outcome: String,
    /// Their number.
    pub count: u64,
}

/// Interruptions as the VMM sees them: from the oldest frame that the failed domain left undone, or
/// else the verdict, to the first frame that its successor's NIC sent; without a spare, to the
/// restart.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct InterruptionView {
    /// Upper edges of the buckets, inclusive.
    pub edges_us: Vec<u64>,
    /// All causes together.
    pub all: HistogramView,
    /// Each cause by itself.
    pub by_cause: BTreeMap<String, HistogramView>,
}

/// Traffic per second, averaged over the time since the previous sample.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rates {
    /// End of the interval, seconds since the program began to observe.
    pub at_seconds: f64,
    /// Frames from the guest.
    pub tx_frames: f64,
    /// Bytes of these frames.
    pub tx_bytes: f64,
    /// Frames to the guest.
    pub rx_frames: f64,
    /// Bytes of these frames.
    pub rx_bytes: f64,
    /// Frames sent and not yet confirmed by a NIC, at the end of the interval.
    pub tx_unconfirmed: u64,
    /// Entries in the rings of the domain that serves, at the end of the interval.
    pub rings: RingDepths,
    /// Share of the time in which each domain's vCPU did not run, in the topology's order.
    pub parked_share: Vec<f64>,
}

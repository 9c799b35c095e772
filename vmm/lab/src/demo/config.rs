//! What a demo is to do.

use std::time::Duration;

use super::plan::Plan;
use operate::control::PlaneOptions;
use supervisor::topology::{DumpSpec, Policy};

/// What a demo is to do.
#[derive(Clone, Debug)]
pub struct DemoConfig {
    /// Faults to inject.
    pub faults: u32,
    /// Which faults.
    pub plan: Plan,
    /// Between two datagrams of the sender.
    pub period: Duration,
    /// What happens when the active domain fails.
    pub policy: Policy,
    /// Where failed domains leave their core files, if anywhere.
    pub dumps: Option<DumpSpec>,
    /// Seed of the random moments of injection.
    pub seed: u64,
    /// Whether to show progress.
    pub progress: bool,
    /// Whether to go on with the traffic after the last fault, until SIGINT or SIGTERM.
    pub stay: bool,
    /// Where the demo can be watched.
    pub plane: PlaneOptions,
    /// When the command began, `CLOCK_MONOTONIC` nanoseconds.
    pub began_ns: u64,
}

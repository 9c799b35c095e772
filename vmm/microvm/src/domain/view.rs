//! A life as those see it who only look.

use std::sync::Arc;

use super::vcpu::{Shared, VcpuState};
use super::{CpuClock, ExitCounts};

/// Reads a life's counters without keeping it alive: what it holds after the life is torn down is
/// memory of a few hundred bytes.
#[derive(Clone)]
pub struct LifeView {
    pub(super) shared: Arc<Shared>,
    pub(super) cpu_clock: CpuClock,
}

impl LifeView {
    /// Number of the life.
    pub fn epoch(&self) -> u32 {
        self.shared.epoch
    }

    /// Where the vCPU thread is.
    pub fn state(&self) -> VcpuState {
        self.shared.state()
    }

    /// CPU time of the vCPU thread, nanoseconds; `None` once it is gone.
    pub fn cpu_ns(&self) -> Option<u64> {
        self.cpu_clock.now_ns()
    }

    /// Exits so far.
    pub fn exits(&self) -> ExitCounts {
        self.shared.exits.snapshot()
    }
}

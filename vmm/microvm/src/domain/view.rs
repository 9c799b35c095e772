//! A life as seen by those who only read its counters.

use std::sync::Arc;

use super::cpu_clock::CpuClock;
use super::exit_counts::ExitCounts;
use super::life_state::LifeState;
use super::vcpu_state::VcpuState;

/// Reads a life's counters without keeping it alive: what it holds after the life is torn down is
/// memory of a few hundred bytes.
#[derive(Clone)]
pub struct LifeView {
    pub(super) state: Arc<LifeState>,
    pub(super) cpu_clock: CpuClock,
}

impl LifeView {
    /// Number of the life.
    pub fn epoch(&self) -> u32 {
        self.state.epoch
    }

    /// Where the vCPU thread is.
    pub fn state(&self) -> VcpuState {
        self.state.vcpu()
    }

    /// CPU time of the vCPU thread, nanoseconds; `None` once it is gone.
    pub fn cpu_ns(&self) -> Option<u64> {
        self.cpu_clock.now_ns()
    }

    /// Exits so far.
    pub fn exits(&self) -> ExitCounts {
        self.state.exits.snapshot()
    }
}

//! How often a domain left the guest, and why.

use std::sync::atomic::{AtomicU64, Ordering};

/// Exits to the VMM's user space, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExitCounts {
    /// WAIT calls.
    pub waits: u64,
    /// READY, LOG and other calls.
    pub calls: u64,
    /// Loads from registers.
    pub register_loads: u64,
    /// Stores to registers.
    pub register_stores: u64,
    /// Kicks and signals.
    pub interruptions: u64,
}

/// The counters behind [`ExitCounts`]; one thread writes them.
#[derive(Debug, Default)]
pub(super) struct ExitCounters {
    pub(super) waits: ExitCounter,
    pub(super) calls: ExitCounter,
    pub(super) register_loads: ExitCounter,
    pub(super) register_stores: ExitCounter,
    pub(super) interruptions: ExitCounter,
}

impl ExitCounters {
    /// The counts as they are now.
    pub(super) fn snapshot(&self) -> ExitCounts {
        ExitCounts {
            waits: self.waits.count(),
            calls: self.calls.count(),
            register_loads: self.register_loads.count(),
            register_stores: self.register_stores.count(),
            interruptions: self.interruptions.count(),
        }
    }
}

/// A counter that one thread increments and any thread reads.
#[derive(Debug, Default)]
pub(super) struct ExitCounter(AtomicU64);

impl ExitCounter {
    /// Adds one. Only the vCPU thread may call this, so no locked instruction is needed.
    pub(super) fn increment(&self) {
        self.0.store(self.0.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

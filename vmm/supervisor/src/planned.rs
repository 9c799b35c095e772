//! Planned operations (switches, drills, upgrades, pauses, dumps) exclude each other.

use std::sync::{Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

use platform::budget::PLANNED_WAIT;

/// Grants one planned operation at a time.
#[derive(Debug, Default)]
pub(super) struct PlannedOperations(Mutex<()>);

/// The right to a planned operation. Never asked for with the domain table locked.
pub(super) type PlannedGuard<'a> = MutexGuard<'a, ()>;

impl PlannedOperations {
    /// The right to a planned operation; `None` if another one is in progress and does not end
    /// soon.
    pub(super) fn begin(&self) -> Option<PlannedGuard<'_>> {
        let end = Instant::now() + PLANNED_WAIT;
        loop {
            match self.0.try_lock() {
                Ok(guard) => return Some(guard),
                // The mutex guards an order, not data.
                Err(TryLockError::Poisoned(guard)) => return Some(guard.into_inner()),
                Err(TryLockError::WouldBlock) if Instant::now() >= end => return None,
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }
}

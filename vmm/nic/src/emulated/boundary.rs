//! How another thread learns that the engine has seen a change and let go of what was before.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Tickets that the engine answers between two turns of its loop, when nothing of the earlier turn
/// is under way any more.
#[derive(Default)]
pub(super) struct Boundary {
    asked: AtomicU64,
    answered: AtomicU64,
    waiting: Mutex<()>,
    moved: Condvar,
}

impl Boundary {
    /// Asks for an answer to everything that was stored before. The doorbell must be rung after.
    pub(super) fn ask(&self) -> u64 {
        self.asked.fetch_add(1, Ordering::AcqRel) + 1
    }

    pub(super) fn is_answered(&self, ticket: u64) -> bool {
        self.answered.load(Ordering::Acquire) >= ticket
    }

    /// Engine: answers all that asked so far.
    pub(super) fn answer(&self) {
        let asked = self.asked.load(Ordering::Acquire);
        if self.answered.load(Ordering::Relaxed) == asked {
            return;
        }
        let _waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        self.answered.store(asked, Ordering::Release);
        self.moved.notify_all();
    }

    /// Waits for the answer; `false` if it does not come in time.
    pub(super) fn wait(&self, ticket: u64, at_most: Duration) -> bool {
        let deadline = Instant::now() + at_most;
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        while !self.is_answered(ticket) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let woken = self.moved.wait_timeout(waiting, left);
            waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

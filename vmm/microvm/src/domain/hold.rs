//! Keeping a vCPU out of the guest for a while, and looking at it meanwhile.
//!
//! Holds are counted, so that a dump of a paused domain does not let it run. All of them end at once
//! when the domain is to serve: whatever they were for, the service goes first. A visitor is a
//! piece of code that the vCPU's own thread runs while it is held: it alone may ask KVM.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use vmm_sys_util::eventfd::EventFd;

use super::vcpu::{Shared, VcpuState, signal};
use crate::kvm::MicroVm;
use platform::budget::HELD_VCPU_DEADLINE;

type Visitor = Box<dyn FnOnce(&mut MicroVm) + Send>;

/// The holds on one vCPU.
pub(super) struct Holds {
    /// How many in bits 0-31, their generation in bits 32-63.
    word: AtomicU64,
    /// Written when the last hold ends.
    resume: EventFd,
    /// Written when a visitor waits.
    visit: EventFd,
    visitor: Mutex<Option<Visitor>>,
    /// Held by whoever visits: one at a time.
    doorway: Mutex<()>,
}

const GENERATION: u64 = 1 << 32;

/// Why a held vCPU could not be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HoldError {
    /// It was let go, because the service needs the domain, or its life is over.
    #[error("the domain was let go: it has to serve, or its life has ended")]
    Released,
    /// It did not stop, or its thread was not run, in time.
    #[error("the domain did not stop in time")]
    TimedOut,
}

impl Holds {
    pub(super) fn new(resume: EventFd, visit: EventFd) -> Self {
        Self {
            word: AtomicU64::new(0),
            resume,
            visit,
            visitor: Mutex::new(None),
            doorway: Mutex::new(()),
        }
    }

    pub(super) fn any(&self) -> bool {
        self.word.load(Ordering::SeqCst) as u32 != 0
    }

    /// One more; returns the generation to end it with.
    pub(super) fn add(&self) -> u32 {
        generation(self.word.fetch_add(1, Ordering::SeqCst))
    }

    /// One less, unless all of that generation have ended.
    fn end(&self, of: u32) {
        let less = |word: u64| (generation(word) == of && word as u32 != 0).then(|| word - 1);
        let before = self.word.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
        if before.is_ok_and(|word| word as u32 == 1) {
            signal(&self.resume);
        }
    }

    /// Ends all of them, at once. On the failover path: an atomic, and an eventfd if there were any.
    pub(super) fn break_all(&self) {
        let next = |word: u64| (word as u32 != 0).then(|| (word & !(GENERATION - 1)) + GENERATION);
        if self.word.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next).is_ok() {
            signal(&self.resume);
        }
    }

    fn is_current(&self, of: u32) -> bool {
        generation(self.word.load(Ordering::SeqCst)) == of
    }

    /// What a held vCPU thread sleeps on beside the life's end.
    pub(super) fn fds(&self) -> [RawFd; 2] {
        [self.resume.as_raw_fd(), self.visit.as_raw_fd()]
    }

    /// For the vCPU thread: a hold has ended.
    pub(super) fn take_resume(&self) {
        // Only that thread reads it.
        let _ = self.resume.read();
    }

    /// For the vCPU thread: nobody may look now. Who still waits asks again.
    pub(super) fn turn_away(&self) {
        let _ = self.visit.read();
    }

    /// For the vCPU thread, held: lets the visitor in.
    pub(super) fn receive(&self, vm: &mut MicroVm) {
        let _ = self.visit.read();
        let visitor = self.visitor().take();
        if let Some(visitor) = visitor {
            visitor(vm);
        }
    }

    fn visitor(&self) -> MutexGuard<'_, Option<Visitor>> {
        // Replaced or taken whole.
        self.visitor.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn generation(word: u64) -> u32 {
    (word >> 32) as u32
}

/// Keeps a vCPU out of the guest as long as it lives, or until the domain has to serve.
#[must_use = "dropped, it lets the vCPU in again"]
pub struct Hold {
    shared: Arc<Shared>,
    generation: u32,
}

impl Hold {
    pub(super) fn begin(shared: &Arc<Shared>) -> Self {
        let generation = shared.holds.add();
        shared.kicker.kick();
        Self { shared: shared.clone(), generation }
    }

    /// One that the vCPU thread has begun.
    pub(super) fn adopt(shared: &Arc<Shared>, generation: u32) -> Self {
        Self { shared: shared.clone(), generation }
    }

    /// Whether the vCPU was let go all the same: the domain has to serve, or its life is over.
    pub fn is_released(&self) -> bool {
        !self.shared.holds.is_current(self.generation) || self.shared.stopped()
    }

    /// Runs `look` on the vCPU's thread while it is held; that thread has a high priority, so `look`
    /// must be short and wait for nothing.
    ///
    /// # Errors
    /// The hold is broken, or the vCPU does not stop in time.
    pub fn on_vcpu_thread<T: Send + 'static>(
        &self,
        look: impl FnOnce(&mut MicroVm) -> T + Send + 'static,
    ) -> Result<T, HoldError> {
        let holds = &self.shared.holds;
        // It guards a turn, not data.
        let _alone = holds.doorway.lock().unwrap_or_else(PoisonError::into_inner);
        let (tell, told) = sync_channel(1);
        *holds.visitor() = Some(Box::new(move |vm| {
            // Whoever asked may have given up.
            let _ = tell.send(look(vm));
        }));
        let end = Instant::now() + HELD_VCPU_DEADLINE;
        loop {
            if self.is_released() {
                holds.visitor().take();
                return Err(HoldError::Released);
            }
            // Again each time: a vCPU on its way out of the guest may have turned it away.
            signal(&holds.visit);
            let slice = std::time::Duration::from_millis(50);
            match told.recv_timeout(slice) {
                Ok(seen) => return Ok(seen),
                Err(RecvTimeoutError::Timeout) if Instant::now() < end => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    holds.visitor().take();
                    return Err(HoldError::TimedOut);
                }
            }
        }
    }

    /// Waits until the vCPU stands still.
    ///
    /// # Errors
    /// As [`Self::on_vcpu_thread`].
    pub fn wait_until_held(&self) -> Result<(), HoldError> {
        if self.shared.state() == VcpuState::Held {
            return Ok(());
        }
        self.on_vcpu_thread(|_| ())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.shared.holds.end(self.generation);
    }
}

#[cfg(test)]
mod tests {
    use vmm_sys_util::eventfd::EFD_NONBLOCK;

    use super::*;

    fn holds() -> Holds {
        let event = || EventFd::new(EFD_NONBLOCK).unwrap();
        Holds::new(event(), event())
    }

    #[test]
    fn holds_are_counted() {
        let holds = holds();
        let (first, second) = (holds.add(), holds.add());
        holds.end(first);
        assert!(holds.any() && holds.resume.read().is_err());
        holds.end(second);
        assert!(!holds.any() && holds.resume.read().is_ok());
    }

    #[test]
    fn what_was_broken_ends_nothing_that_came_later() {
        let holds = holds();
        let old = holds.add();
        holds.break_all();
        assert!(!holds.any() && !holds.is_current(old));
        let new = holds.add();
        holds.end(old);
        assert!(holds.any() && holds.is_current(new));
        holds.end(new);
        holds.end(new);
        assert!(!holds.any(), "one end too many is none");
    }

    #[test]
    fn breaking_nothing_is_nothing() {
        let holds = holds();
        holds.break_all();
        assert!(holds.resume.read().is_err());
    }
}

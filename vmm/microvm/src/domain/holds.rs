//! The holds on one vCPU, and the mailbox by which others have its thread do something meanwhile.
//!
//! Holds are counted, so that a dump of a paused domain does not let it run. All of them end at once
//! when the domain is to serve: whatever they were for, the service goes first.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use vmm_sys_util::eventfd::EventFd;

use super::eventfd::signal;
use crate::kvm::MicroVm;

/// A piece of code that the vCPU's own thread runs while it is held: it alone may ask KVM.
pub(super) type VcpuTask = Box<dyn FnOnce(&mut MicroVm) + Send>;

/// The holds on one vCPU.
pub(super) struct Holds {
    /// How many in bits 0-31, their generation in bits 32-63.
    word: AtomicU64,
    /// Written when the last hold ends.
    resume: EventFd,
    /// Written when a task waits.
    task_event: EventFd,
    task: Mutex<Option<VcpuTask>>,
    /// Locked by whoever has a task: one at a time.
    turn: Mutex<()>,
}

const GENERATION: u64 = 1 << 32;

impl Holds {
    /// No holds yet; `resume` and `task_event` are events of their own.
    pub(super) fn new(resume: EventFd, task_event: EventFd) -> Self {
        let (word, task, turn) = (AtomicU64::new(0), Mutex::new(None), Mutex::new(()));
        Self { word, resume, task_event, task, turn }
    }

    /// Returns true if somebody holds the vCPU.
    pub(super) fn any(&self) -> bool {
        self.word.load(Ordering::SeqCst) as u32 != 0
    }

    /// Adds a hold and returns its generation, which is needed to end it.
    pub(super) fn add(&self) -> u32 {
        generation(self.word.fetch_add(1, Ordering::SeqCst))
    }

    /// Ends a hold of that generation, unless all of that generation have ended.
    pub(super) fn end(&self, of: u32) {
        let less = |word: u64| (generation(word) == of && word as u32 != 0).then(|| word - 1);
        let before = self.word.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
        if before.is_ok_and(|word| word as u32 == 1) {
            signal(&self.resume);
        }
    }

    /// Ends all holds at once. On the failover path: an atomic, and an eventfd if there were any.
    pub(super) fn break_all(&self) {
        let next = |word: u64| (word as u32 != 0).then(|| (word & !(GENERATION - 1)) + GENERATION);
        if self.word.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next).is_ok() {
            signal(&self.resume);
        }
    }

    /// Returns true if the holds of that generation have not been broken.
    pub(super) fn is_current(&self, of: u32) -> bool {
        generation(self.word.load(Ordering::SeqCst)) == of
    }

    /// Takes the right to have a task done; nobody else has it while the guard lives.
    pub(super) fn take_turn(&self) -> MutexGuard<'_, ()> {
        // It guards a turn, not data.
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves a task for the vCPU thread.
    pub(super) fn set_task(&self, task: VcpuTask) {
        *self.task() = Some(task);
    }

    /// Takes the task back, if the vCPU thread has not taken it.
    pub(super) fn withdraw_task(&self) {
        self.task().take();
    }

    /// Has the vCPU thread look for a task.
    pub(super) fn announce_task(&self) {
        signal(&self.task_event);
    }

    /// For the vCPU thread: readable when the last hold has ended.
    pub(super) fn resume_fd(&self) -> RawFd {
        self.resume.as_raw_fd()
    }

    /// For the vCPU thread: readable when a task waits.
    pub(super) fn task_fd(&self) -> RawFd {
        self.task_event.as_raw_fd()
    }

    /// For the vCPU thread: a hold has ended.
    pub(super) fn take_resume(&self) {
        // Only that thread reads it.
        let _ = self.resume.read();
    }

    /// For the vCPU thread, which is not held: no task is done now. Whoever still waits announces
    /// the task again.
    pub(super) fn ignore_task(&self) {
        let _ = self.task_event.read();
    }

    /// For the vCPU thread, which is held: carries the waiting task out.
    pub(super) fn carry_out_task(&self, vm: &mut MicroVm) {
        let _ = self.task_event.read();
        let task = self.task().take();
        if let Some(task) = task {
            task(vm);
        }
    }

    fn task(&self) -> MutexGuard<'_, Option<VcpuTask>> {
        // Replaced or taken as a whole.
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn generation(word: u64) -> u32 {
    (word >> 32) as u32
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

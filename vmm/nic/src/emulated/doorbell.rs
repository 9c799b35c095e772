//! How any thread wakes the engine.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// An eventfd that is written only if the engine may be about to sleep: a ring while it is at work
/// costs no system call.
pub(super) struct Doorbell {
    pending: AtomicBool,
    event: EventFd,
}

impl Doorbell {
    pub(super) fn new() -> std::io::Result<Self> {
        let event = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?;
        Ok(Self { pending: AtomicBool::new(false), event })
    }

    /// Says that a register changed. The change must be stored before.
    pub(super) fn ring(&self) {
        // If the swap finds `true`, the engine has yet to answer, and its own swap then sees this
        // one and what was stored before it.
        if !self.pending.swap(true, Ordering::AcqRel) {
            let _ = self.event.write(1);
        }
    }

    /// Engine: from here on a ring counts again. To be called before the registers are looked at;
    /// `readable` as the wait for [`Self::event`] said.
    pub(super) fn answer(&self, readable: bool) {
        if readable {
            // The event first: one that comes between the two is not lost then.
            let _ = self.event.read();
        }
        self.pending.swap(false, Ordering::AcqRel);
    }

    /// Readable when it was rung since the last answer.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is open as long as the event, which `self` owns.
        unsafe { BorrowedFd::borrow_raw(self.event.as_raw_fd()) }
    }
}

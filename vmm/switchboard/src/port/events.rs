//! What a port tells the thread that holds the connection to the guest's front-end.

use std::sync::atomic::{AtomicBool, Ordering};

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::numbers::RINGS;

/// What the thread that holds the connection should hear of.
#[derive(Debug)]
pub(crate) struct PortEvents {
    /// Readable when one of the flags below changed.
    pub(crate) event: EventFd,
    /// The guest's memory lost pages, or its log did: the connection must end.
    pub(crate) truncated: AtomicBool,
    /// A virtqueue is corrupt and was stopped.
    pub(crate) broken: [AtomicBool; RINGS],
}

impl PortEvents {
    /// Nothing has been raised yet.
    pub(crate) fn new() -> std::io::Result<Self> {
        let event = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?;
        Ok(Self { event, truncated: AtomicBool::new(false), broken: Default::default() })
    }

    /// Forgets everything that was raised.
    pub(crate) fn clear(&self) {
        let _ = self.event.read();
        self.truncated.store(false, Ordering::Relaxed);
        self.broken.iter().for_each(|broken| broken.store(false, Ordering::Relaxed));
    }

    /// Raises one of the flags.
    pub(super) fn raise(&self, flag: &AtomicBool) {
        flag.store(true, Ordering::Release);
        // Full means readable.
        let _ = self.event.write(1);
    }
}

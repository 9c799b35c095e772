//! What a port tells the thread that holds the connection to the guest's front-end, and what that
//! thread shows of its front-ends.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

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
    connected: AtomicBool,
    waiting: AtomicUsize,
}

/// The front-ends of one guest's socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrontEnds {
    /// Whether one is served.
    pub connected: bool,
    /// How many have connected beside it, and wait until it ends.
    pub waiting: usize,
}

impl PortEvents {
    /// Nothing has been raised yet.
    pub(crate) fn new() -> std::io::Result<Self> {
        let event = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?;
        Ok(Self {
            event,
            truncated: AtomicBool::new(false),
            broken: Default::default(),
            connected: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
        })
    }

    /// Shows whether a front-end is served, and how many wait.
    pub(crate) fn show_front_ends(&self, connected: bool, waiting: usize) {
        self.connected.store(connected, Ordering::Relaxed);
        self.waiting.store(waiting, Ordering::Relaxed);
    }

    /// The front-ends now.
    pub(crate) fn front_ends(&self) -> FrontEnds {
        let connected = self.connected.load(Ordering::Relaxed);
        FrontEnds { connected, waiting: self.waiting.load(Ordering::Relaxed) }
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

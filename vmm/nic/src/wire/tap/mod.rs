//! A TAP device as the wire: the other end of the cable is the kernel's network, a bridge most
//! often.
//!
//! ```text
//!   NIC's engine ── write ──▶ TAP ── bridge, routing, … of the kernel
//!                ◀── read ───  │
//!                ◀── netlink ──┘ operational state: the link
//! ```
//!
//! The link is up while the kernel calls the interface operational: switched on, and with a
//! carrier. `ip link set NAME down` is what pulling the cable is. A TAP that is deleted is a cable
//! without another end, for good.

mod device;
mod error;
mod link;
#[cfg(test)]
mod tests;

use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use self::device::{Device, is_running};
pub use self::error::TapError;
use self::link::{LinkSocket, News};
use crate::wire::interface::{MAX_FRAME_BYTES, Wire};

/// Bytes of the longest name that an interface can have.
pub const TAP_NAME_BYTES: usize = libc::IFNAMSIZ - 1;

/// Frames that went through a TAP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TapCounters {
    /// Frames that the kernel took.
    pub sent: u64,
    /// Frames that the kernel gave.
    pub received: u64,
    /// Frames that the kernel refused: interface down, or no room.
    pub refused: u64,
}

#[derive(Default)]
struct AtomicCounters {
    sent: AtomicU64,
    received: AtomicU64,
    refused: AtomicU64,
}

/// One attached TAP. Let go of when dropped: a persistent one stays, without carrier.
pub struct Tap {
    name: String,
    device: Device,
    socket: LinkSocket,
    running: AtomicBool,
    /// Deleted: its descriptor would be ready for ever, with nothing in it.
    gone: AtomicBool,
    counters: AtomicCounters,
}

impl Tap {
    /// Attaches to the TAP `name`, which is created, and switched on, if it is not there. One that
    /// is there stays as it is: whether it is switched on, and what bridge it belongs to, is its
    /// owner's business.
    ///
    /// # Errors
    /// See [`TapError`].
    pub fn open(name: &str) -> Result<Arc<Self>, TapError> {
        let failed = |what| {
            let name = name.to_owned();
            move |source| TapError::System { name, what, source }
        };
        // Listening comes before the first look: a change in between is heard.
        let socket = LinkSocket::open().map_err(failed("be watched"))?;
        let device = Device::open(name)?;
        let running = is_running(name).map_err(failed("be looked at"))?;
        Ok(Arc::new(Self {
            name: name.to_owned(),
            device,
            socket,
            running: AtomicBool::new(running),
            gone: AtomicBool::new(false),
            counters: AtomicCounters::default(),
        }))
    }

    /// Name of the interface when it was attached to.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What was counted so far.
    pub fn counters(&self) -> TapCounters {
        let AtomicCounters { sent, received, refused } = &self.counters;
        TapCounters {
            sent: sent.load(Ordering::Relaxed),
            received: received.load(Ordering::Relaxed),
            refused: refused.load(Ordering::Relaxed),
        }
    }

    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    fn lose(&self) {
        self.running.store(false, Ordering::Release);
        if !self.gone.swap(true, Ordering::AcqRel) {
            tracing::warn!(tap = self.name, "the TAP was deleted; its link stays down");
        }
    }
}

impl Wire for Tap {
    fn send(&self, frame: &[u8]) {
        if frame.len() <= MAX_FRAME_BYTES && (&self.device.file).write(frame).is_ok() {
            self.counters.sent.fetch_add(1, Ordering::Relaxed);
        } else {
            self.counters.refused.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn receive(&self, into: &mut [u8]) -> Option<usize> {
        if self.is_gone() {
            return None;
        }
        match (&self.device.file).read(into) {
            Ok(len) => {
                self.counters.received.fetch_add(1, Ordering::Relaxed);
                Some(len)
            }
            Err(error) => {
                if error.raw_os_error() == Some(libc::EBADFD) {
                    self.lose();
                }
                None
            }
        }
    }

    fn readable(&self) -> Option<BorrowedFd<'_>> {
        (!self.is_gone()).then(|| self.device.file.as_fd())
    }

    fn link_up(&self) -> bool {
        self.running.load(Ordering::Acquire)
    }

    fn link_changed(&self) -> Option<BorrowedFd<'_>> {
        (!self.is_gone()).then(|| self.socket.as_fd())
    }

    fn follow_link(&self) {
        if self.is_gone() {
            return;
        }
        match self.socket.news_of(self.device.index) {
            Ok(News::None) => {}
            Ok(News::Running(running)) => self.running.store(running, Ordering::Release),
            Ok(News::Lost) => match is_running(&self.name) {
                Ok(running) => self.running.store(running, Ordering::Release),
                Err(_) => self.lose(),
            },
            Ok(News::Gone) | Err(_) => self.lose(),
        }
    }
}

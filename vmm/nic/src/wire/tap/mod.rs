//! A TAP device as the wire: the other end of the cable is the kernel's network, a bridge most
//! often.
//!
//! ```text
//!   NIC's engine ── write ──▶ TAP ── bridge, routing, … of the kernel
//!                ◀── read ───  │
//!                ◀── netlink ──┘ operational state, state of the bridge's port: the link
//! ```
//!
//! The link is up while frames can pass:
//!
//! | the interface | the link |
//! |---|---|
//! | is switched on, has a carrier, and is no bridge's port, or one that forwards | up |
//! | is switched off (`ip link set NAME down` is what pulling the cable is) | down |
//! | is a port that its bridge blocks (spanning tree) | down, after a grace if it was up |
//! | was a bridge's port and is none any more | down, after a grace |
//! | is deleted, in another namespace, or not there yet | down |
//!
//! A TAP is followed by its name. One that is renamed is kept while no other has the name; one that
//! is gone is attached to again as soon as there is one of that name. Whether it can be is tried
//! when netlink tells of it, and once a second, because not all that may stand in the way is told.

mod device;
mod error;
mod link;
mod state;
#[cfg(test)]
mod tests;

use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use self::device::{Device, IfAbsent};
pub use self::error::TapError;
use self::link::{Followed, LinkSocket, LinkState, News};
use self::state::State;
use crate::wire::interface::{MAX_FRAME_BYTES, Wire};
use platform::one_line::one_line;
use shared_ring::frame::DEFAULT_MTU;

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

/// A cable to one TAP. Let go of when dropped: a persistent one stays, without carrier.
pub struct Tap {
    name: String,
    device: Device,
    socket: LinkSocket,
    link_up: AtomicBool,
    /// The link is about to go down.
    closing: AtomicBool,
    /// Changed by the receiver only.
    state: Mutex<State>,
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
        let tap = Self::unplugged(name, DEFAULT_MTU)?;
        tap.device.attach(name, IfAbsent::Create)?;
        tap.learn(tap.ask()?);
        Ok(Arc::new(tap))
    }

    /// Does the same on a network with this MTU, except that a TAP that cannot be attached to now is
    /// one without a link. It is attached to as soon as it can be. One that is created gets the MTU;
    /// of one that is there and whose MTU is smaller, a line in the log says how to change it.
    ///
    /// # Errors
    /// No TAP can have this name, or another kind of interface has it.
    pub fn open_or_await(name: &str, mtu: u16) -> Result<Arc<Self>, TapError> {
        let tap = Self::unplugged(name, mtu)?;
        let opened = tap.device.attach(name, IfAbsent::Create).and_then(|()| tap.ask());
        match opened {
            Ok(state) => tap.learn(state),
            Err(error) if error.is_final() => return Err(error),
            // Whoever opens it says so.
            Err(error) => {
                tap.forget(&error);
            }
        }
        Ok(Arc::new(tap))
    }

    fn unplugged(name: &str, mtu: u16) -> Result<Self, TapError> {
        let failed = |what| {
            let name = name.to_owned();
            move |source| TapError::System { name, what, source }
        };
        Ok(Self {
            name: name.to_owned(),
            device: Device::detached(mtu).map_err(failed("be given a descriptor"))?,
            // Listening comes before the first look: a change in between is heard.
            socket: LinkSocket::open().map_err(failed("be watched"))?,
            link_up: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            state: Mutex::default(),
            counters: AtomicCounters::default(),
        })
    }

    /// Name of the interface in the topology.
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

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the kernel says of the interface now.
    fn ask(&self) -> Result<LinkState, TapError> {
        let index = self.device.index().unwrap_or_default();
        link::ask(index).map_err(|source| TapError::System {
            name: self.name.clone(),
            what: "be looked at",
            source,
        })
    }

    fn learn(&self, link: LinkState) {
        let mut state = self.state();
        state.learn(link, Instant::now());
        self.link_up.store(state.is_up(), Ordering::Release);
        self.closing.store(state.is_closing(), Ordering::Release);
    }

    /// The TAP is gone, or cannot be attached to.
    fn lose(&self, why: &TapError) {
        if self.forget(why) {
            tracing::warn!(tap = self.name, reason = one_line(why), "no TAP; waiting for it");
        }
    }

    /// Lets go of the TAP. Returns true if that, or the reason, is new.
    fn forget(&self, why: &TapError) -> bool {
        self.link_up.store(false, Ordering::Release);
        self.closing.store(false, Ordering::Release);
        self.device.detach();
        self.state().lose(one_line(why), Instant::now())
    }

    /// Attaches to the TAP that has the name now, if it can be.
    fn attach_again(&self) {
        let attached = self.device.attach(&self.name, IfAbsent::Fail).and_then(|()| self.ask());
        match attached {
            Ok(link) => {
                tracing::warn!(tap = self.name, "the TAP is there again");
                self.learn(link);
            }
            Err(error) => self.lose(&error),
        }
    }

    fn absent(&self) -> TapError {
        TapError::Absent { name: self.name.clone() }
    }

    /// What the socket says; a socket that broke says nothing any more, and the TAP is given up.
    fn news(&self) -> News {
        let followed = Followed { name: &self.name, index: self.device.index() };
        let known = self.state().link();
        self.socket.news_of(followed, known).unwrap_or(News::Lost)
    }
}

impl Wire for Tap {
    fn send(&self, frame: &[u8]) {
        let sent = self.device.index().is_some()
            && frame.len() <= MAX_FRAME_BYTES
            && (&self.device.file).write(frame).is_ok();
        let counter = if sent { &self.counters.sent } else { &self.counters.refused };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn receive(&self, into: &mut [u8]) -> Option<usize> {
        self.device.index()?;
        match (&self.device.file).read(into) {
            Ok(len) => {
                self.counters.received.fetch_add(1, Ordering::Relaxed);
                Some(len)
            }
            Err(error) => {
                if error.raw_os_error() == Some(libc::EBADFD) {
                    self.lose(&self.absent());
                }
                None
            }
        }
    }

    fn readable(&self) -> Option<BorrowedFd<'_>> {
        self.device.index().map(|_| self.device.file.as_fd())
    }

    fn link_up(&self) -> bool {
        self.link_up.load(Ordering::Acquire)
    }

    fn link_changed(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }

    fn follow_link(&self) {
        let attached = self.device.index().is_some();
        match (self.news(), attached) {
            (News::State(link), true) => self.learn(link),
            (News::Lost, true) => match self.ask() {
                Ok(link) => self.learn(link),
                Err(_) => self.lose(&self.absent()),
            },
            (News::Gone, true) => self.lose(&self.absent()),
            (News::Replaced, true) => {
                self.device.detach();
                self.attach_again();
            }
            (News::Replaced, false) => self.attach_again(),
            (News::State(_) | News::Gone | News::Lost, false) => {
                if self.state().is_due(Instant::now()) {
                    self.attach_again();
                }
            }
        }
    }

    fn is_settled(&self) -> bool {
        self.link_up() && !self.closing.load(Ordering::Acquire)
    }

    fn trouble(&self) -> Option<String> {
        self.state().trouble()
    }

    fn is_present(&self) -> bool {
        self.device.index().is_some()
    }
}

//! The descriptors by which a guest and the switchboard wake each other. They come from the
//! front-end and may be anything.
//!
//! Nothing here can be made to wait. A kick is registered edge-triggered with epoll, so an eventfd
//! need not be read at all, and a pipe is drained with `RWF_NOWAIT`, which holds whatever flags the
//! front-end sets on the shared description. Everything that is neither an eventfd nor a pipe (a
//! regular file, a device, a file of the front-end's own FUSE daemon, whose every operation may
//! hang) is *deaf*: kept, never touched, and the ring is looked at every [`budget::SILENT_KICK_POLL`]
//! instead.
//!
//! A call must be an eventfd, and is signalled by the kernel's own means: see [`signal`].
//!
//! [`budget::SILENT_KICK_POLL`]: platform::budget::SILENT_KICK_POLL

use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use super::foreign::{Foreign, Kind};
use super::signal;

fn set_nonblocking(file: &File) {
    // SAFETY: plain integers and an open descriptor. Failure leaves the flags as they are.
    unsafe {
        let flags = libc::fcntl(file.as_raw_fd(), libc::F_GETFL);
        libc::fcntl(file.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK);
    }
}

/// How a guest says that its ring has something new.
#[derive(Clone, Debug)]
pub(crate) struct Kick {
    /// `None` or of another kind than an eventfd and a pipe: deaf.
    file: Option<Arc<Foreign>>,
}

impl Kick {
    /// From what a front-end passed.
    pub(crate) fn new(fd: impl Into<Foreign>) -> Self {
        let kick = Self { file: Some(Arc::new(fd.into())) };
        if let Some((_, file)) = kick.audible() {
            set_nonblocking(file);
        }
        kick
    }

    /// The front-end passed none: the ring is to be polled.
    pub(crate) fn none() -> Self {
        Self { file: None }
    }

    /// Returns true if no event will ever come from it.
    pub(crate) fn is_deaf(&self) -> bool {
        self.audible().is_none()
    }

    /// The file and its kind, unless it is deaf.
    fn audible(&self) -> Option<(Kind, &File)> {
        let foreign = self.file.as_deref()?;
        match foreign.kind() {
            kind @ (Kind::EventFd | Kind::Pipe) => Some((kind, foreign.file()?)),
            Kind::Memory | Kind::Unknown => None,
        }
    }

    /// The descriptor for epoll, unless it is deaf.
    pub(crate) fn pollable(&self) -> Option<RawFd> {
        self.audible().map(|(_, file)| file.as_raw_fd())
    }

    /// Empties a pipe, so that it can be written to again. An edge-triggered eventfd needs none.
    pub(crate) fn drain(&self) {
        let Some((Kind::Pipe, file)) = self.audible() else { return };
        let mut bytes = [0u8; 4096];
        let to = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        // SAFETY: `to` describes `bytes`, which outlives the call. Errors and ends are ignored:
        // what was read means nothing.
        unsafe { libc::preadv2(file.as_raw_fd(), &to, 1, -1, libc::RWF_NOWAIT) };
    }
}

/// How the switchboard tells a guest something: the call and the error descriptor of a ring.
#[derive(Clone, Debug, Default)]
pub(crate) struct Call {
    file: Option<Arc<Foreign>>,
}

impl Call {
    /// From what a front-end passed; `None` if it is not an eventfd.
    pub(crate) fn new(fd: impl Into<Foreign>) -> Option<Self> {
        let foreign = fd.into();
        if foreign.kind() != Kind::EventFd {
            return None;
        }
        signal::prepare();
        Some(Self { file: Some(Arc::new(foreign)) })
    }

    /// Signals, if there is anything to signal.
    pub(crate) fn signal(&self) {
        if let Some(file) = self.file.as_ref().and_then(|foreign| foreign.file()) {
            signal::signal(file.as_raw_fd());
        }
    }

    /// Returns true if there is a descriptor to signal.
    pub(crate) fn is_present(&self) -> bool {
        self.file.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::{FromRawFd, OwnedFd};

    use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

    fn pipe() -> (OwnedFd, OwnedFd) {
        let mut ends = [0; 2];
        // SAFETY: two descriptors are written, which nothing else owns.
        unsafe {
            assert_eq!(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC), 0);
            (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1]))
        }
    }

    #[test]
    fn only_eventfds_and_pipes_are_polled() {
        let file = File::open("/proc/self/exe").unwrap();
        assert!(Kick::new(file).is_deaf());
        assert!(Kick::new(File::open("/dev/zero").unwrap()).is_deaf());
        assert!(Kick::none().pollable().is_none());
        assert!(Kick::new(pipe().0).pollable().is_some());
        // SAFETY: the descriptor of a fresh eventfd, given away.
        let event = unsafe {
            use std::os::fd::IntoRawFd;
            OwnedFd::from_raw_fd(EventFd::new(0).unwrap().into_raw_fd())
        };
        assert!(Kick::new(event).pollable().is_some());
    }

    #[test]
    fn a_pipe_is_drained_without_waiting_even_if_it_is_blocking_or_closed() {
        let (read, write) = pipe();
        let shared = read.try_clone().unwrap();
        let kick = Kick::new(read);
        // SAFETY: plain integers and an open descriptor.
        unsafe { libc::fcntl(shared.as_raw_fd(), libc::F_SETFL, 0) };
        kick.drain();
        drop(write);
        kick.drain();
    }

    #[test]
    fn a_call_that_is_full_and_blocking_holds_nobody() {
        let event = EventFd::new(EFD_NONBLOCK).unwrap();
        // SAFETY: a duplicate that nothing else owns.
        let call =
            Call::new(unsafe { OwnedFd::from_raw_fd(libc::dup(event.as_raw_fd())) }).unwrap();
        event.write(u64::MAX - 1).unwrap();
        // SAFETY: plain integers and an open descriptor.
        unsafe { libc::fcntl(event.as_raw_fd(), libc::F_SETFL, 0) };
        call.signal();
        assert!(event.read().unwrap() >= u64::MAX - 1);
    }

    #[test]
    fn a_call_must_be_an_eventfd() {
        assert!(Call::new(pipe().1).is_none());
        let event = EventFd::new(EFD_NONBLOCK).unwrap();
        // SAFETY: a duplicate that nothing else owns.
        let copy = unsafe { OwnedFd::from_raw_fd(libc::dup(event.as_raw_fd())) };
        Call::new(copy).unwrap().signal();
        assert_eq!(event.read().unwrap(), 1);
        Call::default().signal();
    }
}

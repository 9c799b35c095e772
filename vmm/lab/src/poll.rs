//! Waiting for descriptors with a deadline.

use std::io;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

/// The descriptors that a wait ended with; none after a timeout.
pub(crate) struct Readable<const N: usize> {
    polled: [libc::pollfd; N],
}

impl<const N: usize> Readable<N> {
    /// Returns true if this descriptor is readable or was hung up.
    pub(crate) fn has(&self, fd: RawFd) -> bool {
        self.polled.iter().any(|polled| polled.fd == fd && polled.revents != 0)
    }
}

/// Waits until one of `fds` is readable or hung up, or the time is over. Negative descriptors are
/// never readable.
///
/// # Errors
/// The operating system refuses.
pub(crate) fn wait_readable<const N: usize>(
    fds: [RawFd; N],
    timeout: Option<Duration>,
) -> io::Result<Readable<N>> {
    let mut polled =
        fds.map(|fd| libc::pollfd { fd, events: libc::POLLIN | libc::POLLRDHUP, revents: 0 });
    let end = timeout.map(|timeout| Instant::now() + timeout);
    loop {
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        let left = left.map(|left| libc::timespec {
            tv_sec: left.as_secs() as libc::time_t,
            tv_nsec: left.subsec_nanos().into(),
        });
        let left = left.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        let count = N as libc::nfds_t;
        // SAFETY: `polled` has `count` entries; `left` is null or points to a live value.
        let ready = unsafe { libc::ppoll(polled.as_mut_ptr(), count, left, std::ptr::null()) };
        if ready >= 0 {
            return Ok(Readable { polled });
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

    use super::*;

    #[test]
    fn it_says_which_descriptor_is_ready() {
        let events = [(); 2].map(|()| EventFd::new(EFD_NONBLOCK).unwrap());
        let [a, b] = [events[0].as_raw_fd(), events[1].as_raw_fd()];
        let soon = Some(Duration::from_millis(1));
        let nothing = wait_readable([a, b, -1], soon).unwrap();
        assert!(!nothing.has(a) && !nothing.has(b) && !nothing.has(-1));
        events[1].write(1).unwrap();
        let readable = wait_readable([a, b, -1], None).unwrap();
        assert!(!readable.has(a) && readable.has(b) && !readable.has(-1));
    }

    #[test]
    fn a_closed_socket_is_ready() {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        drop(theirs);
        assert!(wait_readable([ours.as_raw_fd()], None).unwrap().has(ours.as_raw_fd()));
    }
}

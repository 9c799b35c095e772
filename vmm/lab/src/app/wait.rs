//! Waiting for descriptors with a deadline.

use std::io;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waited<const N: usize> {
    /// These are readable, or were hung up.
    Ready([bool; N]),
    /// The time is over.
    TimedOut,
}

/// Waits until one of `fds` is readable or hung up. Negative descriptors never are.
///
/// # Errors
/// The operating system refuses.
pub(super) fn readable<const N: usize>(
    fds: [RawFd; N],
    timeout: Option<Duration>,
) -> io::Result<Waited<N>> {
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
        match ready {
            0 => return Ok(Waited::TimedOut),
            1.. => return Ok(Waited::Ready(polled.map(|fd| fd.revents != 0))),
            _ => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
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
        assert_eq!(readable([a, b, -1], soon).unwrap(), Waited::TimedOut);
        events[1].write(1).unwrap();
        assert_eq!(readable([a, b, -1], None).unwrap(), Waited::Ready([false, true, false]));
    }

    #[test]
    fn a_closed_socket_is_ready() {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        drop(theirs);
        assert_eq!(readable([ours.as_raw_fd()], None).unwrap(), Waited::Ready([true]));
    }
}

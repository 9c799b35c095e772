//! Sleeping until a descriptor is readable or a time is over, to the nanosecond.

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

/// Waits at most `timeout` until one of the descriptors is readable (or reports an error, which a
/// read would return), and says which ones are. `None` is passed over. A signal ends the wait
/// early, with none readable.
///
/// # Errors
/// The kernel refuses to wait.
pub fn wait_readable<const N: usize>(
    descriptors: [Option<RawFd>; N],
    timeout: Duration,
) -> io::Result<[bool; N]> {
    let mut polled = descriptors.map(|descriptor| libc::pollfd {
        // The kernel passes over a negative one.
        fd: descriptor.unwrap_or(-1),
        events: libc::POLLIN,
        revents: 0,
    });
    let timeout = libc::timespec {
        tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(timeout.subsec_nanos() as i32),
    };
    let count = N as libc::nfds_t;
    // SAFETY: `polled` is an array of N entries and `timeout` a valid time, both alive throughout;
    // no signal mask is given.
    let ready = unsafe { libc::ppoll(polled.as_mut_ptr(), count, &timeout, std::ptr::null()) };
    if ready >= 0 {
        return Ok(polled.map(|polled| polled.revents != 0));
    }
    match io::Error::last_os_error() {
        error if error.kind() == io::ErrorKind::Interrupted => Ok([false; N]),
        error => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn only_what_is_readable_is_reported() {
        let (silent, _held) = std::os::unix::net::UnixStream::pair().unwrap();
        let (spoken_to, mut peer) = std::os::unix::net::UnixStream::pair().unwrap();
        let descriptors = [Some(silent.as_raw_fd()), None, Some(spoken_to.as_raw_fd())];
        assert_eq!(wait_readable(descriptors, Duration::ZERO).unwrap(), [false; 3]);
        peer.write_all(b"x").unwrap();
        let readable = wait_readable(descriptors, Duration::from_secs(5)).unwrap();
        assert_eq!(readable, [false, false, true]);
    }

    #[test]
    fn a_wait_lasts_as_long_as_it_was_told() {
        let (silent, _held) = std::os::unix::net::UnixStream::pair().unwrap();
        let start = std::time::Instant::now();
        let timeout = Duration::from_micros(1_500);
        assert_eq!(wait_readable([Some(silent.as_raw_fd())], timeout).unwrap(), [false]);
        assert!(start.elapsed() >= timeout);
    }
}

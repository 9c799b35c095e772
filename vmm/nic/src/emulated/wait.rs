//! Sleeping until a descriptor is readable or a time is over, to the nanosecond.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// Waits for any of `events` that are there, at most `timeout`, and says which are readable. A
/// signal ends the wait early, with none.
pub(super) fn wait<const N: usize>(
    events: [Option<BorrowedFd<'_>>; N],
    timeout: Duration,
) -> std::io::Result<[bool; N]> {
    let mut polled = events.map(|event| libc::pollfd {
        // A negative one is passed over.
        fd: event.map_or(-1, |fd| fd.as_raw_fd()),
        events: libc::POLLIN,
        revents: 0,
    });
    let timeout = libc::timespec {
        tv_sec: timeout.as_secs() as libc::time_t,
        tv_nsec: libc::c_long::from(timeout.subsec_nanos() as i32),
    };
    // SAFETY: `polled` is an array of N entries and `timeout` a valid time, both alive throughout;
    // no signal mask is given.
    let ready =
        unsafe { libc::ppoll(polled.as_mut_ptr(), N as libc::nfds_t, &timeout, std::ptr::null()) };
    if ready < 0 {
        let error = std::io::Error::last_os_error();
        return if error.kind() == std::io::ErrorKind::Interrupted {
            Ok([false; N])
        } else {
            Err(error)
        };
    }
    Ok(polled.map(|polled| polled.revents != 0))
}

//! Eventfds: made, set and waited for.

use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use platform::clock::monotonic_ns;
use platform::readiness::wait_readable;

/// Makes an event that is not set.
///
/// # Errors
/// No descriptor is left.
pub(super) fn new_event() -> io::Result<EventFd> {
    EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)
}

/// Sets an event. It can only fail when its counter is full, and then it is set.
pub(super) fn signal(event: &EventFd) {
    let _ = event.write(1);
}

/// Returns true if the event is set, or becomes set within `timeout`. It stays set. A signal ends
/// the wait early.
pub(super) fn is_set_within(event: &EventFd, timeout: Duration) -> bool {
    // An open descriptor can always be waited for; should the kernel refuse, nothing is known.
    wait_readable([Some(event.as_raw_fd())], timeout).is_ok_and(|[set]| set)
}

/// Waits for an event until `deadline_ns` of `CLOCK_MONOTONIC`; it stays set. Returns false if the
/// time is over.
pub(super) fn wait_until_set(event: &EventFd, deadline_ns: u64) -> bool {
    loop {
        let left_ns = deadline_ns.saturating_sub(monotonic_ns());
        if is_set_within(event, Duration::from_nanos(left_ns)) {
            return true;
        }
        if left_ns == 0 {
            return false;
        }
    }
}

//! A deadline for an exchange with the back-end.

use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};

use vmm_sys_util::eventfd::EventFd;

use super::error::ConnectionError;
use crate::poll::wait_readable;
use platform::budget::BACKEND_DEADLINE;

/// Runs `exchange`; shuts `socket` down, so that the exchange fails, when [`BACKEND_DEADLINE`] is over
/// or `stop` is signalled.
pub(super) fn with_deadline<T>(
    socket: UnixStream,
    stop: &EventFd,
    exchange: impl FnOnce() -> Result<T, ConnectionError>,
) -> Result<T, ConnectionError> {
    let done = EventFd::new(libc::EFD_CLOEXEC | libc::EFD_NONBLOCK);
    let done = done.map_err(ConnectionError::System)?;
    let late = AtomicBool::new(false);
    let watch = || {
        let (done, stop) = (done.as_raw_fd(), stop.as_raw_fd());
        match wait_readable([done, stop], Some(BACKEND_DEADLINE)) {
            Ok(readable) if readable.has(done) => return,
            Ok(readable) if readable.has(stop) => {}
            Ok(_) | Err(_) => late.store(true, Ordering::Relaxed),
        }
        // Fails only where the connection is down already.
        let _ = socket.shutdown(std::net::Shutdown::Both);
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("app-guard".to_owned());
        thread.spawn_scoped(scope, watch).map_err(ConnectionError::System)?;
        let result = exchange();
        // The counter of an eventfd this young has room.
        let _ = done.write(1);
        result
    })
    .map_err(|error| if late.load(Ordering::Relaxed) { ConnectionError::NoAnswer } else { error })
}

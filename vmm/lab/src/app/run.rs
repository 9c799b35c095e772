//! `warmspare app`: a guest that runs until it is told to stop.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::config::AppConfig;
use super::error::AppError;
use super::guest::App;
use crate::poll::wait_readable;

/// Runs the application guest until SIGINT or SIGTERM. `parent` is an end of a pipe that the parent
/// process holds: when the parent dies, the pipe is hung up, and the guest ends too.
///
/// # Errors
/// The guest could not be started ([`AppError::is_usage`] tells whether the user can mend that), or
/// it failed.
pub fn run(config: &AppConfig, parent: Option<BorrowedFd<'_>>) -> Result<(), AppError> {
    // Before any thread starts, so that all inherit the mask and the signals wait for us.
    let signals = stop_signals()
        .map_err(|source| AppError::System { what: "to hand over signals", source })?;
    let app = App::start(config)?;
    let parent = parent.map_or(-1, |fd| fd.as_raw_fd());
    wait_readable([signals.as_raw_fd(), app.ended().as_raw_fd(), parent], None)
        .map_err(AppError::Wait)?;
    let report = app.stop()?;
    tracing::info!(
        "stopped: {} frames in, {} out, {} datagrams echoed, {} waits, {} notifications",
        report.frames_in,
        report.frames_out,
        report.datagrams_echoed,
        report.waits,
        report.notifies
    );
    Ok(())
}

/// A descriptor that becomes readable on SIGINT and SIGTERM; from then on they do nothing else.
fn stop_signals() -> io::Result<OwnedFd> {
    // SAFETY: a signal set is plain integers, filled in by the calls below.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is a live signal set, the signals exist; the results are checked.
    unsafe {
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGINT);
        libc::sigaddset(&mut set, libc::SIGTERM);
        match libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) {
            0 => {}
            error => return Err(io::Error::from_raw_os_error(error)),
        }
    }
    // SAFETY: `set` is a live signal set; the result is checked.
    let fd = unsafe { libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a fresh descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

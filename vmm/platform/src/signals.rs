//! SIGINT, SIGTERM and SIGHUP, taken from descriptors; all signals, kept from a thread; SIGXFSZ,
//! ignored.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use crate::readiness::wait_readable;

/// SIGINT and SIGTERM, blocked in every thread started afterwards, and readable here.
pub struct Termination {
    signals: Signals,
}

impl Termination {
    /// Blocks them. Call this before threads are started.
    ///
    /// # Errors
    /// The operating system has no descriptor left.
    pub fn block() -> io::Result<Self> {
        Ok(Self { signals: Signals::block(&[libc::SIGINT, libc::SIGTERM])? })
    }

    /// Returns true if one of them arrives within `timeout`. From then on, always.
    pub fn wait(&self, timeout: Duration) -> bool {
        self.signals.wait(timeout)
    }
}

/// SIGHUP, blocked in every thread started afterwards, and readable here.
pub struct Reload {
    signals: Signals,
}

impl Reload {
    /// Blocks it. Call this before threads are started.
    ///
    /// # Errors
    /// The operating system has no descriptor left.
    pub fn block() -> io::Result<Self> {
        Ok(Self { signals: Signals::block(&[libc::SIGHUP])? })
    }

    /// Returns true if it has arrived since this was asked last.
    pub fn take(&self) -> bool {
        self.signals.wait(Duration::ZERO) && self.signals.read()
    }
}

/// A descriptor for signals.
struct Signals {
    fd: OwnedFd,
}

impl Signals {
    fn block(signals: &[i32]) -> io::Result<Self> {
        // SAFETY: a zeroed set is a valid argument for `sigemptyset`, which makes it a set; all
        // pointers lead to locals that outlive their calls.
        let fd = unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut set);
            for signal in signals {
                libc::sigaddset(&mut set, *signal);
            }
            libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
            libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a fresh descriptor that nothing else owns.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    fn wait(&self, timeout: Duration) -> bool {
        // An open descriptor can always be waited for.
        wait_readable([Some(self.fd.as_raw_fd())], timeout).is_ok_and(|[readable]| readable)
    }

    /// Takes one, if one is there.
    fn read(&self) -> bool {
        let mut bytes = [0u8; size_of::<libc::signalfd_siginfo>()];
        // SAFETY: the buffer has room for what is asked for.
        let count =
            unsafe { libc::read(self.fd.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len()) };
        count == bytes.len() as isize
    }
}

/// Keeps all signals from the calling thread, so that they go to threads that wait for them.
pub fn block_all() {
    // SAFETY: a zeroed set is a valid argument for `sigfillset`, which makes it a set; the pointers
    // lead to a local that outlives both calls.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut set);
        libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
    }
}

/// Makes a write beyond the limit of a file's size (`RLIMIT_FSIZE`) an error, instead of a signal
/// that ends the process.
pub fn ignore_file_size_signal() {
    // SAFETY: ignoring a signal installs no handler; both arguments are constants.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

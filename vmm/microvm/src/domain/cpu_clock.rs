//! How much CPU time a thread has used.

use std::io;
use std::os::unix::thread::JoinHandleExt;
use std::thread::JoinHandle;

/// The CPU clock of a vCPU thread.
#[derive(Clone, Copy, Debug)]
pub struct CpuClock(libc::clockid_t);

impl CpuClock {
    /// The clock of a thread that is not joined yet.
    ///
    /// # Errors
    /// The system has no such clock.
    pub(super) fn of(thread: &JoinHandle<()>) -> io::Result<Self> {
        let mut clock = 0;
        // SAFETY: the thread is not joined yet, so its handle is valid; `clock` is a place to
        // write to.
        match unsafe { libc::pthread_getcpuclockid(thread.as_pthread_t(), &mut clock) } {
            0 => Ok(Self(clock)),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    /// CPU time that the thread has used so far, in nanoseconds; `None` once it is gone.
    pub fn now_ns(self) -> Option<u64> {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `time` is a place to write to; an unknown clock is an error.
        let result = unsafe { libc::clock_gettime(self.0, &mut time) };
        (result == 0).then(|| time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
    }
}

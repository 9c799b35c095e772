//! The witness: notices when the machine itself stood still.
//!
//! A thread of the highest priority here asks to be woken every millisecond and notes by how much
//! it was late. Every figure of an interruption is reported beside what it saw, so that a stall of
//! a shared machine is not taken for one of ours, nor the other way round.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::clock::monotonic_ns;
use crate::realtime::{self, Priority};

const PERIOD_NS: u64 = 1_000_000;
/// Being this late is a stall. Timer slack and an ordinary exit of another thread stay below.
const STALL_NS: u64 = 2_000_000;
/// Stalls that are kept; more are a machine on which nothing can be measured.
const MAX_STALLS: usize = 4096;

/// A time in which the machine did not run us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stall {
    /// When the witness should have run, `CLOCK_MONOTONIC` nanoseconds.
    pub due_ns: u64,
    /// When it ran.
    pub woke_ns: u64,
}

impl Stall {
    /// Its length in milliseconds.
    pub fn length_ms(&self) -> f64 {
        (self.woke_ns - self.due_ns) as f64 / 1e6
    }

    /// Whether it overlaps a span of time.
    pub fn overlaps(&self, from_ns: u64, to_ns: u64) -> bool {
        self.due_ns < to_ns && from_ns < self.woke_ns
    }
}

/// The running witness; ends when dropped.
pub struct Witness {
    stalls: Arc<Mutex<Vec<Stall>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Witness {
    /// Starts the thread.
    ///
    /// # Errors
    /// The operating system refuses another thread.
    pub fn spawn() -> io::Result<Self> {
        let stalls = Arc::new(Mutex::new(Vec::with_capacity(MAX_STALLS)));
        let stop = Arc::new(AtomicBool::new(false));
        let (theirs, their_stop) = (stalls.clone(), stop.clone());
        let thread = realtime::spawn("witness", Some(Priority::Witness), move || {
            watch(&theirs, &their_stop);
        })?;
        Ok(Self { stalls, stop, thread: Some(thread) })
    }

    /// What it has seen so far, oldest first.
    pub fn stalls(&self) -> Vec<Stall> {
        self.stalls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn watch(stalls: &Mutex<Vec<Stall>>, stop: &AtomicBool) {
    let mut due_ns = monotonic_ns() + PERIOD_NS;
    while !stop.load(Ordering::Relaxed) {
        sleep_until(due_ns);
        let woke_ns = monotonic_ns();
        if woke_ns.saturating_sub(due_ns) > STALL_NS {
            let mut kept = stalls.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() < MAX_STALLS {
                kept.push(Stall { due_ns, woke_ns });
            }
        }
        due_ns = woke_ns + PERIOD_NS;
    }
}

fn sleep_until(at_ns: u64) {
    let at = libc::timespec {
        tv_sec: (at_ns / 1_000_000_000) as i64,
        tv_nsec: (at_ns % 1_000_000_000) as i64,
    };
    // SAFETY: `at` outlives the call; no remainder is asked for with an absolute time.
    unsafe {
        libc::clock_nanosleep(libc::CLOCK_MONOTONIC, libc::TIMER_ABSTIME, &at, std::ptr::null_mut())
    };
}

//! The witness: notices when the machine itself stood still.
//!
//! On each processor a thread of the highest priority in this program asks to be woken every
//! millisecond, and records by how much it was late. One thread for all processors would not do: a
//! processor that its hypervisor takes away, or that is deep in a kernel that cannot be preempted,
//! stops only the threads that wait for it. Every figure of an interruption is reported beside the
//! stalls that were seen, so that a stall of a shared machine is not taken for a fault of this
//! program, nor the other way round.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use platform::clock::monotonic_ns;
use platform::process::{allowed_processors, sleep_until};
use platform::realtime::{self, Priority};

/// Between two wakes of a thread, unless the caller wants another period.
const PERIOD: Duration = Duration::from_millis(1);
/// A thread that wakes this late has seen a stall. Timer slack and an ordinary exit of another
/// thread stay below.
const STALL_NS: u64 = 2_000_000;
/// Stalls that are kept. Nothing can be measured on a machine that has more.
const MAX_STALLS: usize = 32_768;
/// Processors that are watched. On a machine with more, a stall of one of the others goes unseen.
const MAX_PROCESSORS: usize = 16;

/// A time in which the machine did not run the witness.
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

    /// Returns true if the stall overlaps this span of time.
    pub fn overlaps(&self, from_ns: u64, to_ns: u64) -> bool {
        self.due_ns < to_ns && from_ns < self.woke_ns
    }
}

/// How much of a span of time was stall, nanoseconds. The stalls are of all processors, oldest
/// first; where several stood still at once, that time counts once.
pub fn stalled_ns(stalls: &[Stall], from_ns: u64, to_ns: u64) -> u64 {
    let (mut total_ns, mut until_ns) = (0, from_ns);
    for stall in stalls.iter().filter(|stall| stall.overlaps(from_ns, to_ns)) {
        let (begin_ns, end_ns) = (stall.due_ns.max(until_ns), stall.woke_ns.min(to_ns));
        total_ns += end_ns.saturating_sub(begin_ns);
        until_ns = until_ns.max(end_ns);
    }
    total_ns
}

/// The running witness; its threads end when it is dropped.
pub struct Witness {
    stalls: Arc<Mutex<Vec<Stall>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Witness {
    /// Starts a thread on each processor that this process may use.
    ///
    /// # Errors
    /// The operating system refuses another thread.
    pub fn spawn() -> io::Result<Self> {
        Self::spawn_each(PERIOD)
    }

    /// Like [`Self::spawn`], with another period between two wakes. A longer period takes less time
    /// from the other threads, but lets more of the short stalls pass unseen.
    ///
    /// # Errors
    /// As for [`Self::spawn`].
    pub fn spawn_each(period: Duration) -> io::Result<Self> {
        let stalls = Arc::new(Mutex::new(Vec::with_capacity(MAX_STALLS)));
        let stop = Arc::new(AtomicBool::new(false));
        let mut witness = Self { stalls, stop, threads: Vec::new() };
        for processor in allowed_processors().into_iter().take(MAX_PROCESSORS) {
            let (stalls, stop) = (witness.stalls.clone(), witness.stop.clone());
            let thread = realtime::spawn("witness", Some(Priority::Witness), move || {
                // If that is refused, the thread watches whichever processor it runs on.
                let _ = realtime::pin_to(processor..processor + 1);
                watch(period, &stalls, &stop);
            })?;
            witness.threads.push(thread);
        }
        Ok(witness)
    }

    /// The stalls of all processors so far, oldest first.
    pub fn stalls(&self) -> Vec<Stall> {
        let mut stalls = self.stalls.lock().unwrap_or_else(PoisonError::into_inner).clone();
        stalls.sort_by_key(|stall| stall.due_ns);
        stalls
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn watch(period: Duration, stalls: &Mutex<Vec<Stall>>, stop: &AtomicBool) {
    let period_ns = period.as_nanos() as u64;
    let mut due_ns = monotonic_ns() + period_ns;
    while !stop.load(Ordering::Relaxed) {
        sleep_until(due_ns);
        let woke_ns = monotonic_ns();
        if woke_ns.saturating_sub(due_ns) > STALL_NS {
            let mut kept = stalls.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() < MAX_STALLS {
                kept.push(Stall { due_ns, woke_ns });
            }
        }
        due_ns = woke_ns + period_ns;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stalls_of_two_processors_at_once_count_once_and_only_within_the_span() {
        let stall = |due_ns, woke_ns| Stall { due_ns, woke_ns };
        let stalls = [stall(0, 40), stall(30, 50), stall(70, 200)];
        assert_eq!(stalled_ns(&stalls, 10, 100), 40 + 30);
        assert_eq!(stalled_ns(&stalls, 50, 70), 0);
    }
}

//! The witness: notices when the machine itself stood still.
//!
//! On each processor a thread of the highest priority here asks to be woken every millisecond, and
//! notes by how much it was late. One for all would not do: a processor that its hypervisor takes
//! away, or that is deep in a kernel that cannot be preempted, stops the threads that wait for it
//! and no others. Every figure of an interruption is reported beside what they saw, so that a stall
//! of a shared machine is not taken for one of ours, nor the other way round.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use platform::clock::monotonic_ns;
use platform::realtime::{self, Priority};

/// Between two wakes of a thread, as a rule.
const PERIOD: Duration = Duration::from_millis(1);
/// Being this late is a stall. Timer slack and an ordinary exit of another thread stay below.
const STALL_NS: u64 = 2_000_000;
/// Stalls that are kept; more are a machine on which nothing can be measured.
const MAX_STALLS: usize = 32_768;
/// Processors that are watched; on a machine with more, a stall of one of the others goes unseen.
const MAX_PROCESSORS: usize = 16;

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

    /// The same with another pause between two wakes. The longer it is the less each of the threads
    /// takes from the others, and the more of the short stalls pass unseen.
    ///
    /// # Errors
    /// As for [`Self::spawn`].
    pub fn spawn_each(period: Duration) -> io::Result<Self> {
        let stalls = Arc::new(Mutex::new(Vec::with_capacity(MAX_STALLS)));
        let stop = Arc::new(AtomicBool::new(false));
        let mut witness = Self { stalls, stop, threads: Vec::new() };
        for processor in processors() {
            let (stalls, stop) = (witness.stalls.clone(), witness.stop.clone());
            let thread = realtime::spawn("witness", Some(Priority::Witness), move || {
                // Where that is refused it watches whichever it is on.
                let _ = realtime::pin_to(processor..processor + 1);
                watch(period, &stalls, &stop);
            })?;
            witness.threads.push(thread);
        }
        Ok(witness)
    }

    /// What was seen so far, by whichever processor, oldest first.
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

/// Processors that this process may use, as the kernel numbers them.
fn processors() -> Vec<usize> {
    let mut set = std::mem::MaybeUninit::<libc::cpu_set_t>::zeroed();
    // SAFETY: a zeroed set is a valid one; the kernel writes at most the size that is given.
    let set = unsafe {
        libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), set.as_mut_ptr());
        set.assume_init()
    };
    // SAFETY: the number is within the set.
    let allowed = |processor: &usize| unsafe { libc::CPU_ISSET(*processor, &set) };
    (0..libc::CPU_SETSIZE as usize).filter(allowed).take(MAX_PROCESSORS).collect()
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

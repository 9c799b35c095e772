//! Real-time scheduling of the threads on the failover path, and where threads run.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};

/// `SCHED_FIFO` priorities. The order matters, the numbers do not: a verdict goes before a frame,
/// a frame before a driver, a driver before the emulated wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i32)]
pub enum Priority {
    /// Emulated NIC engines.
    Nic = 46,
    /// vCPU threads.
    Vcpu = 47,
    /// The switchboard.
    Switchboard = 48,
    /// The supervisor.
    Supervisor = 49,
    /// The witness that notices when the machine itself stood still.
    Witness = 50,
}

static DENIED: AtomicBool = AtomicBool::new(false);

/// Returns true if every thread that asked for real-time scheduling so far has it.
pub fn is_realtime() -> bool {
    !DENIED.load(Ordering::Relaxed)
}

/// Returns true if real-time scheduling is permitted here, found by trying on a thread of its own.
pub fn is_permitted() -> bool {
    let tried = std::thread::spawn(|| {
        let param = libc::sched_param { sched_priority: Priority::Nic as i32 };
        // SAFETY: `param` outlives the call; 0 is the calling thread.
        unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &param) == 0 }
    });
    tried.join().unwrap_or(false)
}

/// Gives the calling thread this priority, or remembers that it was not permitted.
pub fn enter(priority: Priority) {
    let param = libc::sched_param { sched_priority: priority as i32 };
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: `param` outlives the call; 0 is the calling thread.
    if unsafe { libc::sched_setscheduler(0, policy, &param) } != 0
        && !DENIED.swap(true, Ordering::Relaxed)
    {
        tracing::warn!(
            "no real-time scheduling (needs CAP_SYS_NICE): under load a failover can take tens of \
             milliseconds longer"
        );
    }
}

/// Keeps the calling thread, and those that it starts, on these processors, as the kernel numbers
/// them.
///
/// # Errors
/// None of them may be used.
pub fn pin_to(processors: Range<usize>) -> std::io::Result<()> {
    // SAFETY: a zeroed set is an empty one, what lies beyond it is not set, and the call only reads
    // it; 0 is the calling thread.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        let within = processors.start..processors.end.min(libc::CPU_SETSIZE as usize);
        within.for_each(|processor| libc::CPU_SET(processor, &mut set));
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set)
    };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Does one piece of a thread's work. A panic in it ends the piece and not the thread, is logged,
/// and gives `None`. Only for work that leaves nothing half done which the next piece relies on.
pub fn guarded<T>(thread: &str, work: impl FnOnce() -> T) -> Option<T> {
    let done = catch_unwind(AssertUnwindSafe(work));
    if done.is_err() {
        tracing::error!(thread, "a thread has panicked, a defect of this program; it goes on");
    }
    done.ok()
}

/// Starts a named thread, at `priority` where permitted.
///
/// # Errors
/// The operating system refuses another thread.
pub fn spawn<F>(name: &str, priority: Option<Priority>, body: F) -> std::io::Result<JoinHandle<()>>
where
    F: FnOnce() + Send + 'static,
{
    Builder::new().name(name.to_owned()).spawn(move || {
        if let Some(priority) = priority {
            enter(priority);
        }
        body();
    })
}

//! Guest memory whose file is truncated: a fault that must not cost the process.
//!
//! A mapping of a file that has become shorter raises SIGBUS at the next access. One handler for
//! the process looks the address up among the registered regions, puts an anonymous page there, so
//! that the access goes on with zeroes, and marks the region; the user of the region looks at the
//! mark at its next loop boundary and ends that connection. Faults elsewhere go to the handler that
//! SIGBUS had before.
//!
//! The registry is a fixed array of atomics: the handler may run at any instruction of any thread,
//! so it takes no lock and allocates nothing.

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

/// Most regions and logs that can be registered at a time: those of eight guests, and as many that
/// take their place.
const PLACES: usize = 544;

struct Place {
    /// Claimed by a registration.
    taken: AtomicBool,
    /// Address of the first byte; 0 while there is none.
    start: AtomicUsize,
    bytes: AtomicUsize,
    page_bytes: AtomicUsize,
    faulted: AtomicBool,
}

static REGISTRY: [Place; PLACES] = [const {
    Place {
        taken: AtomicBool::new(false),
        start: AtomicUsize::new(0),
        bytes: AtomicUsize::new(0),
        page_bytes: AtomicUsize::new(0),
        faulted: AtomicBool::new(false),
    }
}; PLACES];

/// Faults in registered regions so far. A cheap first look: unchanged means no region is marked
/// that was not before.
static FAULTS: AtomicU32 = AtomicU32::new(0);

static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();

/// See [`FAULTS`].
pub(crate) fn faults() -> u32 {
    FAULTS.load(Ordering::Relaxed)
}

/// A region that survives the truncation of its file, as long as this lives.
#[derive(Debug)]
pub(crate) struct Registration {
    place: usize,
}

impl Registration {
    /// Registers a mapping; `None` if there are too many.
    pub(crate) fn new(start: usize, bytes: usize, page_bytes: usize) -> Option<Self> {
        install();
        let free = |place: &Place| {
            !place.taken.load(Ordering::Relaxed) && !place.taken.swap(true, Ordering::Acquire)
        };
        let place = REGISTRY.iter().position(free)?;
        let entry = &REGISTRY[place];
        entry.bytes.store(bytes, Ordering::Relaxed);
        entry.page_bytes.store(page_bytes, Ordering::Relaxed);
        entry.faulted.store(false, Ordering::Relaxed);
        // Release: a handler that sees the start sees the rest.
        entry.start.store(start, Ordering::Release);
        Some(Self { place })
    }

    /// Returns true if an access hit a page that its file no longer has.
    pub(crate) fn faulted(&self) -> bool {
        REGISTRY[self.place].faulted.load(Ordering::Acquire)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let entry = &REGISTRY[self.place];
        entry.start.store(0, Ordering::Relaxed);
        entry.taken.store(false, Ordering::Release);
    }
}

/// Installs the handler of SIGBUS, once in the life of the process.
fn install() {
    PREVIOUS.get_or_init(|| {
        let mut previous = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: an all-zero sigaction is valid: default action, no flags, empty mask.
        let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
        action.sa_sigaction = on_bus_error as extern "C" fn(_, _, _) as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        // SAFETY: both point to sigactions; the handler is async-signal-safe, see there.
        if unsafe { libc::sigaction(libc::SIGBUS, &action, previous.as_mut_ptr()) } != 0 {
            tracing::warn!(
                "cannot handle SIGBUS: a guest that truncates its memory ends this process"
            );
        }
        // SAFETY: zeroed above, filled in by the call if it succeeded.
        unsafe { previous.assume_init() }
    });
}

/// The handler: atomics, mmap(2) and sigaction(2) only; keeps errno.
extern "C" fn on_bus_error(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes a valid siginfo with SA_SIGINFO; errno is this thread's own.
    let (address, errno) = unsafe { ((*info).si_addr() as usize, *libc::__errno_location()) };
    if !mend(address) {
        pass_on(signal, info, context);
    }
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

/// Puts an anonymous page where `address` lies, if that is in a registered region. Returns true if
/// it did.
fn mend(address: usize) -> bool {
    for place in &REGISTRY {
        let start = place.start.load(Ordering::Acquire);
        let bytes = place.bytes.load(Ordering::Relaxed);
        if start == 0 || address < start || address - start >= bytes {
            continue;
        }
        let page_bytes = place.page_bytes.load(Ordering::Relaxed);
        let page = address & !(page_bytes - 1);
        // SAFETY: the page lies in a mapping that the registration's owner keeps; all accesses to
        // it are volatile or atomic, so that its content changes under them is no surprise.
        let mapped = unsafe {
            libc::mmap(
                page as *mut c_void,
                page_bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        place.faulted.store(true, Ordering::Release);
        FAULTS.fetch_add(1, Ordering::Relaxed);
        return mapped != libc::MAP_FAILED;
    }
    false
}

/// Leaves a fault elsewhere to the handler that was there before, or to the default action.
fn pass_on(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let default = [libc::SIG_DFL, libc::SIG_IGN];
    match PREVIOUS.get() {
        Some(previous) if !default.contains(&previous.sa_sigaction) => {
            if previous.sa_flags & libc::SA_SIGINFO != 0 {
                // SAFETY: the address of a handler of this shape, as its flag says.
                let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) =
                    unsafe { std::mem::transmute(previous.sa_sigaction) };
                handler(signal, info, context);
            } else {
                // SAFETY: the address of a handler of this shape, as the missing flag says.
                let handler: extern "C" fn(c_int) =
                    unsafe { std::mem::transmute(previous.sa_sigaction) };
                handler(signal);
            }
        }
        _ => {
            // The access is repeated after the return, and ends the process as it would have.
            // SAFETY: an all-zero sigaction is the default action.
            unsafe {
                let action: libc::sigaction = MaybeUninit::zeroed().assume_init();
                libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut());
            }
        }
    }
}

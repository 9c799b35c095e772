//! Getting a vCPU out of the guest from another thread.
//!
//! A signal alone can arrive just before `KVM_RUN` and be lost; the `immediate_exit` byte alone
//! is looked at on entry only. Together they are safe at any moment:
//!
//! ```text
//! kicker                              vCPU thread
//! 1. kicked = 1                       a. thread = my id          (once)
//! 2. immediate_exit = 1               b. KVM_RUN reads immediate_exit
//! 3. signal to `thread`, if any       c. EINTR: immediate_exit = 0, then take `kicked`
//! ```
//! All SeqCst: either 3 sees the id of a, or b sees the byte of 2. A kick between the halves of c
//! is at worst reported twice, never lost; the kicker's condition (a stop flag) is set before 1.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::RawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};

use kvm_bindings::kvm_run;
use vmm_sys_util::signal::{SIGRTMIN, register_signal_handler};

use super::error::VmError;

/// Makes the thread that runs a vCPU leave the guest.
///
/// It keeps the kernel's vCPU alive, so drop it with the micro-VM.
#[derive(Clone, Debug)]
pub struct Kicker {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    page: RunPage,
    /// Kernel id of the thread that runs the vCPU; 0 before the first run and after the last.
    thread: AtomicI32,
    kicked: AtomicBool,
}

impl Kicker {
    pub(super) fn new(vcpu: RawFd, run_bytes: usize) -> Result<Self, VmError> {
        install_handler()?;
        let page = RunPage::map(vcpu, run_bytes)
            .map_err(|source| VmError::Kvm { what: "map kvm_run", source })?;
        let (thread, kicked) = (AtomicI32::new(0), AtomicBool::new(false));
        Ok(Self { shared: Arc::new(Shared { page, thread, kicked }) })
    }

    /// The vCPU leaves the guest now, or comes straight back from its next entry. Never blocks.
    /// The running thread sees [`super::Exit::Interrupted`], if no other exit comes first.
    pub fn kick(&self) {
        self.shared.kicked.store(true, Ordering::SeqCst);
        self.shared.page.immediate_exit().store(1, Ordering::SeqCst);
        let thread = self.shared.thread.load(Ordering::SeqCst);
        if thread != 0 {
            // SAFETY: plain integers. Should the thread have ended just now, the call fails, or a
            // new thread of this process gets a signal whose handler does nothing.
            unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, kick_signal()) };
        }
    }

    /// The calling thread is about to run the vCPU.
    pub(super) fn enter(&self) {
        thread_local!(static ID: i32 = {
            // SAFETY: no arguments, cannot fail.
            unsafe { libc::gettid() }
        });
        let id = ID.with(|id| *id);
        if self.shared.thread.load(Ordering::Relaxed) != id {
            self.shared.thread.store(id, Ordering::SeqCst);
        }
    }

    /// No thread runs the vCPU any more.
    pub(super) fn retire(&self) {
        self.shared.thread.store(0, Ordering::SeqCst);
    }

    /// `KVM_RUN` came back for a kick or a foreign signal: makes ready for the next entry.
    pub(super) fn acknowledge(&self) {
        self.shared.page.immediate_exit().store(0, Ordering::SeqCst);
        self.shared.kicked.store(false, Ordering::SeqCst);
    }

    /// Runs `enter` with `immediate_exit` set, so that KVM only completes what is pending.
    pub(super) fn without_entering<T>(&self, enter: impl FnOnce() -> T) -> T {
        let immediate_exit = self.shared.page.immediate_exit();
        immediate_exit.store(1, Ordering::SeqCst);
        let result = enter();
        immediate_exit.store(0, Ordering::SeqCst);
        if self.shared.kicked.load(Ordering::SeqCst) {
            immediate_exit.store(1, Ordering::SeqCst);
        }
        result
    }
}

/// First real-time signal that the C library leaves to programs.
fn kick_signal() -> i32 {
    SIGRTMIN()
}

extern "C" fn nothing(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}

fn install_handler() -> Result<(), VmError> {
    static INSTALLED: OnceLock<Result<(), i32>> = OnceLock::new();
    let result = INSTALLED
        .get_or_init(|| register_signal_handler(kick_signal(), nothing).map_err(|e| e.errno()));
    result.map_err(|errno| VmError::Signal(io::Error::from_raw_os_error(errno)))
}

/// A mapping of a vCPU's `kvm_run` of our own, beside the one that the vCPU's owner uses, so that
/// it may be written while the other is borrowed, and lives as long as any kicker.
#[derive(Debug)]
struct RunPage {
    address: NonNull<u8>,
    bytes: NonZeroUsize,
}

// SAFETY: only one byte of the mapping is ever accessed, as an atomic.
unsafe impl Send for RunPage {}
// SAFETY: as above.
unsafe impl Sync for RunPage {}

impl RunPage {
    fn map(vcpu: RawFd, run_bytes: usize) -> io::Result<Self> {
        let bytes = NonZeroUsize::new(run_bytes).ok_or(io::ErrorKind::InvalidInput)?;
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice; the result is checked.
        let address = unsafe {
            libc::mmap(std::ptr::null_mut(), run_bytes, rights, libc::MAP_SHARED, vcpu, 0)
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let address = NonNull::new(address.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { address, bytes })
    }

    fn immediate_exit(&self) -> &AtomicU8 {
        // SAFETY: the kernel says `kvm_run` has `bytes` bytes, which hold this field; the mapping
        // lives as long as `self`. The kernel and this type are the only ones to access the byte
        // while the vCPU runs, and both do so atomically.
        unsafe {
            let byte = self.address.add(std::mem::offset_of!(kvm_run, immediate_exit));
            AtomicU8::from_ptr(byte.as_ptr())
        }
    }
}

impl Drop for RunPage {
    fn drop(&mut self) {
        // SAFETY: mapped by `map` with this length; nothing refers to it any more.
        unsafe { libc::munmap(self.address.as_ptr().cast(), self.bytes.get()) };
    }
}

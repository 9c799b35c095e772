//! One life of a domain: from loading its image until it is out of the guest for good.

use std::os::unix::thread::JoinHandleExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use shared_ring::control::{CONTROL_MAGIC, wake};
use shared_ring::{ABI_VERSION, Role, hypercall, layout};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::vcpu::{self, Shared, VcpuState, signal, wait_for};
use super::{
    DomainId, DomainSlot, ExitCounts, Fault, Hold, InjectionError, LifeView, Outcome,
    RegisterChange, log, map,
};
use crate::kvm::{FXSAVE_BYTES, Image, MicroVm, MicroVmConfig, VmError};
use platform::budget::LIFE_END_DEADLINE;
use platform::clock::monotonic_ns;
use platform::realtime;

/// Hears what happens to domains. Called on the vCPU thread, so it must neither block nor allocate.
pub trait DomainEvents: Send + Sync {
    /// The domain attached its NIC. Once in a life at most.
    fn ready(&self, id: DomainId, epoch: u32);

    /// The domain failed and is out of the guest for good. Once in a life at most, and never after
    /// it was expelled. Of an exception, `fault` holds what the CPU itself left behind; general
    /// purpose registers and CR2 are in [`Life::outcome`], a few microseconds later.
    ///
    /// `entered_ns` is when the vCPU was last entered, `CLOCK_MONOTONIC`.
    fn failed(&self, id: DomainId, epoch: u32, fault: &Fault, entered_ns: u64);

    /// The domain has been woken and is about to run. Often: must cost next to nothing.
    fn woke(&self, _id: DomainId) {}
}

/// Why a life could not begin.
#[derive(Debug, thiserror::Error)]
pub enum LifeError {
    /// Not one of our images.
    #[error("the image is no domain of warmspare: it has no note section")]
    NoNote,
    /// Built from other sources.
    #[error(
        "the image has ABI version {image}, this program needs {ABI_VERSION}: build both from the same sources"
    )]
    AbiVersion {
        /// What the image says.
        image: u32,
    },
    /// Does not fit the memory map.
    #[error("the image's segment of {len:#x} bytes at {address:#x} lies outside the image area")]
    Layout {
        /// Where it wants to lie.
        address: u64,
        /// Its bytes.
        len: u64,
    },
    /// `DomainSlot::prepare` was not called for this life.
    #[error("the slot is prepared for life {prepared}, not for life {epoch}")]
    NotPrepared {
        /// What the control page says; 0 if it is blank.
        prepared: u32,
        /// The life that was to begin.
        epoch: u32,
    },
    /// No micro-VM.
    #[error(transparent)]
    Vm(#[from] VmError),
    /// No thread or eventfd.
    #[error("cannot {what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: std::io::Error,
    },
}

/// The CPU clock of a vCPU thread.
#[derive(Clone, Copy, Debug)]
pub struct CpuClock(libc::clockid_t);

impl CpuClock {
    fn of(thread: &JoinHandle<()>) -> std::io::Result<Self> {
        let mut clock = 0;
        // SAFETY: the thread is not joined yet, so its handle is valid; `clock` is a place to
        // write to.
        match unsafe { libc::pthread_getcpuclockid(thread.as_pthread_t(), &mut clock) } {
            0 => Ok(Self(clock)),
            errno => Err(std::io::Error::from_raw_os_error(errno)),
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

/// A running domain. Dropped, it is expelled and torn down, which takes a few milliseconds.
pub struct Life {
    shared: Arc<Shared>,
    image: Arc<Image>,
    thread: Option<JoinHandle<()>>,
    cpu_clock: CpuClock,
}

impl Life {
    /// Loads the image into the slot's memory, which must be prepared for `epoch`, builds the
    /// micro-VM and lets it run on a thread of its own.
    ///
    /// # Errors
    /// The image is not fit, the slot not prepared, or the operating system refuses.
    pub fn start(
        slot: Arc<DomainSlot>,
        image: Arc<Image>,
        epoch: u32,
        events: Arc<dyn DomainEvents>,
    ) -> Result<Self, LifeError> {
        map::check_image(&image)?;
        check_prepared(&slot, epoch)?;
        let vm = build(&slot, &image)?;
        let tsc_khz = vm.tsc_khz().map_or_else(measured_tsc_khz, u64::from);
        slot.control().tsc_khz.store(tsc_khz, Ordering::Release);
        let fds = [event()?, event()?, event()?, event()?, event()?, event()?];
        let name = format!("vcpu-{}", slot.name);
        let shared = Arc::new(Shared::new(slot, epoch, events, vm.kicker(), fds));
        let of_thread = shared.clone();
        let body = move || vcpu::run(vm, &of_thread);
        let thread = realtime::spawn(&name, None, body)
            .map_err(|source| LifeError::System { what: "start a thread", source })?;
        match CpuClock::of(&thread) {
            Ok(cpu_clock) => Ok(Self { shared, image, thread: Some(thread), cpu_clock }),
            Err(source) => {
                shared.force_out();
                signal(&shared.retire_event);
                Err(LifeError::System { what: "find a thread's CPU clock", source })
            }
        }
    }

    /// Number of this life.
    pub fn epoch(&self) -> u32 {
        self.shared.epoch
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The program it runs.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// The program it runs, to be kept beyond the life.
    pub fn image_handle(&self) -> Arc<Image> {
        self.image.clone()
    }

    /// The domain.
    pub fn id(&self) -> DomainId {
        self.shared.slot.id
    }

    /// Makes the domain the active one, whoever holds it, and wakes it. On the failover path: some
    /// atomics and a write to an eventfd.
    pub fn release(&self) {
        self.shared.breakpoints.disarm();
        self.set_role(Role::Active);
        self.shared.holds.break_all();
    }

    /// Gives the domain a role and wakes it.
    pub fn set_role(&self, role: Role) {
        let slot = &self.shared.slot;
        slot.control().role.store(role as u32, Ordering::Release);
        signal(&slot.kick);
    }

    /// Wakes the domain for a sign of life, [`wake::CHECK`].
    pub fn check(&self) {
        self.shared.pending_wake.fetch_or(wake::CHECK, Ordering::AcqRel);
        signal(&self.shared.slot.kick);
    }

    /// Kicks the vCPU out of the guest and lets it in again at once: whatever kept it in the kernel
    /// is over then.
    pub fn interrupt(&self) {
        self.shared.kicker.kick();
    }

    /// Keeps the vCPU out of the guest, visibly, as long as what is returned lives: it is soon
    /// [`VcpuState::Held`], and no detector takes it for hung. A domain that has to serve is let go
    /// at once. Does not wait.
    pub fn hold(&self) -> Hold {
        Hold::begin(&self.shared)
    }

    /// Its memory is about to be another life's: a debugger that is still there writes nothing more.
    pub fn revoke_memory(&self) {
        self.shared.breakpoints.forget();
    }

    /// Puts the program's own bytes over a debugger's breakpoints in what was read from `address`
    /// on.
    pub fn hide_breakpoints(&self, address: u64, bytes: &mut [u8]) {
        self.shared.breakpoints.hide(address, bytes);
    }

    /// Whether somebody holds the vCPU.
    pub fn is_held(&self) -> bool {
        self.shared.holds.any()
    }

    /// Whether the vCPU thread sleeps although an event that wakes it is set: it was not run yet.
    /// A standby does not wait for its NIC.
    pub fn is_signalled(&self) -> bool {
        self.shared.is_signalled()
    }

    /// Fault injection: puts `code` over the instruction at `address`, whose first byte that must
    /// be, at the moment at which the program reaches it. The time of the last entry is then that
    /// of the entry into the faulty code.
    ///
    /// # Errors
    /// A trap is set already, or the place is not in the image.
    pub fn inject(&self, address: u64, code: &[u8]) -> Result<(), InjectionError> {
        self.shared.injection.prepare(&self.shared.slot.ram, address, code, None)
    }

    /// The same, with the registers changed too; `code` may be the instruction as it is.
    ///
    /// # Errors
    /// As for [`Self::inject`].
    pub fn inject_registers(
        &self,
        address: u64,
        code: &[u8],
        change: RegisterChange,
    ) -> Result<(), InjectionError> {
        self.shared.injection.prepare(&self.shared.slot.ram, address, code, Some(change))
    }

    /// Begins to note where the program stands whenever it is kicked out of the guest
    /// ([`Self::interrupt`]).
    pub fn begin_samples(&self) {
        self.shared.samples.begin();
    }

    /// Ends that, and gives the instruction pointers.
    pub fn end_samples(&self) -> Vec<u64> {
        self.shared.samples.end()
    }

    /// When faulty code that was injected was met last, `CLOCK_MONOTONIC` nanoseconds; 0 if none was.
    pub fn fault_reached_ns(&self) -> u64 {
        self.shared.injection.reached_ns()
    }

    /// Stops the life: sets its stop epoch and kicks the vCPU out. Does not wait.
    pub fn force_out(&self) {
        self.shared.force_out();
    }

    /// Waits until the vCPU is out of the guest for good, at most until `deadline`.
    pub fn wait_until_out(&self, deadline: Instant) -> bool {
        if self.is_out() {
            return true;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        wait_for(&self.shared.out_event, monotonic_ns() + left.as_nanos() as u64)
    }

    /// Whether the vCPU is out of the guest for good.
    pub fn is_out(&self) -> bool {
        self.shared.state() == VcpuState::Out
    }

    /// Where the vCPU thread is.
    pub fn state(&self) -> VcpuState {
        self.shared.state()
    }

    /// Whether the domain has called READY.
    pub fn is_ready(&self) -> bool {
        self.shared.is_ready()
    }

    /// Whether its driver has attached its NIC.
    pub fn is_attached(&self) -> bool {
        self.shared.is_attached()
    }

    /// Whether the life is over or to be over: it failed, or was expelled.
    pub fn is_stopped(&self) -> bool {
        self.shared.stopped()
    }

    /// When the vCPU was last entered, `CLOCK_MONOTONIC`; 0 before the first time.
    pub fn last_entry_ns(&self) -> u64 {
        self.shared.last_entry_ns.load(Ordering::Relaxed)
    }

    /// CPU clock of the vCPU thread.
    pub fn cpu_clock(&self) -> CpuClock {
        self.cpu_clock
    }

    /// A look at its counters that does not keep it alive.
    pub fn view(&self) -> LifeView {
        LifeView { shared: self.shared.clone(), cpu_clock: self.cpu_clock }
    }

    /// Exits so far.
    pub fn exits(&self) -> ExitCounts {
        self.shared.exits.snapshot()
    }

    /// What is left, once the vCPU is out and its registers are collected.
    pub fn outcome(&self) -> Option<Outcome> {
        let remains = self.shared.remains();
        remains.complete.then(|| Outcome {
            fault: remains.fault,
            registers: remains.registers,
            panic_text: log::panic_text(&self.shared.slot),
        })
    }

    /// Its x87 and SSE registers, once the vCPU is out. For dumps: asks KVM.
    pub fn vector_registers(&self) -> Option<[u8; FXSAVE_BYTES]> {
        self.shared.remains().vm.as_ref()?.vector_registers().ok()
    }

    /// What a failed domain left behind, in one line for people; empty while it lives.
    pub fn crash_summary(&self) -> String {
        let Some(outcome) = self.outcome() else { return String::new() };
        let fault = outcome.fault.map_or_else(|| "expelled".to_owned(), |fault| fault.to_string());
        match outcome.panic_text {
            Some(text) => format!("{fault}: {text}"),
            None => fault,
        }
    }

    /// What the domain logged after its first `seen` bytes of log, made printable, and how many
    /// bytes there are now.
    pub fn log_since(&self, seen: u64) -> (String, u64) {
        log::log_since(&self.shared.slot, seen)
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.force_out();
        signal(&self.shared.retire_event);
        let deadline = Instant::now() + LIFE_END_DEADLINE;
        let Some(thread) = self.thread.take() else { return };
        if !self.wait_until_out(deadline) {
            let domain = &self.shared.slot.name;
            tracing::error!(domain, "the vCPU thread does not end: it is given up");
            return;
        }
        // It is past the guest and past all waiting; a panic in it was already reported.
        let _ = thread.join();
        self.shared.remains().vm = None;
    }
}

fn check_prepared(slot: &DomainSlot, epoch: u32) -> Result<(), LifeError> {
    let control = slot.control();
    let blank = control.magic.load(Ordering::Acquire) != CONTROL_MAGIC;
    let prepared = if blank { 0 } else { control.epoch.load(Ordering::Relaxed) };
    if blank || prepared != epoch {
        return Err(LifeError::NotPrepared { prepared, epoch });
    }
    Ok(())
}

fn build(slot: &DomainSlot, image: &Image) -> Result<MicroVm, VmError> {
    let vm = MicroVm::new(&MicroVmConfig {
        ram: slot.ram.clone(),
        system_base: layout::SYSTEM_BASE,
        system_bytes: layout::SYSTEM_BYTES,
        image,
        mappings: &map::mappings(slot),
        slots: &map::slots(slot),
        stack_top: layout::STACK_TOP,
        hypercall_base: layout::HYPERCALL_BASE,
        arguments: [0, 0],
    })?;
    let notify = layout::HYPERCALL_BASE + hypercall::offset::NOTIFY;
    vm.ioeventfd(notify, &slot.notify, None)?;
    Ok(vm)
}

fn event() -> Result<EventFd, LifeError> {
    EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)
        .map_err(|source| LifeError::System { what: "create an eventfd", source })
}

/// Counts the time stamp counter for two milliseconds: for hosts where KVM does not know it.
fn measured_tsc_khz() -> u64 {
    // SAFETY: every x86-64 CPU has the instruction.
    let ticks = || unsafe { std::arch::x86_64::_rdtsc() };
    let (start_ns, start) = (monotonic_ns(), ticks());
    std::thread::sleep(Duration::from_millis(2));
    let (ns, passed) = (monotonic_ns() - start_ns, ticks().wrapping_sub(start));
    passed.saturating_mul(1_000_000) / ns.max(1)
}

//! One life of a domain: from loading its image until it is out of the guest for good.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Instant;

use shared_ring::control::{CONTROL_MAGIC, wake};
use shared_ring::{Role, hypercall, layout};

use super::cpu_clock::CpuClock;
use super::error::LifeError;
use super::eventfd::{signal, wait_until_set};
use super::events::DomainEvents;
use super::exit_counts::ExitCounts;
use super::fault::Outcome;
use super::hold::Hold;
use super::injection::{InjectionError, RegisterChange};
use super::life_state::LifeState;
use super::slot::{DomainId, DomainSlot};
use super::vcpu_state::VcpuState;
use super::view::LifeView;
use super::{log, map, vcpu};
use crate::kvm::{FXSAVE_BYTES, Image, MicroVm, MicroVmConfig, VmError};
use platform::budget::{LIFE_END_DEADLINE, TSC_MEASUREMENT};
use platform::clock::monotonic_ns;
use platform::realtime;

/// A running domain. Dropped, it is forced out and torn down, which takes a few milliseconds.
pub struct Life {
    state: Arc<LifeState>,
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
        let name = format!("vcpu-{}", slot.name);
        let state = LifeState::new(slot, epoch, events, vm.kicker())
            .map_err(|source| LifeError::System { what: "create an eventfd", source })?;
        let state = Arc::new(state);
        let of_thread = state.clone();
        let body = move || vcpu::run(vm, &of_thread);
        let thread = realtime::spawn(&name, None, body)
            .map_err(|source| LifeError::System { what: "start a thread", source })?;
        match CpuClock::of(&thread) {
            Ok(cpu_clock) => Ok(Self { state, image, thread: Some(thread), cpu_clock }),
            Err(source) => {
                state.force_out();
                signal(&state.events.retire);
                Err(LifeError::System { what: "find a thread's CPU clock", source })
            }
        }
    }

    /// Number of this life.
    #[inline]
    pub fn epoch(&self) -> u32 {
        self.state.epoch
    }

    pub(super) fn life_state(&self) -> &Arc<LifeState> {
        &self.state
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
    #[inline]
    pub fn id(&self) -> DomainId {
        self.state.slot.id
    }

    /// Makes the domain the active one, whoever holds it, and wakes it. On the failover path: some
    /// atomics and a write to an eventfd.
    #[inline]
    pub fn release(&self) {
        self.state.breakpoints.disarm();
        self.set_role(Role::Active);
        self.state.holds.break_all();
    }

    /// Gives the domain a role and wakes it.
    #[inline]
    pub fn set_role(&self, role: Role) {
        let slot = &self.state.slot;
        slot.control().role.store(role as u32, Ordering::Release);
        signal(&slot.kick);
    }

    /// Wakes the domain for a sign of life, [`wake::CHECK`].
    #[inline]
    pub fn check(&self) {
        self.state.pending_wake.fetch_or(wake::CHECK, Ordering::AcqRel);
        signal(&self.state.slot.kick);
    }

    /// Kicks the vCPU out of the guest and lets it in again at once: whatever kept it in the kernel
    /// is over then.
    pub fn interrupt(&self) {
        self.state.kicker.kick();
    }

    /// Keeps the vCPU out of the guest, visibly, as long as what is returned lives: it is soon
    /// [`VcpuState::Held`], and no detector takes it for hung. A domain that has to serve is let go
    /// at once. Does not wait.
    pub fn hold(&self) -> Hold {
        Hold::begin(&self.state)
    }

    /// Its memory is about to be another life's: a debugger that is still there writes nothing
    /// more.
    pub fn revoke_memory(&self) {
        self.state.breakpoints.forget();
    }

    /// Puts the program's own bytes over a debugger's breakpoints in what was read from `address`
    /// on.
    pub fn hide_breakpoints(&self, address: u64, bytes: &mut [u8]) {
        self.state.breakpoints.hide(address, bytes);
    }

    /// Returns true if somebody holds the vCPU.
    #[inline]
    pub fn is_held(&self) -> bool {
        self.state.holds.any()
    }

    /// Returns true if the vCPU thread sleeps although an event that wakes it is set: it was not
    /// run yet. A standby does not wait for its NIC.
    pub fn is_signalled(&self) -> bool {
        self.state.is_signalled()
    }

    /// Fault injection: puts `code` over the instruction at `address`, whose first byte that must
    /// be, at the moment at which the program reaches it. The time of the last entry is then that
    /// of the entry into the faulty code.
    ///
    /// # Errors
    /// A trap is set already, or the place is not in the image.
    pub fn inject(&self, address: u64, code: &[u8]) -> Result<(), InjectionError> {
        self.state.injection.prepare(&self.state.slot.ram, address, code, None)
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
        self.state.injection.prepare(&self.state.slot.ram, address, code, Some(change))
    }

    /// Begins to note where the program stands whenever it is kicked out of the guest
    /// ([`Self::interrupt`]).
    pub fn begin_samples(&self) {
        self.state.samples.begin();
    }

    /// Ends that, and gives the instruction pointers.
    pub fn end_samples(&self) -> Vec<u64> {
        self.state.samples.end()
    }

    /// When faulty code that was injected was met last, `CLOCK_MONOTONIC` nanoseconds; 0 if none
    /// was.
    pub fn fault_reached_ns(&self) -> u64 {
        self.state.injection.reached_ns()
    }

    /// Stops the life: sets its stop epoch and kicks the vCPU out. Does not wait.
    pub fn force_out(&self) {
        self.state.force_out();
    }

    /// Waits until the vCPU is out of the guest for good, at most until `deadline`.
    pub fn wait_until_out(&self, deadline: Instant) -> bool {
        if self.is_out() {
            return true;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        wait_until_set(&self.state.events.out, monotonic_ns() + left.as_nanos() as u64)
    }

    /// Returns true if the vCPU is out of the guest for good.
    #[inline]
    pub fn is_out(&self) -> bool {
        self.state.vcpu() == VcpuState::Out
    }

    /// Where the vCPU thread is.
    #[inline]
    pub fn state(&self) -> VcpuState {
        self.state.vcpu()
    }

    /// Returns true if the domain has called READY.
    #[inline]
    pub fn is_ready(&self) -> bool {
        self.state.is_ready()
    }

    /// Returns true if its driver has attached its NIC.
    #[inline]
    pub fn is_attached(&self) -> bool {
        self.state.is_attached()
    }

    /// Returns true if the life is over or to be over: it failed, or was forced out.
    #[inline]
    pub fn is_stopped(&self) -> bool {
        self.state.is_stopped()
    }

    /// When the vCPU was last entered, `CLOCK_MONOTONIC`; 0 before the first time.
    #[inline]
    pub fn last_entry_ns(&self) -> u64 {
        self.state.last_entry_ns.load(Ordering::Relaxed)
    }

    /// CPU clock of the vCPU thread.
    #[inline]
    pub fn cpu_clock(&self) -> CpuClock {
        self.cpu_clock
    }

    /// A look at its counters that does not keep it alive.
    pub fn view(&self) -> LifeView {
        LifeView { state: self.state.clone(), cpu_clock: self.cpu_clock }
    }

    /// Exits so far.
    pub fn exits(&self) -> ExitCounts {
        self.state.exits.snapshot()
    }

    /// What is left, once the vCPU is out and its registers are collected.
    pub fn outcome(&self) -> Option<Outcome> {
        let end = self.state.final_state();
        end.complete.then(|| Outcome {
            fault: end.fault,
            registers: end.registers,
            panic_text: log::panic_text(&self.state.slot),
        })
    }

    /// Its x87 and SSE registers, once the vCPU is out. For dumps: asks KVM.
    pub fn vector_registers(&self) -> Option<[u8; FXSAVE_BYTES]> {
        self.state.final_state().vm.as_ref()?.vector_registers().ok()
    }

    /// What a failed domain left behind, in one line for people; empty while it lives.
    pub fn crash_summary(&self) -> String {
        let Some(outcome) = self.outcome() else { return String::new() };
        let fault =
            outcome.fault.map_or_else(|| "forced out".to_owned(), |fault| fault.to_string());
        match outcome.panic_text {
            Some(text) => format!("{fault}: {text}"),
            None => fault,
        }
    }

    /// What the domain logged after its first `seen` bytes of log, made printable, and how many
    /// bytes there are now.
    pub fn log_since(&self, seen: u64) -> (String, u64) {
        log::log_since(&self.state.slot, seen)
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.force_out();
        signal(&self.state.events.retire);
        let deadline = Instant::now() + LIFE_END_DEADLINE;
        let Some(thread) = self.thread.take() else { return };
        if !self.wait_until_out(deadline) {
            let domain = &self.state.slot.name;
            tracing::error!(domain, "the vCPU thread does not end: it is given up");
            return;
        }
        // It is past the guest and past all waiting; a panic in it was already reported.
        let _ = thread.join();
        self.state.final_state().vm = None;
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

/// Measures the frequency of the time stamp counter, for hosts where KVM does not know it.
fn measured_tsc_khz() -> u64 {
    // SAFETY: every x86-64 CPU has the instruction.
    let ticks = || unsafe { std::arch::x86_64::_rdtsc() };
    let (start_ns, start) = (monotonic_ns(), ticks());
    std::thread::sleep(TSC_MEASUREMENT);
    let (ns, passed) = (monotonic_ns() - start_ns, ticks().wrapping_sub(start));
    passed.saturating_mul(1_000_000) / ns.max(1)
}

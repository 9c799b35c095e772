//! The vCPU thread of one life.
//!
//! ```text
//!  Starting ─► InGuest ─► Serving ─► InGuest ...
//!                            │ ▲ WAIT
//!                            ▼ │
//!                          Parked
//!  before each entry: Held, for as long as a debugger or an injector wants it
//!  any of them ─► Out: expelled, or failed
//! ```
//! The stop flag is looked at after every exit, before anything is done for the domain: what a
//! domain says after the verdict is not carried out. Who fails a life, the thread itself by a fault
//! or another by expelling it, is settled by one compare-and-swap; the loser stays silent.

use std::ops::ControlFlow;
use std::os::fd::{AsRawFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shared_ring::Role;
use shared_ring::control::wake;
use shared_ring::hypercall::offset;
use shared_ring::layout::{BAR_BASE, BAR_BYTES};
use vmm_sys_util::eventfd::EventFd;

use super::breakpoints::Breakpoints;
use super::fault::ExitCounters;
use super::hold::Holds;
use super::injection::Injection;
use super::samples::Samples;
use super::{DomainEvents, DomainSlot, Fault};
use crate::kvm::{CrashRecord, Exit, Kicker, MicroVm, Registers};
use nic::BarAccess;
use platform::budget::PARK_RECHECK;
use platform::clock::monotonic_ns;
use platform::realtime::{self, Priority};

/// Where a vCPU thread is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum VcpuState {
    /// Has not run yet.
    Starting = 0,
    /// Runs the domain's program.
    InGuest = 1,
    /// Carries out what the domain asked for.
    Serving = 2,
    /// Sleeps until there may be work.
    Parked = 3,
    /// Out of the guest for good.
    Out = 4,
    /// Kept out of the guest for a while, by a debugger or an injector: no fault of its own.
    Held = 5,
}

impl VcpuState {
    fn from_u8(state: u8) -> Self {
        match state {
            0 => Self::Starting,
            1 => Self::InGuest,
            2 => Self::Serving,
            3 => Self::Parked,
            5 => Self::Held,
            _ => Self::Out,
        }
    }
}

/// Who ended a life; [`Shared::verdict`].
mod verdict {
    pub(super) const NONE: u8 = 0;
    pub(super) const FAILED: u8 = 1;
    pub(super) const EXPELLED: u8 = 2;
}

/// What a vCPU thread leaves behind.
#[derive(Debug, Default)]
pub(super) struct Remains {
    /// Kept until the life is dropped, off the failover path: closing a VM takes milliseconds.
    pub(super) vm: Option<MicroVm>,
    pub(super) fault: Option<Fault>,
    pub(super) registers: Option<Registers>,
    /// Everything above is final.
    pub(super) complete: bool,
}

/// What a vCPU thread and the rest of the program share about one life.
pub(super) struct Shared {
    pub(super) slot: Arc<DomainSlot>,
    pub(super) epoch: u32,
    pub(super) events: Arc<dyn DomainEvents>,
    pub(super) kicker: Kicker,
    pub(super) exits: ExitCounters,
    pub(super) last_entry_ns: AtomicU64,
    pub(super) remains: Mutex<Remains>,
    pub(super) injection: Injection,
    pub(super) samples: Samples,
    /// Bits of [`wake`] to report beside what the eventfds say.
    pub(super) pending_wake: AtomicU32,
    /// Written once, when the life is to stop; never read, so it stays readable.
    pub(super) stop_event: EventFd,
    /// Written once, when the vCPU is out for good; never read.
    pub(super) out_event: EventFd,
    /// Written once, when the thread may end; never read.
    pub(super) retire_event: EventFd,
    /// Who keeps it out of the guest for a while.
    pub(super) holds: Holds,
    pub(super) breakpoints: Breakpoints,
    verdict: AtomicU8,
    state: AtomicU8,
    ready: AtomicBool,
    attached: AtomicBool,
}

impl Shared {
    pub(super) fn new(
        slot: Arc<DomainSlot>,
        epoch: u32,
        events: Arc<dyn DomainEvents>,
        kicker: Kicker,
        [stop_event, out_event, retire_event, resume, visit, met]: [EventFd; 6],
    ) -> Self {
        Self {
            slot,
            epoch,
            events,
            kicker,
            exits: ExitCounters::default(),
            last_entry_ns: AtomicU64::new(0),
            remains: Mutex::default(),
            injection: Injection::default(),
            samples: Samples::default(),
            pending_wake: AtomicU32::new(0),
            stop_event,
            out_event,
            retire_event,
            holds: Holds::new(resume, visit),
            breakpoints: Breakpoints::new(met),
            verdict: AtomicU8::new(verdict::NONE),
            state: AtomicU8::new(VcpuState::Starting as u8),
            ready: AtomicBool::new(false),
            attached: AtomicBool::new(false),
        }
    }

    /// Stops the life from outside, unless it failed by itself before.
    pub(super) fn force_out(&self) {
        self.decide(verdict::EXPELLED);
        // Also where the verdict is older: the thread may be on its way, and hurrying it is free.
        self.kicker.kick();
        signal(&self.stop_event);
    }

    fn decide(&self, verdict: u8) -> bool {
        let none = verdict::NONE;
        self.verdict.compare_exchange(none, verdict, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    pub(super) fn stopped(&self) -> bool {
        self.verdict.load(Ordering::SeqCst) != verdict::NONE
    }

    pub(super) fn state(&self) -> VcpuState {
        match VcpuState::from_u8(self.state.load(Ordering::Acquire)) {
            // Asleep and not to be let in when it wakes: as good as held.
            VcpuState::Parked if self.is_held() => VcpuState::Held,
            state => state,
        }
    }

    /// Whether an event that ends the parking is set.
    pub(super) fn is_signalled(&self) -> bool {
        let slot = &self.slot;
        let fds = [slot.kick.as_raw_fd(), slot.nic.queue_event().as_raw_fd()];
        let watched = if watches_nic(slot.control().role()) { &fds[..] } else { &fds[..1] };
        poll(watched, Duration::ZERO).contains(&true)
    }

    fn is_held(&self) -> bool {
        self.holds.any()
    }

    fn set_state(&self, state: VcpuState) {
        self.state.store(state as u8, Ordering::Release);
    }

    pub(super) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    pub(super) fn is_attached(&self) -> bool {
        self.attached.load(Ordering::Acquire)
    }

    pub(super) fn remains(&self) -> MutexGuard<'_, Remains> {
        // Nothing is left half-done by a panic here: the fields are set one by one.
        self.remains.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How the loop ended.
enum End {
    Expelled,
    Fault(Fault),
}

/// Body of the vCPU thread.
pub(super) fn run(mut vm: MicroVm, shared: &Shared) {
    let turns = AssertUnwindSafe(|| live(&mut vm, shared));
    let end = catch_unwind(turns).unwrap_or(End::Fault(Fault::VcpuThread));
    shared.set_state(VcpuState::Out);
    let fault = match end {
        End::Expelled => None,
        End::Fault(fault) => Some(fault),
    };
    if let Some(fault) = &fault
        && shared.decide(verdict::FAILED)
    {
        report(shared, fault);
    }
    signal(&shared.out_event);
    keep(vm, shared, fault);
    // Ending a thread is work for the kernel; it can wait until the failover is over.
    while !poll(&[shared.retire_event.as_raw_fd()], PARK_RECHECK)[0] {}
}

fn report(shared: &Shared, fault: &Fault) {
    let entered_ns = shared.last_entry_ns.load(Ordering::Relaxed);
    let tell = || shared.events.failed(shared.slot.id, shared.epoch, fault, entered_ns);
    if catch_unwind(AssertUnwindSafe(tell)).is_err() {
        tracing::error!(domain = shared.slot.name, "whoever hears of faults panicked");
    }
}

/// Stores the outcome and the machine for later.
fn keep(vm: MicroVm, shared: &Shared, mut fault: Option<Fault>) {
    if let Some(Fault::Exception(record)) = &mut fault
        && let Err(error) = vm.complete_record(record)
    {
        tracing::warn!(domain = shared.slot.name, %error, "crash record without all registers");
    }
    let registers = vm.registers().ok();
    let mut remains = shared.remains();
    *remains = Remains { vm: Some(vm), fault, registers, complete: true };
}

fn live(vm: &mut MicroVm, shared: &Shared) -> End {
    // It has called WAIT, and there was no reason yet to let it go on.
    let mut waits = false;
    while !shared.stopped() {
        if shared.is_held() {
            stay_held(vm, shared);
            continue;
        }
        if waits {
            waits = park(shared).is_continue();
            continue;
        }
        shared.last_entry_ns.store(monotonic_ns(), Ordering::Relaxed);
        shared.set_state(VcpuState::InGuest);
        let exit = vm.run();
        shared.set_state(VcpuState::Serving);
        if shared.stopped() {
            break;
        }
        let interrupted = matches!(exit, Ok(Exit::Interrupted));
        let act = match exit {
            Ok(Exit::Hypercall { offset: offset::WAIT, .. }) => {
                count(&shared.exits.waits);
                waits = true;
                continue;
            }
            Ok(exit) => act(exit, shared),
            Err(error) => ControlFlow::Break(Fault::Kvm { errno: error.errno() }),
        };
        match act {
            ControlFlow::Continue(()) if interrupted => shared.samples.take(vm),
            ControlFlow::Continue(()) => {}
            ControlFlow::Break(Fault::Exception(record))
                if shared.injection.is_reached(&record) && inject(vm, shared, record) => {}
            ControlFlow::Break(Fault::Exception(record))
                if shared.breakpoints.meet(vm, &shared.slot.ram, &shared.holds, record) => {}
            ControlFlow::Break(fault) => return End::Fault(fault),
        }
    }
    End::Expelled
}

/// Puts an injected fault in; meanwhile the injector holds the vCPU.
fn inject(vm: &mut MicroVm, shared: &Shared, record: CrashRecord) -> bool {
    shared.set_state(VcpuState::Held);
    shared.injection.carry_out(vm, &shared.slot.ram, record)
}

/// Waits for a visitor, or the end of the hold or of the life. A hold that follows another at once
/// may find the event of the first and go round once more.
fn stay_held(vm: &mut MicroVm, shared: &Shared) {
    shared.set_state(VcpuState::Held);
    let [resume, visit] = shared.holds.fds();
    let [_, resumed, visited, _] =
        poll(&[shared.stop_event.as_raw_fd(), resume, visit], PARK_RECHECK);
    if resumed {
        shared.holds.take_resume();
    }
    if visited {
        shared.holds.receive(vm);
    }
}

fn act(exit: Exit<'_>, shared: &Shared) -> ControlFlow<Fault> {
    let exits = &shared.exits;
    match exit {
        Exit::Hypercall { offset, value } => {
            count(&exits.calls);
            return call(offset, value, shared);
        }
        Exit::MmioRead { address, data } => {
            count(&exits.register_loads);
            return load(address, data, shared);
        }
        Exit::MmioWrite { address, data } => {
            count(&exits.register_stores);
            return store(address, data, shared);
        }
        Exit::Interrupted => count(&exits.interruptions),
        Exit::Exception(record) => return ControlFlow::Break(Fault::Exception(record)),
        Exit::Shutdown => return ControlFlow::Break(Fault::Shutdown),
        Exit::Unexpected { reason } => return ControlFlow::Break(Fault::UnexpectedExit { reason }),
    }
    ControlFlow::Continue(())
}

fn call(offset: u64, value: u32, shared: &Shared) -> ControlFlow<Fault> {
    match offset {
        offset::READY => {
            let attached = shared.slot.control().role() != Role::Unattached;
            if attached && !shared.attached.swap(true, Ordering::AcqRel) {
                shared.slot.note_attached(shared.epoch);
            }
            if !shared.ready.swap(true, Ordering::AcqRel) {
                // Until now it was a rebuild like any other, and had to give way to the service.
                realtime::enter(Priority::Vcpu);
                shared.events.ready(shared.slot.id, shared.epoch);
            }
        }
        // Normally an ioeventfd catches this one before it leaves the kernel.
        offset::NOTIFY => signal(&shared.slot.notify),
        // The text lies in the domain's memory until somebody has time to fetch it.
        offset::LOG => {}
        offset::PANIC => return ControlFlow::Break(Fault::Panic { code: value }),
        _ => return ControlFlow::Break(Fault::Hypercall { offset, value }),
    }
    ControlFlow::Continue(())
}

fn load(address: u64, data: &mut [u8], shared: &Shared) -> ControlFlow<Fault> {
    let bytes = data.len();
    let register = register(address, bytes, false)?;
    let BarAccess::Trapped(registers) = shared.slot.nic.bar() else {
        return ControlFlow::Break(Fault::OutsideMap { address, write: false });
    };
    data.copy_from_slice(&registers.read(register).to_le_bytes());
    ControlFlow::Continue(())
}

fn store(address: u64, data: &[u8], shared: &Shared) -> ControlFlow<Fault> {
    let register = register(address, data.len(), true)?;
    let (BarAccess::Trapped(registers), &[a, b, c, d]) = (shared.slot.nic.bar(), data) else {
        return ControlFlow::Break(Fault::OutsideMap { address, write: true });
    };
    registers.write(register, u32::from_le_bytes([a, b, c, d]));
    ControlFlow::Continue(())
}

/// Offset of the register that an access means.
fn register(address: u64, bytes: usize, write: bool) -> ControlFlow<Fault, u32> {
    let offset = address.wrapping_sub(BAR_BASE);
    if offset >= BAR_BYTES {
        return ControlFlow::Break(Fault::OutsideMap { address, write });
    }
    if bytes != 4 || !offset.is_multiple_of(4) {
        return ControlFlow::Break(Fault::RegisterAccess { offset, bytes: bytes as u8, write });
    }
    ControlFlow::Continue(offset as u32)
}

/// Whether a domain wakes for its NIC's queues. A standby has no business with them: paused, it costs
/// nothing.
fn watches_nic(role: Role) -> bool {
    match role {
        Role::Standby | Role::Unattached => false,
        Role::Active | Role::Drill => true,
    }
}

/// Sleeps until the domain may have work, which breaks the wait, or is to stop or be looked at,
/// which does not. Events are consumed only here, on waking; one that came while the domain was
/// busy makes this return at once.
fn park(shared: &Shared) -> ControlFlow<()> {
    let slot = &shared.slot;
    let nic = slot.nic.queue_event();
    let [_, visit] = shared.holds.fds();
    let fds = [shared.stop_event.as_raw_fd(), visit, slot.kick.as_raw_fd(), nic.as_raw_fd()];
    shared.set_state(VcpuState::Parked);
    let reason = loop {
        // The role is read before every sleep; who changes it kicks afterwards.
        let watched = if watches_nic(slot.control().role()) { &fds[..] } else { &fds[..3] };
        let [stop, visited, kick, nic_fired] = poll(watched, PARK_RECHECK);
        if stop || shared.stopped() {
            return ControlFlow::Continue(());
        }
        if visited && shared.is_held() {
            return ControlFlow::Continue(());
        } else if visited {
            shared.holds.turn_away();
        }
        let consumed = |event: &EventFd, fired: bool, bit| match fired {
            // Somebody else may have emptied it in between: then there was an event all the same.
            true => {
                let _ = event.read();
                bit
            }
            false => 0,
        };
        let reason = consumed(&slot.kick, kick, wake::KICK)
            | consumed(nic, nic_fired, wake::NIC)
            | shared.pending_wake.swap(0, Ordering::AcqRel);
        if reason != 0 {
            break reason;
        }
    };
    slot.control().wake_reason.store(reason, Ordering::Release);
    shared.events.woke(slot.id);
    ControlFlow::Break(())
}

/// Which of up to four descriptors are readable, after at most `limit`. A signal ends the wait
/// early.
fn poll(fds: &[RawFd], limit: Duration) -> [bool; 4] {
    let entry = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // A negative descriptor is skipped by the kernel.
    let mut entries = [entry(-1); 4];
    for (entry, fd) in entries.iter_mut().zip(fds) {
        entry.fd = *fd;
    }
    let limit_ms = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: four valid entries.
    let count = unsafe { libc::poll(entries.as_mut_ptr(), 4, limit_ms) };
    entries.map(|entry| count > 0 && entry.revents != 0)
}

/// Waits until an event is set, which it stays.
pub(super) fn wait_for(event: &EventFd, deadline_ns: u64) -> bool {
    loop {
        let left = deadline_ns.saturating_sub(monotonic_ns());
        // Rounded up: a wait of less than a millisecond is one, not none.
        let limit = Duration::from_millis(left.div_ceil(1_000_000));
        if poll(&[event.as_raw_fd()], limit)[0] {
            return true;
        }
        if left == 0 {
            return false;
        }
    }
}

/// Sets an event. It can only fail when its counter is full, and then it is set.
pub(super) fn signal(event: &EventFd) {
    let _ = event.write(1);
}

fn count(counter: &AtomicU64) {
    // One writer: a plain increment.
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

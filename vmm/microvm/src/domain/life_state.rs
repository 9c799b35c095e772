//! What the vCPU thread of a life and the rest of the program share about it.
//!
//! Two can end a life: its own thread, by a fault, and any other, by forcing it out. One
//! compare-and-swap decides who was first; the other one reports nothing.

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shared_ring::Role;
use vmm_sys_util::eventfd::EventFd;

use super::breakpoints::Breakpoints;
use super::eventfd::{new_event, signal};
use super::events::DomainEvents;
use super::exit_counts::ExitCounters;
use super::fault::Fault;
use super::holds::Holds;
use super::injection::Injection;
use super::samples::Samples;
use super::slot::DomainSlot;
use super::vcpu_state::VcpuState;
use crate::kvm::{Kicker, MicroVm, Registers};
use platform::readiness::wait_readable;

/// Who ended a life.
#[derive(Clone, Copy)]
#[repr(u8)]
enum End {
    /// Nobody yet.
    None = 0,
    /// The domain, by a fault.
    Failed = 1,
    /// Another thread, which forced it out.
    ForcedOut = 2,
}

/// What a vCPU thread leaves behind.
#[derive(Debug, Default)]
pub(super) struct FinalState {
    /// Kept until the life is dropped, off the failover path: closing a VM takes milliseconds.
    pub(super) vm: Option<MicroVm>,
    pub(super) fault: Option<Fault>,
    pub(super) registers: Option<Registers>,
    /// Everything above is final.
    pub(super) complete: bool,
}

/// The eventfds of one life. None of the first three is ever read, so each stays readable.
pub(super) struct LifeEvents {
    /// Written once, when the life is to stop.
    pub(super) stop: EventFd,
    /// Written once, when the vCPU is out for good.
    pub(super) out: EventFd,
    /// Written once, when the thread may end.
    pub(super) retire: EventFd,
}

impl LifeEvents {
    fn new() -> std::io::Result<Self> {
        Ok(Self { stop: new_event()?, out: new_event()?, retire: new_event()? })
    }
}

/// State of one life.
pub(super) struct LifeState {
    pub(super) slot: Arc<DomainSlot>,
    pub(super) epoch: u32,
    pub(super) listener: Arc<dyn DomainEvents>,
    pub(super) kicker: Kicker,
    pub(super) exits: ExitCounters,
    pub(super) last_entry_ns: AtomicU64,
    pub(super) injection: Injection,
    pub(super) samples: Samples,
    /// Bits of [`shared_ring::control::wake`] to report beside what the eventfds say.
    pub(super) pending_wake: AtomicU32,
    pub(super) events: LifeEvents,
    /// Who keeps the vCPU out of the guest for a while.
    pub(super) holds: Holds,
    pub(super) breakpoints: Breakpoints,
    final_state: Mutex<FinalState>,
    end: AtomicU8,
    vcpu: AtomicU8,
    ready: AtomicBool,
    attached: AtomicBool,
}

impl LifeState {
    /// The state of a life that has not run yet.
    ///
    /// # Errors
    /// No descriptors are left.
    pub(super) fn new(
        slot: Arc<DomainSlot>,
        epoch: u32,
        listener: Arc<dyn DomainEvents>,
        kicker: Kicker,
    ) -> std::io::Result<Self> {
        Ok(Self {
            slot,
            epoch,
            listener,
            kicker,
            exits: ExitCounters::default(),
            last_entry_ns: AtomicU64::new(0),
            injection: Injection::default(),
            samples: Samples::default(),
            pending_wake: AtomicU32::new(0),
            events: LifeEvents::new()?,
            holds: Holds::new(new_event()?, new_event()?),
            breakpoints: Breakpoints::new(new_event()?),
            final_state: Mutex::default(),
            end: AtomicU8::new(End::None as u8),
            vcpu: AtomicU8::new(VcpuState::Starting as u8),
            ready: AtomicBool::new(false),
            attached: AtomicBool::new(false),
        })
    }

    /// Stops the life from outside, unless it failed by itself before.
    pub(super) fn force_out(&self) {
        self.decide(End::ForcedOut);
        // Also where the end was decided before: the thread may be on its way, and hurrying it is
        // free.
        self.kicker.kick();
        signal(&self.events.stop);
    }

    /// The life ends by a fault of the domain's. Returns false if it was forced out before.
    pub(super) fn fail(&self) -> bool {
        self.decide(End::Failed)
    }

    fn decide(&self, end: End) -> bool {
        let none = End::None as u8;
        self.end.compare_exchange(none, end as u8, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Returns true if the life is over or to be over.
    pub(super) fn is_stopped(&self) -> bool {
        self.end.load(Ordering::SeqCst) != End::None as u8
    }

    /// Where the vCPU thread is.
    pub(super) fn vcpu(&self) -> VcpuState {
        match VcpuState::from_u8(self.vcpu.load(Ordering::Acquire)) {
            // Asleep, and not to be let in when it wakes: as good as held.
            VcpuState::Parked if self.holds.any() => VcpuState::Held,
            state => state,
        }
    }

    /// For the vCPU thread: where it is from now on.
    pub(super) fn set_vcpu(&self, state: VcpuState) {
        self.vcpu.store(state as u8, Ordering::Release);
    }

    /// Returns true if an event that ends the parking is set.
    pub(super) fn is_signalled(&self) -> bool {
        let kick = Some(self.slot.kick.as_raw_fd());
        let nic = self.watches_nic().then(|| self.slot.nic.queue_event().as_raw_fd());
        wait_readable([kick, nic], Duration::ZERO).is_ok_and(|readable| readable.contains(&true))
    }

    /// Returns true if the domain is to wake for its NIC's queues. A standby has no business with
    /// them: paused, it costs nothing.
    pub(super) fn watches_nic(&self) -> bool {
        match self.slot.control().role() {
            Role::Standby | Role::Unattached => false,
            Role::Active | Role::Drill => true,
        }
    }

    /// Returns true if the domain has called READY.
    pub(super) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Notes that the domain has called READY. Returns true if it is the first time.
    pub(super) fn note_ready(&self) -> bool {
        !self.ready.swap(true, Ordering::AcqRel)
    }

    /// Returns true if the driver has attached its NIC.
    pub(super) fn is_attached(&self) -> bool {
        self.attached.load(Ordering::Acquire)
    }

    /// Notes that the driver has attached its NIC. Returns true if it is the first time.
    pub(super) fn note_attached(&self) -> bool {
        !self.attached.swap(true, Ordering::AcqRel)
    }

    /// What the vCPU thread has left behind so far.
    pub(super) fn final_state(&self) -> MutexGuard<'_, FinalState> {
        // Nothing is left half-done by a panic here: the fields are set one by one.
        self.final_state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

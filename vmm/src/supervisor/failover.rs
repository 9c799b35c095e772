//! The failover itself: the one place where roles change.
//!
//! [`Failover::verdict`] runs on whichever thread has the verdict (the vCPU thread for a crash, the
//! supervisor for all else), because every thread in between would cost a wake-up. The seats are
//! behind one mutex; what is done under it is a few stores, register writes and eventfd writes.
//! Nothing on the path from the verdict to the release of the spare allocates, logs, maps memory or
//! waits. Everything slow is left to the rebuild thread, through a channel that was sized for it.

use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::roles::{IllegalTransition, RoleEvent, RoleState};
use crate::clock::monotonic_ns;
use crate::domain::{DomainId, DomainSlot, Fault, Life};
use crate::switchboard::{Switchboard, TakeOver, Violation};

/// Why a domain has failed.
#[derive(Clone, Copy, Debug)]
pub enum Verdict {
    /// Its vCPU came out with a fault.
    Crash(Fault),
    /// It published something that does not check.
    Protocol(Violation),
}

impl Verdict {
    /// The detector, as it stands in reports.
    pub fn cause(&self) -> &'static str {
        match self {
            Self::Crash(_) => "crash",
            Self::Protocol(_) => "protocol",
        }
    }
}

/// What is known of a failure at the verdict.
#[derive(Clone, Copy, Debug)]
pub struct FailoverRecord {
    /// The failed domain.
    pub from: DomainId,
    /// Its life.
    pub epoch: u32,
    /// Whether it served the ring.
    pub was_active: bool,
    /// The domain that took over.
    pub to: Option<DomainId>,
    /// Why it failed.
    pub verdict: Verdict,
    /// When the failed vCPU last entered the guest: the nearest stamp before the fault.
    pub entered_ns: u64,
    /// When the verdict fell.
    pub verdict_ns: u64,
    /// When the spare had been released.
    pub released_ns: u64,
}

/// What the rebuild thread is asked for. Not boxed: it is sent from the failover path, which does
/// not allocate.
#[expect(clippy::large_enum_variant, reason = "sent without allocating, a few in all")]
pub(super) enum Job {
    /// A domain has failed: record it, and build it anew.
    Failure(FailoverRecord),
    /// The system ends.
    Stop,
}

/// Place of one domain.
struct Seat {
    state: RoleState,
    epoch: u32,
    life: Option<Arc<Life>>,
}

/// Who serves, who stands by.
pub struct Failover {
    slots: Vec<Arc<DomainSlot>>,
    switchboard: Arc<Switchboard>,
    seats: Mutex<Vec<Seat>>,
    jobs: SyncSender<Job>,
}

impl Failover {
    /// All domains failed; the rebuild thread brings them up. `jobs` must have room for two
    /// records of each domain.
    pub(super) fn new(
        slots: Vec<Arc<DomainSlot>>,
        switchboard: Arc<Switchboard>,
        jobs: SyncSender<Job>,
    ) -> Self {
        let seat = |_: &_| Seat { state: RoleState::Failed, epoch: 0, life: None };
        let seats = Mutex::new(slots.iter().map(seat).collect());
        Self { slots, switchboard, seats, jobs }
    }

    fn seats(&self) -> MutexGuard<'_, Vec<Seat>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A domain has failed: stop its NIC and hand its ring to the first standby.
    ///
    /// The vCPU must be out of the guest for good. A verdict on an earlier life, or on a domain
    /// that has failed already, changes nothing.
    pub fn verdict(&self, from: DomainId, epoch: u32, verdict: Verdict, entered_ns: u64) {
        let verdict_ns = monotonic_ns();
        let mut seats = self.seats();
        let seat = &mut seats[from.index()];
        let Ok(failed) = seat.state.after(RoleEvent::Fault) else { return };
        if seat.epoch != epoch {
            return;
        }
        let was_active = seat.state == RoleState::Active;
        seat.state = failed;
        self.slots[from.index()].nic.shut_units();
        let to = if was_active { self.promote(&mut seats, verdict_ns) } else { None };
        let released_ns = monotonic_ns();
        drop(seats);
        let record = FailoverRecord {
            from,
            epoch,
            was_active,
            to,
            verdict,
            entered_ns,
            verdict_ns,
            released_ns,
        };
        match self.jobs.try_send(Job::Failure(record)) {
            // Without a rebuild thread the whole system is stopping.
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(_)) => {
                unreachable!("a life fails once, and there is room for all")
            }
        }
    }

    /// Hands the ring to the first standby, if there is one.
    fn promote(&self, seats: &mut [Seat], verdict_ns: u64) -> Option<DomainId> {
        let index = seats.iter().position(|seat| seat.state == RoleState::Standby)?;
        let seat = &mut seats[index];
        let slot = &self.slots[index];
        seat.state = seat.state.after(RoleEvent::TakeOver).ok()?;
        slot.nic.arm_first_sent();
        self.switchboard.take_over(TakeOver { to: slot.id, epoch: seat.epoch, verdict_ns });
        if let Some(life) = &seat.life {
            life.release();
        }
        slot.nic.open_filters();
        Some(slot.id)
    }

    /// The rebuild thread begins with a domain: its new epoch, and what is left of the old life.
    ///
    /// # Errors
    /// The domain has not failed.
    pub(super) fn begin_rebuild(
        &self,
        id: DomainId,
    ) -> Result<(u32, Option<Arc<Life>>), IllegalTransition> {
        let mut seats = self.seats();
        let seat = &mut seats[id.index()];
        seat.state = seat.state.after(RoleEvent::Rebuild)?;
        seat.epoch += 1;
        Ok((seat.epoch, seat.life.take()))
    }

    /// The rebuild thread has started a life.
    pub(super) fn seat_life(&self, id: DomainId, life: Arc<Life>) {
        self.seats()[id.index()].life = Some(life);
    }

    /// A rebuilt domain is attached: it stands by, or serves at once where nobody does.
    ///
    /// # Errors
    /// It failed in the meantime.
    pub(super) fn ready(&self, id: DomainId) -> Result<RoleState, IllegalTransition> {
        let mut seats = self.seats();
        let seat = &mut seats[id.index()];
        seat.state = seat.state.after(RoleEvent::Ready)?;
        if !seats.iter().any(|seat| seat.state == RoleState::Active) {
            self.promote(&mut seats, monotonic_ns());
        }
        Ok(seats[id.index()].state)
    }

    /// A domain could not be built: it has failed again, or is given up.
    pub(super) fn build_failed(&self, id: DomainId, event: RoleEvent) {
        let mut seats = self.seats();
        let seat = &mut seats[id.index()];
        if let Ok(state) = seat.state.after(event) {
            seat.state = state;
        }
    }

    /// What a domain is now, and its epoch.
    pub fn state(&self, id: DomainId) -> (RoleState, u32) {
        let seats = self.seats();
        let seat = &seats[id.index()];
        (seat.state, seat.epoch)
    }

    /// The life in a seat, if any.
    pub fn life(&self, id: DomainId) -> Option<Arc<Life>> {
        self.seats()[id.index()].life.clone()
    }

    /// The domain that serves.
    pub fn active(&self) -> Option<DomainId> {
        let seats = self.seats();
        let index = seats.iter().position(|seat| seat.state == RoleState::Active)?;
        Some(self.slots[index].id)
    }

    /// Whether one serves and another stands by.
    pub fn is_redundant(&self) -> bool {
        let seats = self.seats();
        let has = |state| seats.iter().any(|seat| seat.state == state);
        has(RoleState::Active) && has(RoleState::Standby)
    }

    /// Takes all lives out, for the end.
    pub(super) fn take_lives(&self) -> Vec<Arc<Life>> {
        self.seats().iter_mut().filter_map(|seat| seat.life.take()).collect()
    }
}

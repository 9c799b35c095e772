//! The seats of the domains: changed under one mutex, shown to others without it.
//!
//! Whoever only looks (command line, metrics, dashboard) does so from a thread of normal priority.
//! It may be kept from running for milliseconds, so it must never hold what a failover waits for.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::drill::DrillReport;
use super::flapping::LinkHistory;
use super::roles::RoleState;
use crate::clock::monotonic_ns;
use crate::domain::{Life, LifeProbe};
use crate::topology::Limits;

/// Place of one domain.
pub(super) struct Seat {
    pub(super) state: RoleState,
    pub(super) epoch: u32,
    pub(super) life: Option<Arc<Life>>,
    pub(super) link: LinkHistory,
    pub(super) drill_passed: bool,
    pub(super) last_drill: Option<DrillReport>,
    /// The other domain of a planned switch that is on: either may have the ring.
    pub(super) partner: Option<usize>,
}

/// What is shown of a seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) state: RoleState,
    pub(super) epoch: u32,
    pub(super) drill_passed: bool,
    /// The link does not count before this time, `CLOCK_MONOTONIC` nanoseconds.
    pub(super) held_until_ns: u64,
}

/// The place where it is shown. The two words are read one after the other: each is right by
/// itself, and nothing is decided by the pair.
struct Display {
    /// State in bits 0-7, the drill in bit 8, epoch in bits 32-63.
    seat: AtomicU64,
    held_until_ns: AtomicU64,
}

/// All of them.
pub(super) struct Seats {
    seats: Mutex<Vec<Seat>>,
    shown: Vec<Display>,
    /// Of each domain, the newest life. Only the rebuild thread and those who look take this lock.
    probes: Mutex<Vec<Option<LifeProbe>>>,
}

/// The seats, locked; what was changed is shown when this is dropped.
pub(super) struct SeatsGuard<'a> {
    seats: MutexGuard<'a, Vec<Seat>>,
    shown: &'a [Display],
}

impl Seats {
    /// So many seats, all of them failed.
    pub(super) fn new(count: usize, limits: Limits) -> Self {
        let seat = |_| Seat {
            state: RoleState::Failed,
            epoch: 0,
            life: None,
            link: LinkHistory::new(limits),
            drill_passed: true,
            last_drill: None,
            partner: None,
        };
        let display = |_| Display {
            seat: AtomicU64::new(pack(RoleState::Failed, true, 0)),
            held_until_ns: AtomicU64::new(0),
        };
        Self {
            seats: Mutex::new((0..count).map(seat).collect()),
            shown: (0..count).map(display).collect(),
            probes: Mutex::new(vec![None; count]),
        }
    }

    /// Locks them.
    pub(super) fn lock(&self) -> SeatsGuard<'_> {
        let seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        SeatsGuard { seats, shown: &self.shown }
    }

    /// A domain's seat, without the lock.
    pub(super) fn shown(&self, index: usize) -> Shown {
        let display = &self.shown[index];
        let (state, drill_passed, epoch) = unpack(display.seat.load(Ordering::Acquire));
        let held_until_ns = display.held_until_ns.load(Ordering::Relaxed);
        Shown { state, epoch, drill_passed, held_until_ns }
    }

    /// Remembers the newest life of a domain, for those who look.
    pub(super) fn show_life(&self, index: usize, probe: LifeProbe) {
        self.probes.lock().unwrap_or_else(PoisonError::into_inner)[index] = Some(probe);
    }

    /// The newest life of a domain.
    pub(super) fn probe(&self, index: usize) -> Option<LifeProbe> {
        self.probes.lock().unwrap_or_else(PoisonError::into_inner)[index].clone()
    }
}

impl Deref for SeatsGuard<'_> {
    type Target = Vec<Seat>;

    fn deref(&self) -> &Vec<Seat> {
        &self.seats
    }
}

impl DerefMut for SeatsGuard<'_> {
    fn deref_mut(&mut self) -> &mut Vec<Seat> {
        &mut self.seats
    }
}

impl Drop for SeatsGuard<'_> {
    fn drop(&mut self) {
        let now_ns = monotonic_ns();
        for (shown, seat) in self.shown.iter().zip(self.seats.iter()) {
            let held_until_ns = seat.link.held_until_ns(now_ns).unwrap_or(0);
            shown.held_until_ns.store(held_until_ns, Ordering::Relaxed);
            let word = pack(seat.state, seat.drill_passed, seat.epoch);
            shown.seat.store(word, Ordering::Release);
        }
    }
}

const STATES: [RoleState; 5] = [
    RoleState::Failed,
    RoleState::Restarting,
    RoleState::Standby,
    RoleState::Active,
    RoleState::Quarantined,
];

const DRILL_PASSED: u64 = 1 << 8;

fn pack(state: RoleState, drill_passed: bool, epoch: u32) -> u64 {
    let drill = if drill_passed { DRILL_PASSED } else { 0 };
    u64::from(epoch) << 32 | drill | state as u64
}

fn unpack(word: u64) -> (RoleState, bool, u32) {
    let state = STATES.get(usize::from(word as u8)).copied();
    // Only `pack` writes these words.
    (state.unwrap_or(RoleState::Failed), word & DRILL_PASSED != 0, (word >> 32) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_is_shown_as_it_is() {
        for state in STATES {
            for drill in [false, true] {
                assert_eq!(unpack(pack(state, drill, u32::MAX)), (state, drill, u32::MAX));
            }
        }
    }

    #[test]
    fn a_change_is_shown_when_the_lock_is_released() {
        let seats = Seats::new(2, Limits::default());
        let mut locked = seats.lock();
        locked[1].state = RoleState::Active;
        locked[1].epoch = 7;
        locked[1].drill_passed = false;
        assert_eq!(seats.shown(1), seats.shown(0));
        drop(locked);
        let expected =
            Shown { state: RoleState::Active, epoch: 7, drill_passed: false, held_until_ns: 0 };
        assert_eq!(seats.shown(1), expected);
        assert_eq!(seats.shown(0).state, RoleState::Failed);
    }
}

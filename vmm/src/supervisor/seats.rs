//! The seats of the domains: changed under one mutex, shown to others without it.
//!
//! Whoever only looks (command line, metrics, dashboard) does so from a thread of normal priority.
//! It may be kept from running for milliseconds, so it must never hold what a failover waits for.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::roles::RoleState;
use crate::domain::{Life, LifeProbe};

/// Place of one domain.
pub(super) struct Seat {
    pub(super) state: RoleState,
    pub(super) epoch: u32,
    pub(super) life: Option<Arc<Life>>,
}

/// All of them.
pub(super) struct Seats {
    seats: Mutex<Vec<Seat>>,
    /// State in bits 0-7, epoch in bits 32-63.
    shown: Vec<AtomicU64>,
    /// Of each domain, the newest life. Only the rebuild thread and those who look take this lock.
    probes: Mutex<Vec<Option<LifeProbe>>>,
}

/// The seats, locked; what was changed is shown when this is dropped.
pub(super) struct SeatsGuard<'a> {
    seats: MutexGuard<'a, Vec<Seat>>,
    shown: &'a [AtomicU64],
}

impl Seats {
    /// So many seats, all of them failed.
    pub(super) fn new(count: usize) -> Self {
        let seat = |_| Seat { state: RoleState::Failed, epoch: 0, life: None };
        Self {
            seats: Mutex::new((0..count).map(seat).collect()),
            shown: (0..count).map(|_| AtomicU64::new(pack(RoleState::Failed, 0))).collect(),
            probes: Mutex::new(vec![None; count]),
        }
    }

    /// Locks them.
    pub(super) fn lock(&self) -> SeatsGuard<'_> {
        let seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        SeatsGuard { seats, shown: &self.shown }
    }

    /// State and epoch of a domain, without the lock.
    pub(super) fn shown(&self, index: usize) -> (RoleState, u32) {
        unpack(self.shown[index].load(Ordering::Acquire))
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
        for (shown, seat) in self.shown.iter().zip(self.seats.iter()) {
            shown.store(pack(seat.state, seat.epoch), Ordering::Release);
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

fn pack(state: RoleState, epoch: u32) -> u64 {
    u64::from(epoch) << 32 | state as u64
}

fn unpack(word: u64) -> (RoleState, u32) {
    let state = STATES.get(usize::from(word as u8)).copied();
    // Only `pack` writes these words.
    (state.unwrap_or(RoleState::Failed), (word >> 32) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_is_shown_as_it_is() {
        for state in STATES {
            assert_eq!(unpack(pack(state, u32::MAX)), (state, u32::MAX));
        }
    }

    #[test]
    fn a_change_is_shown_when_the_lock_is_released() {
        let seats = Seats::new(2);
        let mut locked = seats.lock();
        locked[1].state = RoleState::Active;
        locked[1].epoch = 7;
        assert_eq!(seats.shown(1), (RoleState::Failed, 0));
        drop(locked);
        assert_eq!(seats.shown(1), (RoleState::Active, 7));
        assert_eq!(seats.shown(0), (RoleState::Failed, 0));
    }
}

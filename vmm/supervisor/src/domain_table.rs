//! The table of the domains: changed under one mutex, shown to others without it. Who holds the mutex
//! while a failover waits for it runs with the failover's priority.
//!
//! Whoever only looks (command line, metrics, dashboard) does so from a thread of normal priority.
//! It may be kept from running for milliseconds, so it must never hold what a failover waits for.

use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError};

use super::drill::DrillReport;
use super::flapping::LinkHistory;
use super::roles::RoleState;
use crate::topology::Limits;
use microvm::domain::{Hold, Life, LifeProbe};
use platform::clock::monotonic_ns;
use platform::priority_mutex::{PriorityGuard, PriorityMutex};

/// Place of one domain.
pub(super) struct DomainEntry {
    pub(super) state: RoleState,
    pub(super) epoch: u32,
    pub(super) life: Option<Arc<Life>>,
    pub(super) link: LinkHistory,
    pub(super) drill_passed: bool,
    pub(super) last_drill: Option<DrillReport>,
    /// The other domain of a planned switch that is on: either may have the ring.
    pub(super) partner: Option<usize>,
    /// Stopped on request.
    pub(super) paused: Option<Hold>,
    /// In a debugger.
    pub(super) debugged: bool,
}

impl DomainEntry {
    /// Whether somebody has put it aside: it may stand still.
    pub(super) fn is_aside(&self) -> bool {
        self.paused.is_some() || self.debugged
    }

    /// Nobody has any more.
    pub(super) fn put_back(&mut self) {
        self.paused = None;
        self.debugged = false;
    }
}

/// What is shown of a entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) state: RoleState,
    pub(super) epoch: u32,
    pub(super) drill_passed: bool,
    pub(super) aside: bool,
    /// The link does not count before this time, `CLOCK_MONOTONIC` nanoseconds.
    pub(super) held_until_ns: u64,
}

/// The place where it is shown. Words are read one after the other: [`DomainTable::shown_together`] is for
/// whoever compares them.
struct Display {
    /// State in bits 0-7, the drill in bit 8, put aside in bit 9, epoch in bits 32-63.
    entry: AtomicU64,
    held_until_ns: AtomicU64,
}

/// How often somebody looks at the displays who finds them being changed.
const READS: usize = 1000;

/// All of them.
pub(super) struct DomainTable {
    table: PriorityMutex<Vec<DomainEntry>>,
    shown: Vec<Display>,
    /// Odd while the displays are being changed.
    version: AtomicU64,
    /// Of each domain, the newest life. Only the rebuild thread and those who look take this lock.
    probes: Mutex<Vec<Option<LifeProbe>>>,
}

/// The table, locked; what was changed is shown when this is dropped.
pub(super) struct TableGuard<'a> {
    table: PriorityGuard<'a, Vec<DomainEntry>>,
    shown: &'a [Display],
    version: &'a AtomicU64,
}

impl DomainTable {
    /// So many table, all of them failed.
    pub(super) fn new(count: usize, limits: Limits) -> io::Result<Self> {
        let entry = |_| DomainEntry {
            state: RoleState::Failed,
            epoch: 0,
            life: None,
            link: LinkHistory::new(limits),
            drill_passed: true,
            last_drill: None,
            partner: None,
            paused: None,
            debugged: false,
        };
        let display = |_| Display {
            entry: AtomicU64::new(pack(RoleState::Failed, [true, false], 0)),
            held_until_ns: AtomicU64::new(0),
        };
        Ok(Self {
            table: PriorityMutex::new((0..count).map(entry).collect())?,
            shown: (0..count).map(display).collect(),
            version: AtomicU64::new(0),
            probes: Mutex::new(vec![None; count]),
        })
    }

    /// Locks them.
    pub(super) fn lock(&self) -> TableGuard<'_> {
        let table = self.table.lock();
        TableGuard { table, shown: &self.shown, version: &self.version }
    }

    /// A domain's entry, without the lock.
    pub(super) fn shown(&self, index: usize) -> Shown {
        let display = &self.shown[index];
        let (state, [drill_passed, aside], epoch) = unpack(display.entry.load(Ordering::Acquire));
        let held_until_ns = display.held_until_ns.load(Ordering::Relaxed);
        Shown { state, epoch, drill_passed, aside, held_until_ns }
    }

    /// All table as they were at one moment, without the lock.
    pub(super) fn shown_together(&self) -> Vec<Shown> {
        let all = || (0..self.shown.len()).map(|index| self.shown(index)).collect();
        for _ in 0..READS {
            let before = self.version.load(Ordering::Acquire);
            let shown = all();
            fence(Ordering::Acquire);
            if before.is_multiple_of(2) && self.version.load(Ordering::Relaxed) == before {
                return shown;
            }
            std::hint::spin_loop();
        }
        // Whoever changes them takes less than a microsecond: that thread was stopped on its way.
        all()
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

impl Deref for TableGuard<'_> {
    type Target = Vec<DomainEntry>;

    fn deref(&self) -> &Vec<DomainEntry> {
        &self.table
    }
}

impl DerefMut for TableGuard<'_> {
    fn deref_mut(&mut self) -> &mut Vec<DomainEntry> {
        &mut self.table
    }
}

impl Drop for TableGuard<'_> {
    fn drop(&mut self) {
        let now_ns = monotonic_ns();
        self.version.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::Release);
        for (shown, entry) in self.shown.iter().zip(self.table.iter()) {
            let held_until_ns = entry.link.held_until_ns(now_ns).unwrap_or(0);
            shown.held_until_ns.store(held_until_ns, Ordering::Relaxed);
            let word = pack(entry.state, [entry.drill_passed, entry.is_aside()], entry.epoch);
            shown.entry.store(word, Ordering::Release);
        }
        self.version.fetch_add(1, Ordering::Release);
    }
}

const DRILL_PASSED: u64 = 1 << 8;

const ASIDE: u64 = 1 << 9;

fn pack(state: RoleState, [drill_passed, aside]: [bool; 2], epoch: u32) -> u64 {
    let bit = |set, bit| if set { bit } else { 0 };
    u64::from(epoch) << 32 | bit(drill_passed, DRILL_PASSED) | bit(aside, ASIDE) | state as u64
}

fn unpack(word: u64) -> (RoleState, [bool; 2], u32) {
    let state = RoleState::ALL.get(usize::from(word as u8)).copied();
    // Only `pack` writes these words.
    let bits = [word & DRILL_PASSED != 0, word & ASIDE != 0];
    (state.unwrap_or(RoleState::Failed), bits, (word >> 32) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_is_shown_as_it_is() {
        for state in RoleState::ALL {
            for bits in [[false, true], [true, false]] {
                assert_eq!(unpack(pack(state, bits, u32::MAX)), (state, bits, u32::MAX));
            }
        }
    }

    #[test]
    fn a_change_is_shown_when_the_lock_is_released() {
        let table = DomainTable::new(2, Limits::default()).unwrap();
        let mut locked = table.lock();
        locked[1].state = RoleState::Active;
        locked[1].epoch = 7;
        locked[1].drill_passed = false;
        assert_eq!(table.shown(1), table.shown(0));
        drop(locked);
        let expected = Shown {
            state: RoleState::Active,
            epoch: 7,
            drill_passed: false,
            aside: false,
            held_until_ns: 0,
        };
        assert_eq!(table.shown(1), expected);
        assert_eq!(table.shown(0).state, RoleState::Failed);
    }
}

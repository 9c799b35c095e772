//! The domain table as threads of normal priority read it: without a lock.
//!
//! Whoever only reads (command line, metrics, dashboard) may be kept from running for milliseconds,
//! so it must never hold what a failover waits for. The table is published here instead, each time
//! its lock is released.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use super::roles::RoleState;
use super::rules::Proof;

/// What is published of one domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Published {
    pub(super) role: RoleState,
    pub(super) epoch: u32,
    pub(super) proof: Proof,
    /// Paused, or in a debugger.
    pub(super) aside: bool,
    /// The link does not count before this time, `CLOCK_MONOTONIC` nanoseconds.
    pub(super) held_until_ns: u64,
}

/// The words of one domain. They are read one after the other, so only [`PublishedTable::all`]
/// gives several of them of one moment.
struct Words {
    /// Role in bits 0-7, a failed drill in bit 8, put aside in bit 9, a missing drill in bit 10,
    /// epoch in bits 32-63.
    standing: AtomicU64,
    held_until_ns: AtomicU64,
}

const DRILL_FAILED: u64 = 1 << 8;
const ASIDE: u64 = 1 << 9;
const DRILL_MISSING: u64 = 1 << 10;

/// How often a reader starts again that finds the table being published.
const READS: usize = 1000;

/// The published state of all domains. The holder of the table's lock is the only writer.
pub(super) struct PublishedTable {
    domains: Vec<Words>,
    /// Odd while the words are being written.
    version: AtomicU64,
}

impl PublishedTable {
    /// The state of `count` domains, none of which has run yet.
    pub(super) fn new(count: usize) -> Self {
        let role = RoleState::Failed;
        let initial =
            Published { role, epoch: 0, proof: Proof::Given, aside: false, held_until_ns: 0 };
        let words = |_| Words { standing: pack(&initial).into(), held_until_ns: 0.into() };
        Self { domains: (0..count).map(words).collect(), version: AtomicU64::new(0) }
    }

    /// Publishes the state of all domains, in their order. Only one thread at a time may call this.
    pub(super) fn publish(&self, all: impl Iterator<Item = Published>) {
        self.version.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::Release);
        for (words, published) in self.domains.iter().zip(all) {
            words.held_until_ns.store(published.held_until_ns, Ordering::Relaxed);
            words.standing.store(pack(&published), Ordering::Release);
        }
        self.version.fetch_add(1, Ordering::Release);
    }

    /// One domain.
    pub(super) fn one(&self, index: usize) -> Published {
        let words = &self.domains[index];
        let standing = words.standing.load(Ordering::Acquire);
        unpack(standing, words.held_until_ns.load(Ordering::Relaxed))
    }

    /// All domains as they were at one moment.
    pub(super) fn all(&self) -> Vec<Published> {
        let read = || (0..self.domains.len()).map(|index| self.one(index)).collect();
        for _ in 0..READS {
            let before = self.version.load(Ordering::Acquire);
            let all = read();
            fence(Ordering::Acquire);
            if before.is_multiple_of(2) && self.version.load(Ordering::Relaxed) == before {
                return all;
            }
            std::hint::spin_loop();
        }
        // Publishing takes less than a microsecond, so its thread was preempted in the middle.
        read()
    }
}

fn pack(published: &Published) -> u64 {
    let bit = |set, bit| if set { bit } else { 0 };
    u64::from(published.epoch) << 32
        | bit(published.proof == Proof::Failed, DRILL_FAILED)
        | bit(published.proof == Proof::Missing, DRILL_MISSING)
        | bit(published.aside, ASIDE)
        | published.role as u64
}

fn unpack(standing: u64, held_until_ns: u64) -> Published {
    // Only `pack` writes these words, so the number is that of a role.
    let role = RoleState::ALL.get(usize::from(standing as u8)).copied();
    Published {
        role: role.unwrap_or(RoleState::Failed),
        epoch: (standing >> 32) as u32,
        proof: match standing & (DRILL_FAILED | DRILL_MISSING) {
            0 => Proof::Given,
            DRILL_MISSING => Proof::Missing,
            _ => Proof::Failed,
        },
        aside: standing & ASIDE != 0,
        held_until_ns,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_is_published_as_it_is() {
        for role in RoleState::ALL {
            let proofs = [Proof::Given, Proof::Missing, Proof::Failed];
            for (proof, aside) in proofs.into_iter().zip([true, false, true]) {
                let published = Published { role, epoch: u32::MAX, proof, aside, held_until_ns: 7 };
                assert_eq!(unpack(pack(&published), 7), published);
            }
        }
    }
}

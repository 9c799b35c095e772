//! Counters of planned operations and of repaired wakeups.

use std::collections::BTreeMap;

/// How often each planned operation took place, and how often a lost wakeup was repaired.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Planned switches.
    pub(crate) switches: u64,
    /// Upgrades that took place.
    pub(crate) upgrades: u64,
    /// Upgrades that were refused or rolled back.
    pub(crate) upgrades_failed: u64,
    /// Lost wakeups that were noticed and repaired, by domain.
    pub(crate) healed: BTreeMap<String, u64>,
    /// Drills by domain.
    pub(crate) drills: BTreeMap<String, Drills>,
}

/// Drills of one domain.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Drills {
    /// Drills that the domain passed.
    pub(crate) passed: u64,
    /// Drills that the domain failed.
    pub(crate) failed: u64,
    /// When the last drill ended, `CLOCK_MONOTONIC` nanoseconds.
    pub(crate) last_ns: u64,
}

impl Tally {
    /// Counts a drill of this domain.
    pub(super) fn count_drill(&mut self, domain: &str, passed: bool, at_ns: u64) {
        let drills = self.drills.entry(domain.to_owned()).or_default();
        match passed {
            true => drills.passed += 1,
            false => drills.failed += 1,
        }
        drills.last_ns = at_ns;
    }

    /// Counts a lost wakeup of this domain that was repaired.
    pub(super) fn count_healed(&mut self, domain: &str) {
        *self.healed.entry(domain.to_owned()).or_default() += 1;
    }
}

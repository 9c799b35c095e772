//! Counts of outcomes, as a campaign goes on.

use std::collections::BTreeMap;

use super::record::{InjectionOutcome as Outcome, InjectionRecord};
use super::spec::Configuration;

/// Counts under one configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Injections, activated or not.
    pub injections: u64,
    /// Activated ones.
    pub activated: u64,
    /// Those in which a detector found something.
    pub detected: u64,
}

/// What is recorded.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    configurations: BTreeMap<Configuration, Counts>,
    outcomes: BTreeMap<Outcome, u64>,
    bad: Vec<InjectionRecord>,
}

impl Tally {
    /// Counts a record in.
    pub fn add(&mut self, record: &InjectionRecord) {
        let counts = self.configurations.entry(record.configuration).or_default();
        counts.injections += 1;
        counts.activated += u64::from(record.activated);
        counts.detected += u64::from(record.verdict.is_some());
        *self.outcomes.entry(record.outcome).or_default() += 1;
        let by_design = record.configuration == Configuration::None
            && record.outcome == Outcome::Unrecovered
            && record.verdict.is_some();
        if record.outcome.is_bad() && !by_design {
            self.bad.push(record.clone());
        }
    }

    /// Counts under a configuration.
    pub fn of(&self, configuration: Configuration) -> Counts {
        self.configurations.get(&configuration).copied().unwrap_or_default()
    }

    /// Counts under all configurations.
    pub fn all(&self) -> Counts {
        self.configurations.values().fold(Counts::default(), |sum, counts| Counts {
            injections: sum.injections + counts.injections,
            activated: sum.activated + counts.activated,
            detected: sum.detected + counts.detected,
        })
    }

    /// How often an outcome was seen.
    pub fn outcome(&self, outcome: Outcome) -> u64 {
        self.outcomes.get(&outcome).copied().unwrap_or(0)
    }

    /// Injections that somebody should look into, in the order in which they were recorded.
    pub fn bad(&self) -> &[InjectionRecord] {
        &self.bad
    }
}

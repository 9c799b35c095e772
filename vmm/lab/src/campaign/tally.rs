//! Counts of outcomes, as a campaign goes on.

use std::collections::BTreeMap;

use crate::injection::{Configuration, InjectionOutcome as Outcome, InjectionRecord};

/// Counts under one configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Injections, activated or not.
    pub injections: u64,
    /// Activated ones ([`InjectionRecord::is_injected`]).
    pub activated: u64,
    /// Those in which a detector found the failure ([`InjectionRecord::is_detected`]).
    pub detected: u64,
}

/// Counts of all records, by configuration and by outcome.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    configurations: BTreeMap<Configuration, Counts>,
    outcomes: BTreeMap<Outcome, u64>,
    bad: Vec<InjectionRecord>,
}

impl Tally {
    /// Counts a record.
    pub(super) fn add(&mut self, record: &InjectionRecord) {
        let counts = self.configurations.entry(record.configuration).or_default();
        counts.injections += 1;
        counts.activated += u64::from(record.is_injected());
        counts.detected += u64::from(record.is_detected());
        *self.outcomes.entry(record.outcome).or_default() += 1;
        if record.is_bad() {
            self.bad.push(record.clone());
        }
    }

    /// Counts under a configuration.
    pub(super) fn of(&self, configuration: Configuration) -> Counts {
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

    /// Injections that a person should look into, in the order in which they were recorded.
    pub fn bad(&self) -> &[InjectionRecord] {
        &self.bad
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::injection::testing;

    #[test]
    fn a_fault_that_ended_the_program_escapes_no_count() {
        for configuration in [Configuration::FastSpare, Configuration::None] {
            let order = testing::order(configuration);
            let record = order.lost("the program itself ended: signal 9".into());
            assert!(record.is_injected() && record.is_silent() && record.is_bad());
            assert!(!record.is_detected() && !record.is_restored());

            let mut tally = Tally::default();
            tally.add(&record);

            assert_eq!(tally.all(), Counts { injections: 1, activated: 1, detected: 0 });
            assert_eq!(tally.bad(), [record]);
        }
    }
}

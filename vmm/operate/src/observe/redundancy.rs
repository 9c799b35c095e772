//! Whether the service is redundant: known in one place, told by events, shown in snapshots.
//!
//! What counts is what the domains are now. A failure also counts when it is heard of late and
//! everything is well again by then: redundancy was lost, if only for a moment.

use super::event::Occurrence;
use super::recorder::micros;
use super::snapshot::{DomainView, is_redundant};

/// What is known, and since when, `CLOCK_MONOTONIC` nanoseconds.
#[derive(Debug)]
pub(super) struct Redundancy {
    now: bool,
    since_ns: u64,
}

impl Redundancy {
    /// There is none.
    pub(super) fn none(since_ns: u64) -> Self {
        Self { now: false, since_ns }
    }

    /// Somebody has looked. The change that is to be told, if there is one.
    pub(super) fn see(&mut self, redundant: bool, at_ns: u64) -> Option<(u64, Occurrence)> {
        if redundant == self.now {
            return None;
        }
        let before_ns = self.since_ns;
        self.since_ns = at_ns.max(before_ns);
        self.now = redundant;
        let after_us = micros(before_ns, self.since_ns);
        Some((
            self.since_ns,
            match redundant {
                true => Occurrence::RedundancyRegained { after_us },
                false => Occurrence::RedundancyLost,
            },
        ))
    }

    /// A domain that it rested on failed then. Old news if it has come back since.
    pub(super) fn lost_at(&mut self, verdict_ns: u64) -> Option<(u64, Occurrence)> {
        if verdict_ns < self.since_ns { None } else { self.see(false, verdict_ns) }
    }
}

/// Whether these domains make the service redundant.
pub(super) fn redundant<'a>(domains: impl Iterator<Item = &'a DomainView> + Clone + 'a) -> bool {
    is_redundant(domains.map(|domain| (domain.role, domain.is_able())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_heard_of_late_is_told_once() {
        let mut redundancy = Redundancy::none(0);
        assert!(redundancy.see(true, 10).is_some());
        assert_eq!(redundancy.lost_at(20), Some((20, Occurrence::RedundancyLost)));
        assert!(redundancy.lost_at(20).is_none());
        let regained = redundancy.see(true, 35_000 + 20);
        assert_eq!(regained, Some((35_020, Occurrence::RedundancyRegained { after_us: 35.0 })));
        // Somebody had looked before the failure was heard of: lost and regained were told.
        assert!(redundancy.lost_at(30).is_none());
    }

    #[test]
    fn no_change_is_no_news() {
        let mut redundancy = Redundancy::none(0);
        assert!(redundancy.see(false, 5).is_none());
        assert!(redundancy.see(true, 6).is_some());
        assert!(redundancy.see(true, 7).is_none());
    }
}

//! Whether the service is redundant: decided in one place, told by events, shown in snapshots.
//!
//! The roles and links of the domains at the moment decide. A failure that is reported late, when
//! everything is well again, also counts: redundancy was lost, if only for a moment.

use super::duration::micros_between;
use super::event::{Occurrence, TimedOccurrence};
use super::snapshot::DomainView;
use supervisor::RoleState;

/// The newest known state, and since when, `CLOCK_MONOTONIC` nanoseconds.
#[derive(Debug)]
pub(super) struct Redundancy {
    redundant: bool,
    since_ns: u64,
    /// Whether an event has told of the state.
    told: bool,
}

/// How long a service may take after its start to become redundant before an event says that it is
/// not: a copper link takes some seconds, a port under spanning tree half a minute.
const START_GRACE_NS: u64 = 40_000_000_000;

impl Redundancy {
    /// Not redundant since then.
    pub(super) fn none(since_ns: u64) -> Self {
        Self { redundant: false, since_ns, told: false }
    }

    /// Takes a newer state. Returns the change to publish, if there is one.
    pub(super) fn update(&mut self, redundant: bool, at_ns: u64) -> Option<TimedOccurrence> {
        if redundant == self.redundant {
            return None;
        }
        let before_ns = self.since_ns;
        self.since_ns = at_ns.max(before_ns);
        self.redundant = redundant;
        self.told = true;
        let occurrence = match redundant {
            true => {
                let after_us = micros_between(before_ns, self.since_ns);
                Occurrence::RedundancyRegained { after_us }
            }
            false => Occurrence::RedundancyLost,
        };
        Some(TimedOccurrence { at_ns: self.since_ns, occurrence })
    }

    /// Returns the change to publish if the service has not been redundant since its start, and so
    /// long that whoever waits for an event must be told.
    pub(super) fn never_gained(&mut self, now_ns: u64) -> Option<TimedOccurrence> {
        if self.told || now_ns.saturating_sub(self.since_ns) < START_GRACE_NS {
            return None;
        }
        self.told = true;
        Some(TimedOccurrence { at_ns: now_ns, occurrence: Occurrence::RedundancyLost })
    }

    /// A domain that redundancy rested on failed at that moment. Ignored if a newer state is known.
    pub(super) fn lost_at(&mut self, verdict_ns: u64) -> Option<TimedOccurrence> {
        if verdict_ns < self.since_ns { None } else { self.update(false, verdict_ns) }
    }
}

/// Returns true if one of these domains serves and another could take over, and nothing speaks
/// against either.
pub(super) fn is_redundant<'a>(domains: impl Iterator<Item = &'a DomainView> + Clone + 'a) -> bool {
    let has = |role| domains.clone().any(|domain| domain.role == role && domain.is_able());
    has(RoleState::Active) && has(RoleState::Standby)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::testing::domain;

    fn lost(at_ns: u64) -> Option<TimedOccurrence> {
        Some(TimedOccurrence { at_ns, occurrence: Occurrence::RedundancyLost })
    }

    #[test]
    fn a_failure_that_is_reported_late_is_told_once() {
        let mut redundancy = Redundancy::none(0);
        assert!(redundancy.update(true, 10).is_some());
        assert_eq!(redundancy.lost_at(20), lost(20));
        assert!(redundancy.lost_at(20).is_none());
        let regained = redundancy.update(true, 35_000 + 20);
        let occurrence = Occurrence::RedundancyRegained { after_us: 35.0 };
        assert_eq!(regained, Some(TimedOccurrence { at_ns: 35_020, occurrence }));
        // The domains were sampled before the failure was reported: both changes were told.
        assert!(redundancy.lost_at(30).is_none());
    }

    #[test]
    fn a_start_without_a_spare_is_told_once_and_late() {
        let mut redundancy = Redundancy::none(5);
        assert!(redundancy.never_gained(START_GRACE_NS).is_none());
        assert_eq!(redundancy.never_gained(START_GRACE_NS + 5), lost(START_GRACE_NS + 5));
        assert!(redundancy.never_gained(2 * START_GRACE_NS).is_none());
        let mut redundancy = Redundancy::none(5);
        assert!(redundancy.update(true, 6).is_some() && redundancy.update(false, 7).is_some());
        assert!(redundancy.never_gained(2 * START_GRACE_NS).is_none(), "told already");
    }

    #[test]
    fn no_change_is_no_news() {
        let mut redundancy = Redundancy::none(0);
        assert!(redundancy.update(false, 5).is_none());
        assert!(redundancy.update(true, 6).is_some());
        assert!(redundancy.update(true, 7).is_none());
    }

    #[test]
    fn a_standby_without_a_link_is_no_spare() {
        let redundant = |domains: &[(RoleState, bool)]| {
            let domains: Vec<_> =
                domains.iter().map(|(role, up)| domain("a", *role, *up)).collect();
            is_redundant(domains.iter())
        };
        assert!(redundant(&[(RoleState::Active, true), (RoleState::Standby, true)]));
        assert!(!redundant(&[(RoleState::Active, true), (RoleState::Standby, false)]));
        assert!(!redundant(&[(RoleState::Active, false), (RoleState::Standby, true)]));
        assert!(!redundant(&[(RoleState::Active, true), (RoleState::Restarting, true)]));
        assert!(!redundant(&[(RoleState::Standby, true), (RoleState::Standby, true)]));
        assert!(!redundant(&[]));
    }
}

//! The rules as pure functions: which domain takes over, what state the service is in, and when to
//! go back.
//!
//! | the active domain ... | takes over |
//! |---|---|
//! | cannot go on (crash, hang, silence, protocol) | the best standby there is |
//! | could go on if its link came back | a healthy standby; without one the domain keeps the ring |
//! | has had no link for a while | the best standby whose link is up; without one it keeps the ring |
//!
//! Of equal standbys the first in the topology's order takes over. [`Health`] lists the better ones
//! first.

use std::time::Duration;

use super::flapping::nanos;
use super::roles::RoleState;

/// What is known of a NIC's link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// It is up.
    Up,
    /// It is down.
    Down,
    /// The NIC is being brought up, or no domain uses it.
    Unknown,
}

/// What drills have shown of a domain. It outlives the lives of the domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Nothing speaks against it: it passed its last drill, or does not need one to count.
    Given,
    /// It must pass a drill before it counts as a spare: its NIC is hardware, and the switch port
    /// behind a link that came up may forward nothing; or the last drill was not answered.
    Missing,
    /// It failed its last drill.
    Failed,
}

/// A domain as the rules see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DomainView {
    /// Its role.
    pub state: RoleState,
    /// Its NIC's link.
    pub link: Link,
    /// Its link was lost too often, and does not count before it has stayed up for a while.
    pub held_down: bool,
    /// What drills have shown of it.
    pub proof: Proof,
    /// Paused, or in a debugger.
    pub aside: bool,
}

/// How good a standby is, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// Nothing speaks against it.
    Healthy,
    /// Nothing is known against it, and no drill has shown yet that the network reaches it.
    Unproven,
    /// Its link is up, but flaps.
    HeldDown,
    /// An operator has put it aside: it is paused or in a debugger. It is let go when it has to
    /// serve.
    Aside,
    /// It failed its last drill.
    DrillFailed,
    /// Its link is down. That is better than no domain: it serves when the link comes back.
    LinkDown,
}

impl DomainView {
    /// A place without a domain.
    pub(super) const NOBODY: Self = Self {
        state: RoleState::Failed,
        link: Link::Unknown,
        held_down: false,
        proof: Proof::Given,
        aside: false,
    };

    /// How good the domain is as a standby.
    pub fn health(&self) -> Health {
        // What drills have shown is about a standby: a domain that serves shows more by that.
        let serves = self.state == RoleState::Active;
        match self {
            Self { link: Link::Down, .. } => Health::LinkDown,
            Self { proof: Proof::Failed, .. } if !serves => Health::DrillFailed,
            Self { aside: true, .. } => Health::Aside,
            Self { held_down: true, .. } => Health::HeldDown,
            Self { proof: Proof::Missing, .. } if !serves => Health::Unproven,
            _ => Health::Healthy,
        }
    }
}

/// Whether the domain that gives the ring away could keep it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// It cannot go on.
    CannotStay,
    /// It could go on, so only a successor that nothing speaks against is worth the switch.
    CanStay,
    /// It has had no link for a while: any successor with a link is worth the switch, since nothing
    /// is lost by it.
    NeedsLink,
}

/// Index of the domain that takes over.
pub(super) fn successor(domains: &[DomainView], need: Need) -> Option<usize> {
    let standbys = domains.iter().enumerate().filter(|(_, d)| d.state == RoleState::Standby);
    // Of several minimal elements `min_by_key` gives the first.
    let (index, best) = standbys.min_by_key(|(_, domain)| domain.health())?;
    let fit = match need {
        Need::CannotStay => true,
        Need::CanStay => matches!(best.health(), Health::Healthy | Health::Unproven),
        Need::NeedsLink => best.health() != Health::LinkDown,
    };
    fit.then_some(index)
}

/// Returns true if a domain serves and a standby that nothing is missing of could take over.
pub(super) fn is_redundant(domains: &[DomainView]) -> bool {
    let standby = |d: &DomainView| d.state == RoleState::Standby && d.health() == Health::Healthy;
    domains.iter().any(|d| d.state == RoleState::Active) && domains.iter().any(standby)
}

/// The state of the service as a whole.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum SystemState {
    /// A domain serves, and its link is up.
    Normal,
    /// A domain serves, but its link is down, and no healthy one is there to replace it.
    Disconnected,
    /// No domain serves.
    Error,
}

/// The state of the service with these domains.
pub(super) fn system_state(domains: &[DomainView]) -> SystemState {
    match domains.iter().find(|domain| domain.state == RoleState::Active) {
        None => SystemState::Error,
        Some(DomainView { link: Link::Down, .. }) => SystemState::Disconnected,
        Some(_) => SystemState::Normal,
    }
}

/// The rule for going back to a preferred domain: it must have been a healthy standby for the hold
/// time without a break.
#[derive(Clone, Copy, Debug)]
pub struct FailBack {
    preferred: usize,
    hold: Duration,
    healthy_since_ns: Option<u64>,
}

/// What the fail-back rule advises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailBackAdvice {
    /// Nothing to go back to.
    Stay,
    /// Ask again at this time, `CLOCK_MONOTONIC` nanoseconds.
    WaitUntil(u64),
    /// Make a planned switch to this domain now.
    SwitchTo(usize),
}

impl FailBack {
    /// A rule that prefers the domain with this index.
    pub fn new(preferred: usize, hold: Duration) -> Self {
        Self { preferred, hold, healthy_since_ns: None }
    }

    /// Must be asked at each change of a domain, and at the time that the last advice named.
    pub fn advise(&mut self, domains: &[DomainView], now_ns: u64) -> FailBackAdvice {
        let served = domains.iter().any(|domain| domain.state == RoleState::Active);
        let preferred = domains.get(self.preferred);
        let stands_by = preferred.is_some_and(|domain| domain.state == RoleState::Standby);
        if !served || !stands_by {
            self.healthy_since_ns = None;
            return FailBackAdvice::Stay;
        }
        if preferred.is_some_and(|domain| domain.health() != Health::Healthy) {
            self.healthy_since_ns = None;
            // The end of a hold-down and a passed drill change neither a role nor a link, so
            // nothing else would have the rule asked again.
            return FailBackAdvice::WaitUntil(now_ns.saturating_add(nanos(FAIL_BACK_AGAIN)));
        }
        let since_ns = *self.healthy_since_ns.get_or_insert(now_ns);
        let due_ns = since_ns.saturating_add(nanos(self.hold));
        if now_ns < due_ns {
            return FailBackAdvice::WaitUntil(due_ns);
        }
        FailBackAdvice::SwitchTo(self.preferred)
    }

    /// The advised switch was refused. Returns when to ask again.
    pub fn refused(&mut self, now_ns: u64) -> u64 {
        let from_ns = now_ns.saturating_add(nanos(FAIL_BACK_AGAIN));
        self.healthy_since_ns = Some(from_ns);
        from_ns.saturating_add(nanos(self.hold))
    }
}

/// Shortest pause after a switch that was refused, in addition to the hold time. While a
/// drill or an upgrade is in progress, more frequent attempts would be refused too.
const FAIL_BACK_AGAIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use RoleState::{Active, Failed, Quarantined, Restarting, Standby};

    fn domain(state: RoleState) -> DomainView {
        DomainView { state, link: Link::Up, held_down: false, proof: Proof::Given, aside: false }
    }

    fn standby(health: Health) -> DomainView {
        let good = domain(Standby);
        match health {
            Health::Healthy => good,
            Health::HeldDown => DomainView { held_down: true, ..good },
            Health::Aside => DomainView { aside: true, ..good },
            Health::Unproven => DomainView { proof: Proof::Missing, ..good },
            Health::DrillFailed => DomainView { proof: Proof::Failed, ..good },
            Health::LinkDown => DomainView { link: Link::Down, ..good },
        }
    }

    #[test]
    fn the_first_healthy_standby_takes_over() {
        let domains = [domain(Failed), standby(Health::LinkDown), domain(Standby), domain(Standby)];
        assert_eq!(successor(&domains, Need::CannotStay), Some(2));
        assert_eq!(successor(&domains, Need::CanStay), Some(2));
    }

    #[test]
    fn a_standby_that_no_drill_has_proved_takes_over_and_is_no_redundancy() {
        let domains = [domain(Active), standby(Health::Unproven)];
        assert_eq!(successor(&domains, Need::CannotStay), Some(1));
        assert_eq!(successor(&domains, Need::CanStay), Some(1), "from a lost link, too");
        assert!(!is_redundant(&domains));
        assert!(is_redundant(&[domain(Active), standby(Health::Healthy)]));
        let better = [domain(Active), standby(Health::Unproven), standby(Health::Healthy)];
        assert_eq!(successor(&better, Need::CannotStay), Some(2));
    }

    #[test]
    fn a_domain_that_serves_is_not_judged_by_its_drills() {
        for proof in [Proof::Missing, Proof::Failed] {
            assert_eq!(DomainView { proof, ..domain(Active) }.health(), Health::Healthy);
        }
    }

    #[test]
    fn a_poor_standby_is_better_than_a_dead_driver_but_not_than_a_lost_link() {
        for health in [Health::HeldDown, Health::Aside, Health::DrillFailed, Health::LinkDown] {
            let domains = [domain(Failed), standby(health)];
            assert_eq!(standby(health).health(), health);
            assert_eq!(successor(&domains, Need::CannotStay), Some(1));
            assert_eq!(successor(&domains, Need::CanStay), None, "{health:?}");
        }
        let domains = [standby(Health::LinkDown), standby(Health::HeldDown)];
        assert_eq!(successor(&domains, Need::CannotStay), Some(1), "the better of two poor ones");
    }

    #[test]
    fn whatever_has_a_link_is_better_than_none_for_long() {
        for health in [Health::HeldDown, Health::Aside, Health::DrillFailed] {
            let domains = [domain(Active), standby(Health::LinkDown), standby(health)];
            assert_eq!(successor(&domains, Need::NeedsLink), Some(2), "{health:?}");
        }
        let domains = [domain(Active), standby(Health::LinkDown)];
        assert_eq!(successor(&domains, Need::NeedsLink), None, "that would win nothing");
    }

    #[test]
    fn only_standbys_take_over() {
        let domains = [Failed, Restarting, Quarantined, Active].map(domain);
        assert_eq!(successor(&domains, Need::CannotStay), None);
        assert_eq!(successor(&[], Need::CannotStay), None);
    }

    #[test]
    fn the_state_of_the_whole_is_that_of_the_active_domain() {
        let unplugged = DomainView { link: Link::Down, ..domain(Active) };
        let cases = [
            (vec![domain(Active), domain(Standby)], SystemState::Normal),
            (vec![domain(Active), domain(Quarantined)], SystemState::Normal),
            (vec![unplugged, standby(Health::LinkDown)], SystemState::Disconnected),
            (vec![domain(Failed), domain(Restarting)], SystemState::Error),
            (vec![], SystemState::Error),
        ];
        for (domains, state) in cases {
            assert_eq!(system_state(&domains), state, "{domains:?}");
        }
    }

    #[test]
    fn fail_back_waits_for_the_hold_time_without_a_break() {
        let hold = Duration::from_nanos(100);
        let mut back = FailBack::new(0, hold);
        let (good, bad) = ([domain(Standby), domain(Active)], [domain(Failed), domain(Active)]);
        assert_eq!(back.advise(&good, 10), FailBackAdvice::WaitUntil(110));
        assert_eq!(back.advise(&good, 109), FailBackAdvice::WaitUntil(110));
        assert_eq!(back.advise(&bad, 109), FailBackAdvice::Stay);
        assert_eq!(back.advise(&good, 111), FailBackAdvice::WaitUntil(211));
        assert_eq!(back.advise(&good, 211), FailBackAdvice::SwitchTo(0));
    }

    #[test]
    fn a_refused_fail_back_is_not_tried_again_at_once() {
        let mut back = FailBack::new(0, Duration::ZERO);
        let domains = [domain(Standby), domain(Active)];
        assert_eq!(back.advise(&domains, 5), FailBackAdvice::SwitchTo(0));
        let again_ns = back.refused(5);
        assert!(again_ns >= 1_000_000_000);
        assert_eq!(back.advise(&domains, 6), FailBackAdvice::WaitUntil(again_ns));
        assert_eq!(back.advise(&domains, again_ns), FailBackAdvice::SwitchTo(0));
    }

    #[test]
    fn fail_back_never_goes_to_itself_nor_leaves_a_crash() {
        let mut back = FailBack::new(0, Duration::ZERO);
        assert_eq!(back.advise(&[domain(Active), domain(Standby)], 1), FailBackAdvice::Stay);
        assert_eq!(back.advise(&[domain(Standby), domain(Failed)], 1), FailBackAdvice::Stay);
        let held = [standby(Health::HeldDown), domain(Active)];
        assert_eq!(back.advise(&held, 1), FailBackAdvice::WaitUntil(1_000_000_001));
        let good = [domain(Standby), domain(Active)];
        assert_eq!(back.advise(&good, 1_000_000_001), FailBackAdvice::SwitchTo(0));
    }
}

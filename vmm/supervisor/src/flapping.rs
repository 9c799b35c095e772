//! Measures against flapping: a domain that keeps failing is quarantined, and a link that keeps
//! failing is held down. Pure logic; the thresholds are the topology's, see [`Limits`].
//!
//! ```text
//!  domain   fail fail fail ... `failures` within `window` ─▶ quarantine ─▶ try again
//!                                                            30 s, 60 s, ... `quarantine_max`
//!  link     down up down up ... more than `link_flaps` within `link_window` ─▶ held down after
//!                                                            each return: 0.1 s, 0.2 s, ... max
//! ```
//! Neither rule may cost the service: if no other domain can serve, a quarantine lasts a second at
//! most, and a standby whose link is held down still takes over from a domain that cannot go on.

use std::collections::VecDeque;
use std::time::Duration;

use crate::topology::Limits;

/// Longest quarantine of a domain that no other can replace. The service depends on it, but a crash
/// loop without any pause would occupy a processor.
const LONGEST_WITHOUT_SPARE: Duration = Duration::from_secs(1);
/// First quarantine of such a domain; it doubles with each quarantine in a row.
const FIRST_WITHOUT_SPARE: Duration = Duration::from_millis(10);

/// When a failed domain is rebuilt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Restart {
    /// Rebuild it at once.
    AtOnce,
    /// Rebuild it after a quarantine of this length.
    After {
        /// If another domain can serve.
        with_spare: Duration,
        /// If no other domain can.
        without_spare: Duration,
    },
}

/// The failures of one domain.
#[derive(Clone, Debug)]
pub(super) struct FailureHistory {
    limits: Limits,
    /// Times of failures, oldest first, `CLOCK_MONOTONIC` nanoseconds.
    recent_ns: VecDeque<u64>,
    /// When the NIC was blamed last, `CLOCK_MONOTONIC` nanoseconds; `None` if it never was, or has
    /// been reset since.
    nic_blamed_ns: Option<u64>,
    /// Quarantines in a row.
    level: u32,
    /// Until when another quarantine counts as one more in a row.
    relapse_until_ns: u64,
}

pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// `first`, doubled `times` times, at most `longest`.
fn doubled(first: Duration, times: u32, longest: Duration) -> Duration {
    let factor = 2u32.checked_pow(times).unwrap_or(u32::MAX);
    first.checked_mul(factor).unwrap_or(longest).min(longest)
}

impl FailureHistory {
    /// The history of a domain that has not failed yet.
    pub(super) fn new(limits: Limits) -> Self {
        let recent_ns = VecDeque::with_capacity(limits.failures as usize);
        Self { limits, recent_ns, nic_blamed_ns: None, level: 0, relapse_until_ns: 0 }
    }

    /// The domain has failed once more.
    pub(super) fn failed(&mut self, now_ns: u64) -> Restart {
        let window = nanos(Duration::from_secs(u64::from(self.limits.window_s)));
        self.recent_ns.push_back(now_ns);
        while self.recent_ns.front().is_some_and(|&at| now_ns.saturating_sub(at) > window) {
            self.recent_ns.pop_front();
        }
        if self.recent_ns.len() < self.limits.failures as usize {
            return Restart::AtOnce;
        }
        self.quarantine(now_ns)
    }

    /// The registers of the domain's NIC may be to blame. Returns true if that is so for the second
    /// time within the window: then they are to be as new.
    pub(super) fn nic_failed(&mut self, now_ns: u64) -> bool {
        let window = nanos(Duration::from_secs(u64::from(self.limits.window_s)));
        let again = |before_ns: u64| now_ns.saturating_sub(before_ns) <= window;
        let is_second = self.nic_blamed_ns.is_some_and(again);
        self.nic_blamed_ns = (!is_second).then_some(now_ns);
        is_second
    }

    /// The domain goes into quarantine: it failed too often, or could not be built several times.
    pub(super) fn quarantine(&mut self, now_ns: u64) -> Restart {
        self.recent_ns.clear();
        if now_ns > self.relapse_until_ns {
            self.level = 0;
        }
        let seconds = |s: u32| Duration::from_secs(u64::from(s));
        let (first, longest) =
            (seconds(self.limits.quarantine_s), seconds(self.limits.quarantine_max_s));
        let with_spare = doubled(first, self.level, longest);
        let without_spare = doubled(FIRST_WITHOUT_SPARE, self.level, LONGEST_WITHOUT_SPARE);
        self.level = self.level.saturating_add(1);
        // Quarantines are no longer in a row if the domain then works for as long as this one
        // lasts.
        self.relapse_until_ns = now_ns.saturating_add(2 * nanos(with_spare));
        Restart::After { with_spare, without_spare }
    }
}

/// The losses and returns of one NIC's link.
#[derive(Clone, Debug)]
pub(super) struct LinkHistory {
    limits: Limits,
    losses_ns: VecDeque<u64>,
    hold_until_ns: u64,
}

impl LinkHistory {
    /// The history of a link that was never lost.
    pub(super) fn new(limits: Limits) -> Self {
        let losses_ns = VecDeque::with_capacity(MAX_LOSSES + 1);
        Self { limits, losses_ns, hold_until_ns: 0 }
    }

    /// The link was lost or has returned. Allocates nothing.
    pub(super) fn changed(&mut self, up: bool, now_ns: u64) {
        let window = nanos(Duration::from_secs(u64::from(self.limits.link_window_s)));
        while self.losses_ns.front().is_some_and(|&at| now_ns.saturating_sub(at) > window) {
            self.losses_ns.pop_front();
        }
        if !up {
            if self.losses_ns.len() == MAX_LOSSES {
                self.losses_ns.pop_front();
            }
            self.losses_ns.push_back(now_ns);
            return;
        }
        let millis = |ms: u32| Duration::from_millis(u64::from(ms));
        let flaps = self.losses_ns.len() as u32;
        let Some(over) = flaps.checked_sub(self.limits.link_flaps + 1) else { return };
        let hold =
            doubled(millis(self.limits.link_hold_ms), over, millis(self.limits.link_hold_max_ms));
        self.hold_until_ns = now_ns.saturating_add(nanos(hold));
    }

    /// Until when the link does not count, although it is up; `None` if it counts.
    pub(super) fn held_until_ns(&self, now_ns: u64) -> Option<u64> {
        (now_ns < self.hold_until_ns).then_some(self.hold_until_ns)
    }
}

/// Most losses that are remembered. With so many the hold time has long reached its limit.
const MAX_LOSSES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn limits() -> Limits {
        Limits {
            failures: 3,
            window_s: 10,
            quarantine_s: 30,
            quarantine_max_s: 100,
            link_flaps: 2,
            link_window_s: 10,
            link_hold_ms: 100,
            link_hold_max_ms: 300,
        }
    }

    fn quarantine(restart: Restart) -> u64 {
        match restart {
            Restart::After { with_spare, .. } => with_spare.as_secs(),
            Restart::AtOnce => 0,
        }
    }

    #[test]
    fn a_domain_whose_failures_are_far_apart_is_rebuilt_at_once() {
        let mut history = FailureHistory::new(limits());
        for n in 0..20 {
            assert_eq!(history.failed(n * 6 * SECOND), Restart::AtOnce, "failure {n}");
        }
    }

    #[test]
    fn a_domain_that_keeps_failing_is_quarantined_longer_each_time() {
        let mut history = FailureHistory::new(limits());
        let mut now = SECOND;
        for expected in [30, 60, 100, 100] {
            for _ in 0..2 {
                assert_eq!(history.failed(now), Restart::AtOnce);
            }
            assert_eq!(quarantine(history.failed(now)), expected);
            now += (expected + 1) * SECOND;
        }
    }

    #[test]
    fn a_nic_that_is_blamed_twice_within_the_window_is_to_be_reset() {
        let mut history = FailureHistory::new(limits());
        let times = [0, 11, 12, 13, 14].map(|at| history.nic_failed(at * SECOND));
        assert_eq!(times, [false, false, true, false, true]);
    }

    #[test]
    fn a_domain_that_lived_long_enough_starts_anew() {
        let mut history = FailureHistory::new(limits());
        assert_eq!(quarantine(history.quarantine(0)), 30);
        assert_eq!(quarantine(history.quarantine(59 * SECOND)), 60);
        assert_eq!(quarantine(history.quarantine(59 * SECOND + 121 * SECOND)), 30);
    }

    #[test]
    fn a_domain_without_a_spare_is_never_quarantined_for_long() {
        let mut history = FailureHistory::new(limits());
        let mut pauses = Vec::new();
        for _ in 0..40 {
            let Restart::After { without_spare, .. } = history.quarantine(0) else {
                panic!("no pause")
            };
            pauses.push(without_spare);
        }
        assert_eq!(pauses[..2], [FIRST_WITHOUT_SPARE, 2 * FIRST_WITHOUT_SPARE]);
        assert!(pauses.iter().all(|pause| *pause <= LONGEST_WITHOUT_SPARE));
    }

    #[test]
    fn a_link_that_flaps_has_to_stay_up_longer_each_time() {
        let mut link = LinkHistory::new(limits());
        let mut now = 0;
        for expected_ms in [0, 0, 100, 200, 300, 300] {
            now += SECOND / 10;
            link.changed(false, now);
            assert!(link.held_until_ns(now + SECOND).is_none());
            now += SECOND / 10;
            link.changed(true, now);
            let held = link.held_until_ns(now).map_or(0, |until| (until - now) / 1_000_000);
            assert_eq!(held, expected_ms);
        }
        assert_eq!(link.held_until_ns(now + SECOND), None);
        now += 11 * SECOND;
        link.changed(false, now);
        link.changed(true, now);
        assert_eq!(link.held_until_ns(now), None, "old losses are forgotten");
    }
}

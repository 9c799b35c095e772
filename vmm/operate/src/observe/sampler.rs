//! Rates over the last minutes, from counters that only rise.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::snapshot::{DomainView, Rates};
use super::view::SystemView;
use platform::clock::monotonic_ns;
use supervisor::RoleState;

/// Between two samples.
pub(crate) const PERIOD: Duration = Duration::from_secs(1);
/// Samples that are kept: five minutes.
const KEPT_SAMPLES: usize = 300;

/// Counters at one moment; the difference of two makes the rates.
#[derive(Debug, Default)]
struct Reading {
    at_ns: u64,
    tx_frames: u64,
    tx_bytes: u64,
    rx_frames: u64,
    rx_bytes: u64,
    /// Of each domain, in the topology's order.
    cpu: Vec<CpuTime>,
}

/// CPU time of a domain's vCPU in one life.
#[derive(Clone, Copy, Debug)]
struct CpuTime {
    epoch: u32,
    seconds: f64,
}

/// Values of one sample that are shown as they are.
struct Levels<'a> {
    /// Seconds since the program began to observe.
    at_seconds: f64,
    tx_unconfirmed: u64,
    domains: &'a [DomainView],
}

#[derive(Debug, Default)]
struct State {
    before: Option<Reading>,
    samples: VecDeque<Rates>,
}

/// Samples of the last minutes.
#[derive(Debug, Default)]
pub(crate) struct Sampler {
    state: Mutex<State>,
}

impl Sampler {
    /// Takes a sample of a system that is observed since `began_ns`. The first sample only sets the
    /// start of the first interval.
    pub(super) fn sample(&self, view: &dyn SystemView, began_ns: u64) {
        let at_ns = monotonic_ns();
        let domains = view.domains();
        let counters = view.counters();
        let counter = |name: &str| counters.get(name).copied().unwrap_or(0);
        let now = Reading {
            at_ns,
            tx_frames: counter("tx_frames"),
            tx_bytes: counter("tx_bytes"),
            rx_frames: counter("rx_frames"),
            rx_bytes: counter("rx_bytes"),
            cpu: domains.iter().map(CpuTime::of).collect(),
        };
        let levels = Levels {
            at_seconds: (at_ns - began_ns) as f64 / 1e9,
            tx_unconfirmed: counter("tx_unconfirmed"),
            domains: &domains,
        };
        let mut state = self.state();
        if let Some(before) = &state.before {
            let rates = rates(before, &now, &levels);
            if state.samples.len() == KEPT_SAMPLES {
                state.samples.pop_front();
            }
            state.samples.push_back(rates);
        }
        state.before = Some(now);
    }

    /// The newest sample; zeros before the first one.
    pub(super) fn last(&self) -> Rates {
        self.state().samples.back().cloned().unwrap_or_default()
    }

    /// All kept samples, oldest first.
    pub(crate) fn samples(&self) -> Vec<Rates> {
        self.state().samples.iter().cloned().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CpuTime {
    fn of(domain: &DomainView) -> Self {
        Self { epoch: domain.epoch, seconds: domain.cpu_seconds.unwrap_or(0.0) }
    }

    /// CPU time used since `before`. A new life counts its CPU time from zero.
    fn since(self, before: Self) -> f64 {
        if self.epoch == before.epoch { self.seconds - before.seconds } else { self.seconds }
    }
}

fn rates(before: &Reading, now: &Reading, levels: &Levels<'_>) -> Rates {
    let seconds = (now.at_ns.saturating_sub(before.at_ns) as f64 / 1e9).max(1e-6);
    let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
    let parked =
        |(now, before): (&CpuTime, &CpuTime)| (1.0 - now.since(*before) / seconds).clamp(0.0, 1.0);
    let active = levels.domains.iter().find(|domain| domain.role == RoleState::Active);
    Rates {
        at_seconds: levels.at_seconds,
        tx_frames: rate(now.tx_frames, before.tx_frames),
        tx_bytes: rate(now.tx_bytes, before.tx_bytes),
        rx_frames: rate(now.rx_frames, before.rx_frames),
        rx_bytes: rate(now.rx_bytes, before.rx_bytes),
        tx_unconfirmed: levels.tx_unconfirmed,
        rings: active.map(|domain| domain.rings).unwrap_or_default(),
        parked_share: now.cpu.iter().zip(&before.cpu).map(parked).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64, epoch: u32, cpu_seconds: f64) -> Reading {
        let cpu = vec![CpuTime { epoch, seconds: cpu_seconds }];
        Reading { at_ns: seconds * 1_000_000_000, cpu, ..Reading::default() }
    }

    const LEVELS: Levels<'_> = Levels { at_seconds: 2.0, tx_unconfirmed: 4, domains: &[] };

    #[test]
    fn rates_are_per_second_of_real_time() {
        let carried = |reading: Reading, tx_frames, tx_bytes| Reading {
            tx_frames,
            tx_bytes,
            rx_frames: 7,
            rx_bytes: 70,
            ..reading
        };
        let before = carried(at(10, 1, 0.5), 100, 1000);
        let now = carried(at(12, 1, 1.0), 300, 5000);
        let rates = rates(&before, &now, &LEVELS);
        assert_eq!((rates.tx_frames, rates.tx_bytes, rates.rx_frames), (100.0, 2000.0, 0.0));
        assert_eq!(rates.parked_share, [0.75]);
        assert_eq!(rates.tx_unconfirmed, 4);
    }

    #[test]
    fn a_new_life_begins_its_cpu_time_anew() {
        let rates = rates(&at(0, 1, 90.0), &at(1, 2, 0.25), &LEVELS);
        assert_eq!(rates.parked_share, [0.75]);
    }
}

//! Rates over the last minutes, from counters that only rise.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::snapshot::{DomainView, Rates};
use super::view::Observer;
use platform::clock::monotonic_ns;
use supervisor::RoleState;

/// Between two samples.
pub const PERIOD: Duration = Duration::from_secs(1);
/// Samples that are kept: five minutes.
pub const KEPT_SAMPLES: usize = 300;

/// What the next sample is compared with.
#[derive(Debug, Default)]
struct Before {
    at_ns: u64,
    frames_and_bytes: [u64; 4],
    /// Life and CPU seconds of each domain.
    cpu: Vec<(u32, f64)>,
}

#[derive(Debug, Default)]
struct State {
    before: Option<Before>,
    samples: VecDeque<Rates>,
}

/// Samples of the last minutes.
#[derive(Debug, Default)]
pub struct Sampler {
    state: Mutex<State>,
}

impl Sampler {
    /// Takes a sample; the first one only sets the beginning.
    pub fn sample(&self, observer: &Observer) {
        let now_ns = monotonic_ns();
        let domains = observer.view.domains();
        let counters = observer.view.counters();
        let counter = |name: &str| counters.get(name).copied().unwrap_or(0);
        let now = Before {
            at_ns: now_ns,
            frames_and_bytes: ["tx_frames", "tx_bytes", "rx_frames", "rx_bytes"].map(counter),
            cpu: domains.iter().map(|d| (d.epoch, d.cpu_seconds.unwrap_or(0.0))).collect(),
        };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = &state.before {
            let at_seconds = (now_ns - observer.recorder.began_ns()) as f64 / 1e9;
            let unconfirmed = counter("tx_unconfirmed");
            let rates = rates(before, &now, at_seconds, unconfirmed, &domains);
            if state.samples.len() == KEPT_SAMPLES {
                state.samples.pop_front();
            }
            state.samples.push_back(rates);
        }
        state.before = Some(now);
    }

    /// The newest sample, zeros before the first.
    pub fn last(&self) -> Rates {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.samples.back().cloned().unwrap_or_default()
    }

    /// All kept samples, oldest first.
    pub fn samples(&self) -> Vec<Rates> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.samples.iter().cloned().collect()
    }
}

fn rates(
    before: &Before,
    now: &Before,
    at_seconds: f64,
    tx_unconfirmed: u64,
    domains: &[DomainView],
) -> Rates {
    let seconds = (now.at_ns.saturating_sub(before.at_ns) as f64 / 1e9).max(1e-6);
    let rate = |n: usize| {
        now.frames_and_bytes[n].saturating_sub(before.frames_and_bytes[n]) as f64 / seconds
    };
    let parked = |(now, before): (&(u32, f64), &(u32, f64))| {
        // A new life counts its CPU time from zero.
        let used = if now.0 == before.0 { now.1 - before.1 } else { now.1 };
        (1.0 - used / seconds).clamp(0.0, 1.0)
    };
    let active = domains.iter().find(|domain| domain.role == RoleState::Active);
    Rates {
        at_seconds,
        tx_frames: rate(0),
        tx_bytes: rate(1),
        rx_frames: rate(2),
        rx_bytes: rate(3),
        tx_unconfirmed,
        rings: active.map(|domain| domain.rings).unwrap_or_default(),
        parked_share: now.cpu.iter().zip(&before.cpu).map(parked).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64, counters: [u64; 4], cpu: (u32, f64)) -> Before {
        Before { at_ns: seconds * 1_000_000_000, frames_and_bytes: counters, cpu: vec![cpu] }
    }

    #[test]
    fn rates_are_per_second_of_real_time() {
        let before = at(10, [100, 1000, 7, 70], (1, 0.5));
        let now = at(12, [300, 5000, 7, 70], (1, 1.0));
        let rates = rates(&before, &now, 2.0, 4, &[]);
        assert_eq!((rates.tx_frames, rates.tx_bytes, rates.rx_frames), (100.0, 2000.0, 0.0));
        assert_eq!(rates.parked_share, [0.75]);
        assert_eq!(rates.tx_unconfirmed, 4);
    }

    #[test]
    fn a_new_life_begins_its_cpu_time_anew() {
        let rates = rates(&at(0, [0; 4], (1, 90.0)), &at(1, [0; 4], (2, 0.25)), 1.0, 0, &[]);
        assert_eq!(rates.parked_share, [0.75]);
    }
}

//! Durations of failovers, in the shapes that Prometheus and the API want.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Upper edges of the buckets, microseconds, inclusive as in Prometheus. The promise is "under
/// 10 ms", so the buckets below that are fine: from 100 µs on, none is wider than a quarter of its
/// upper edge.
pub(super) const EDGES_US: [u64; 44] = [
    25, 50, 75, 100, 125, 150, 175, 200, 250, 300, 350, 400, 450, 500, 600, 700, 800, 900, 1000,
    1250, 1500, 1750, 2000, 2500, 3000, 3500, 4000, 4500, 5000, 6000, 7000, 8000, 9000, 10_000,
    15_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000, 5_000_000, 10_000_000,
];

/// Newest values that are kept one by one, for exact quantiles.
const KEPT_VALUES: usize = 10_000;

/// A histogram of durations, with the newest values themselves.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    counts: [u64; EDGES_US.len() + 1],
    sum_us: f64,
    count: u64,
    max_us: f64,
    newest: Vec<f32>,
}

impl Default for Histogram {
    fn default() -> Self {
        let counts = [0; EDGES_US.len() + 1];
        Self { counts, sum_us: 0.0, count: 0, max_us: 0.0, newest: Vec::new() }
    }
}

/// A histogram as the API shows it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HistogramView {
    /// Number of values in each bucket, not cumulative; the last bucket is above all edges.
    pub counts: Vec<u64>,
    /// Number of all values.
    pub count: u64,
    /// Their sum, microseconds.
    pub sum_us: f64,
    /// Median of the newest 10,000, microseconds.
    pub p50_us: f64,
    /// 90th percentile of the newest 10,000, microseconds.
    pub p90_us: f64,
    /// 99th percentile of the newest 10,000, microseconds.
    pub p99_us: f64,
    /// The largest value, microseconds.
    pub max_us: f64,
}

impl Histogram {
    /// Records a duration in microseconds.
    pub(super) fn record(&mut self, value_us: f64) {
        let bucket = EDGES_US.partition_point(|&edge| (edge as f64) < value_us);
        self.counts[bucket] += 1;
        self.sum_us += value_us;
        self.max_us = self.max_us.max(value_us);
        let slot = self.count as usize % KEPT_VALUES;
        self.count += 1;
        match self.newest.get_mut(slot) {
            Some(kept) => *kept = value_us as f32,
            None => self.newest.push(value_us as f32),
        }
    }

    /// Number of all values.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Sum of all values, microseconds.
    pub(super) fn sum_us(&self) -> f64 {
        self.sum_us
    }

    /// For each edge in microseconds, the number of values that are not above it.
    pub(super) fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let mut sum = 0;
        EDGES_US.iter().zip(&self.counts).map(move |(&edge, &count)| {
            sum += count;
            (edge, sum)
        })
    }

    /// The histogram as the API shows it.
    pub(super) fn view(&self) -> HistogramView {
        let mut sorted = self.newest.clone();
        sorted.sort_by(f32::total_cmp);
        let quantile = |share| quantile(&sorted, share);
        HistogramView {
            counts: self.counts.to_vec(),
            count: self.count,
            sum_us: self.sum_us,
            p50_us: quantile(0.5),
            p90_us: quantile(0.9),
            p99_us: quantile(0.99),
            max_us: self.max_us,
        }
    }
}

/// The quantile of sorted values by nearest rank; 0 if there are no values.
fn quantile(sorted: &[f32], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).map_or(0.0, |&value| f64::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_an_edge_belongs_below_it() {
        let mut histogram = Histogram::default();
        for value in [0.0, 25.0, 25.1, 10_000.0, 1e9] {
            histogram.record(value);
        }
        let view = histogram.view();
        assert_eq!(view.counts[0], 2);
        assert_eq!(view.counts[1], 1);
        let ten_ms = EDGES_US.iter().position(|&edge| edge == 10_000).unwrap();
        assert_eq!(view.counts[ten_ms], 1);
        assert_eq!(view.counts[EDGES_US.len()], 1);
        assert_eq!(view.counts.iter().sum::<u64>(), view.count);
    }

    #[test]
    fn buckets_below_ten_ms_are_fine_and_all_rise() {
        assert!(EDGES_US.is_sorted_by(|a, b| a < b));
        assert!(EDGES_US.iter().filter(|&&edge| edge <= 10_000).count() >= 30);
    }

    #[test]
    fn quantiles_are_those_of_the_newest_values() {
        let mut histogram = Histogram::default();
        (0..KEPT_VALUES).for_each(|_| histogram.record(1e6));
        (1..=KEPT_VALUES).for_each(|n| histogram.record(n as f64));
        let view = histogram.view();
        assert_eq!((view.p50_us, view.p90_us, view.p99_us), (5000.0, 9000.0, 9900.0));
        assert_eq!(view.max_us, 1e6);
    }

    #[test]
    fn an_empty_one_shows_zeros() {
        assert_eq!(Histogram::default().view().p99_us, 0.0);
    }

    #[test]
    fn cumulative_counts_end_at_all_that_fit() {
        let mut histogram = Histogram::default();
        [10.0, 700.0, 1e9].into_iter().for_each(|value| histogram.record(value));
        assert_eq!(histogram.cumulative().last(), Some((10_000_000, 2)));
    }
}

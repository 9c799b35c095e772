//! How long the service was interrupted, as histograms, a cumulative curve and quantiles.

use serde::Serialize;

use super::statistics::{Proportion, Quantiles};

/// The promised limit of an interruption, microseconds.
pub(super) const GOAL_US: f64 = 10_000.0;
/// Bins as wide as the paper's.
const COARSE: Bins = Bins { width_us: 10_000.0, most: 100 };
/// Twenty bins up to the goal, and as many beyond.
const FINE: Bins = Bins { width_us: 500.0, most: 40 };

/// One interruption.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Interruption {
    /// Its length, microseconds.
    pub(super) us: f64,
    /// Whether the machine itself stood still meanwhile.
    pub(super) stalled: bool,
}

/// Interruptions whose length lies in `from_us..to_us`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Bin {
    /// Lower edge, microseconds; it belongs to the bin.
    pub(super) from_us: f64,
    /// Upper edge, which does not belong to the bin; `None` for the bin of all that are longer.
    pub(super) to_us: Option<f64>,
    /// Interruptions in it.
    pub(super) count: u64,
    /// Those of them in which the machine itself stood still.
    pub(super) stalled: u64,
    /// Share of all interruptions that lie in this bin or below.
    pub(super) cumulative: f64,
}

/// Interruptions by failures that were detected, and after which the service came back.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Distribution {
    /// Quantiles of all interruptions.
    pub(super) all: Option<Quantiles>,
    /// Quantiles of the interruptions in which the machine did not stand still.
    pub(super) without_machine_stalls: Option<Quantiles>,
    /// The share that is under 10 ms.
    pub(super) under_10_ms: Option<Proportion>,
    /// In bins of 10 ms, up to the last that is not empty.
    pub(super) bins_10_ms: Vec<Bin>,
    /// In bins of half a millisecond up to 20 ms, and one beyond, up to the last that is not empty.
    pub(super) bins_500_us: Vec<Bin>,
    /// All interruptions, the shortest first.
    #[serde(skip)]
    pub(super) sorted: Vec<Interruption>,
}

impl Distribution {
    /// The distribution of interruptions, given in any order.
    pub(super) fn of(interruptions: impl IntoIterator<Item = Interruption>) -> Self {
        let mut sorted: Vec<_> = interruptions.into_iter().collect();
        sorted.sort_by(|a, b| a.us.total_cmp(&b.us));
        let under = sorted.iter().filter(|one| one.us < GOAL_US).count();
        Self {
            all: Quantiles::of(sorted.iter().map(|one| one.us)),
            without_machine_stalls: Quantiles::of(
                sorted.iter().filter(|one| !one.stalled).map(|one| one.us),
            ),
            under_10_ms: Proportion::new(under as u64, sorted.len() as u64),
            bins_10_ms: COARSE.count(&sorted),
            bins_500_us: FINE.count(&sorted),
            sorted,
        }
    }
}

/// Bins of one width, and one for all beyond.
struct Bins {
    width_us: f64,
    most: usize,
}

impl Bins {
    fn count(&self, interruptions: &[Interruption]) -> Vec<Bin> {
        let edge = |n: usize| n as f64 * self.width_us;
        let empty = |n: usize| Bin {
            from_us: edge(n),
            to_us: (n < self.most).then(|| edge(n + 1)),
            count: 0,
            stalled: 0,
            cumulative: 0.0,
        };
        let mut bins: Vec<Bin> = (0..=self.most).map(empty).collect();
        for one in interruptions {
            let bin = &mut bins[((one.us / self.width_us).max(0.0) as usize).min(self.most)];
            bin.count += 1;
            bin.stalled += u64::from(one.stalled);
        }
        let mut sum = 0;
        for bin in &mut bins {
            sum += bin.count;
            bin.cumulative = sum as f64 / interruptions.len().max(1) as f64;
        }
        bins.truncate(bins.iter().rposition(|bin| bin.count > 0).map_or(0, |last| last + 1));
        bins
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(lengths_us: &[f64]) -> Distribution {
        let stalled = |us: f64| Interruption { us, stalled: us > 1e6 };
        Distribution::of(lengths_us.iter().copied().map(stalled))
    }

    #[test]
    fn an_edge_belongs_to_the_bin_above_it() {
        let d = of(&[0.0, 499.0, 500.0, 9_999.0, 10_000.0, 19_999.0, 20_000.0, 2e6]);
        let counts = |bins: &[Bin]| bins.iter().map(|bin| bin.count).collect::<Vec<_>>();
        assert_eq!(counts(&d.bins_10_ms)[..3], [4, 2, 1]);
        assert_eq!(d.bins_10_ms.len(), 101);
        assert_eq!(d.bins_10_ms[100].to_us, None);
        assert_eq!((d.bins_10_ms[100].count, d.bins_10_ms[100].stalled), (1, 1));
        assert_eq!(counts(&d.bins_500_us)[..2], [2, 1]);
        assert_eq!((d.bins_500_us[19].count, d.bins_500_us[20].count), (1, 1));
        assert_eq!(d.bins_500_us[40].count, 2);
        let under = d.under_10_ms.unwrap();
        assert_eq!((under.count, under.of, under.share), (4, 8, 0.5));
    }

    #[test]
    fn stalls_of_the_machine_are_told_apart_and_counted() {
        let d = of(&[1000.0, 3000.0, 2e6]);
        assert_eq!(d.all.unwrap().max_us, 2e6);
        assert_eq!(d.without_machine_stalls.unwrap().max_us, 3000.0);
    }

    #[test]
    fn bins_end_with_the_last_that_is_used() {
        assert_eq!(of(&[]), Distribution::default());
        let d = of(&[1200.0]);
        assert_eq!((d.bins_10_ms.len(), d.bins_500_us.len()), (1, 3));
        assert_eq!(d.bins_500_us[2].cumulative, 1.0);
    }

    proptest! {
        #[test]
        fn no_interruption_is_lost(lengths in proptest::collection::vec(0.0_f64..5e6, 0..200)) {
            let d = of(&lengths);
            for bins in [&d.bins_10_ms, &d.bins_500_us] {
                let sum: u64 = bins.iter().map(|bin| bin.count).sum();
                prop_assert_eq!(sum, lengths.len() as u64);
                prop_assert!(bins.is_sorted_by(|a, b| a.cumulative <= b.cumulative));
                prop_assert!(bins.last().is_none_or(|bin| bin.cumulative == 1.0));
            }
        }
    }
}

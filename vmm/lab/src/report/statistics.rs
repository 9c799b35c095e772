//! Statistics of counts and durations: shares with exact intervals, and quantiles.

use serde::Serialize;

use crate::traffic::percentile;

/// The confidence of all intervals.
pub(super) const CONFIDENCE: f64 = 0.95;

/// Halvings of an interval of shares; more than a double can tell apart.
const HALVINGS: u32 = 60;
/// Steps of the continued fraction. It takes about the square root of the larger argument, so this
/// is enough for some hundred million trials.
const MOST_STEPS: u32 = 20_000;
/// From here on Stirling's series with five terms is as exact as a double.
const STIRLING_FROM: f64 = 12.0;

/// A count among others, as a share of them, with its Clopper-Pearson interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Proportion {
    /// The count.
    pub(super) count: u64,
    /// The number that it is a share of.
    pub(super) of: u64,
    /// The share, between 0 and 1.
    pub(super) share: f64,
    /// Lower end of the 95 % interval.
    pub(super) low: f64,
    /// Upper end of the 95 % interval.
    pub(super) high: f64,
}

impl Proportion {
    /// `count` of `of`; `None` where `of` is 0.
    pub(super) fn new(count: u64, of: u64) -> Option<Self> {
        let Interval { low, high } = clopper_pearson(count, of)?;
        Some(Self { count, of, share: count as f64 / of as f64, low, high })
    }
}

/// An interval of shares.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Interval {
    low: f64,
    high: f64,
}

/// The exact 95 % interval of a share of which `successes` in `trials` were seen (Clopper and
/// Pearson, Biometrika 26, 1934): all shares under which neither so few nor so many would be rarer
/// than 2.5 %. `None` without trials, or with more successes than trials.
fn clopper_pearson(successes: u64, trials: u64) -> Option<Interval> {
    if trials == 0 || successes > trials {
        return None;
    }
    let tail = (1.0 - CONFIDENCE) / 2.0;
    let (k, n) = (successes as f64, trials as f64);
    let low = if successes == 0 { 0.0 } else { inverse_beta(tail, k, n - k + 1.0) };
    let high = if successes == trials { 1.0 } else { inverse_beta(1.0 - tail, k + 1.0, n - k) };
    Some(Interval { low, high })
}

/// The `x` at which the regularised incomplete beta function is `p`.
fn inverse_beta(p: f64, a: f64, b: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..HALVINGS {
        let middle = 0.5 * (low + high);
        if incomplete_beta(middle, a, b) < p { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

/// The regularised incomplete beta function I_x(a, b), for positive `a` and `b` (DLMF 8.17).
fn incomplete_beta(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    // The fraction converges fast on the side of the mean that `x` must be on: I_x(a, b) is
    // 1 - I_(1-x)(b, a).
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(1.0 - x, b, a);
    }
    let ln_beta = ln_gamma(a) + ln_gamma(b) - ln_gamma(a + b);
    let front = (a * x.ln() + b * (-x).ln_1p() - ln_beta).exp() / a;
    (front * beta_fraction(x, a, b)).clamp(0.0, 1.0)
}

/// The continued fraction of DLMF 8.17.22 from its head, by the method of Lentz.
fn beta_fraction(x: f64, a: f64, b: f64) -> f64 {
    let away_from_zero = |v: f64| if v.abs() < f64::MIN_POSITIVE { f64::MIN_POSITIVE } else { v };
    let mut numerators = 1.0;
    let mut denominators = 1.0 / away_from_zero(1.0 - (a + b) * x / (a + 1.0));
    let mut value = denominators;
    for step in 1..=MOST_STEPS {
        let m = f64::from(step);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let before = value;
        for coefficient in [even, odd] {
            denominators = 1.0 / away_from_zero(1.0 + coefficient * denominators);
            numerators = away_from_zero(1.0 + coefficient / numerators);
            value *= numerators * denominators;
        }
        if (value / before - 1.0).abs() < 2.0 * f64::EPSILON {
            break;
        }
    }
    value
}

/// The logarithm of the gamma function of a positive number, by Stirling's series (DLMF 5.11.1).
fn ln_gamma(x: f64) -> f64 {
    let (mut x, mut below) = (x, 1.0);
    while x < STIRLING_FROM {
        below *= x;
        x += 1.0;
    }
    let square = x * x;
    let series = [1.0 / 12.0, -1.0 / 360.0, 1.0 / 1260.0, -1.0 / 1680.0, 1.0 / 1188.0];
    let rest = series.iter().rev().fold(0.0, |sum, term| sum / square + term) / x;
    (x - 0.5) * x.ln() - x + 0.5 * std::f64::consts::TAU.ln() + rest - f64::ln(below)
}

/// Quantiles of durations, by nearest rank, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Quantiles {
    /// How many durations.
    pub(super) count: u64,
    /// The shortest.
    pub(super) min_us: f64,
    /// Their mean.
    pub(super) mean_us: f64,
    /// Their median.
    pub(super) p50_us: f64,
    /// The 90th percentile.
    pub(super) p90_us: f64,
    /// The 99th percentile.
    pub(super) p99_us: f64,
    /// The longest.
    pub(super) max_us: f64,
}

impl Quantiles {
    /// Quantiles of durations in microseconds, given in any order; `None` without any.
    pub(super) fn of(durations_us: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = durations_us.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let at = |share| percentile(&sorted, share);
        Some(Self {
            count: sorted.len() as u64,
            min_us: *sorted.first()?,
            mean_us: sorted.iter().sum::<f64>() / sorted.len() as f64,
            p50_us: at(0.5)?,
            p90_us: at(0.9)?,
            p99_us: at(0.99)?,
            max_us: *sorted.last()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn assert_interval(successes: u64, trials: u64, low: f64, high: f64) {
        let found = clopper_pearson(successes, trials).unwrap();
        let sound = (found.low - low).abs() < 6e-5 && (found.high - high).abs() < 6e-5;
        assert!(sound, "{successes}/{trials}: {found:?}");
    }

    #[test]
    fn intervals_are_those_of_newcombe_1998_table_one() {
        assert_interval(81, 263, 0.2527, 0.3676);
        assert_interval(15, 148, 0.0579, 0.1617);
        assert_interval(0, 20, 0.0, 0.1684);
        assert_interval(1, 29, 0.0009, 0.1776);
    }

    #[test]
    fn intervals_are_those_of_tables_for_ten_trials() {
        assert_interval(0, 10, 0.0, 0.3085);
        assert_interval(1, 10, 0.0025, 0.4450);
        assert_interval(5, 10, 0.1871, 0.8129);
        assert_interval(10, 10, 0.6915, 1.0);
    }

    #[test]
    fn without_a_failure_the_bound_is_a_root() {
        for trials in [1, 7, 3700, 1_000_000] {
            let Interval { low, high } = clopper_pearson(trials, trials).unwrap();
            assert_eq!(high, 1.0);
            let exact = 0.025_f64.powf(1.0 / trials as f64);
            assert!((low - exact).abs() < 1e-9, "{trials}: {low} {exact}");
        }
        // What a campaign aims at: so many detected failures without a miss say 99.9 %.
        assert!(clopper_pearson(3700, 3700).unwrap().low > 0.999);
        assert!(clopper_pearson(3600, 3600).unwrap().low < 0.999);
    }

    #[test]
    fn of_nothing_nothing_is_known() {
        assert_eq!(clopper_pearson(0, 0), None);
        assert_eq!(clopper_pearson(2, 1), None);
        assert_eq!(Quantiles::of([]), None);
    }

    #[test]
    fn gamma_is_the_factorial() {
        let mut product = 1.0_f64;
        for n in 1..60 {
            assert!((ln_gamma(f64::from(n)) - product.ln()).abs() < 1e-11, "{n}");
            product *= f64::from(n);
        }
        let half = std::f64::consts::PI.sqrt().ln();
        assert!((ln_gamma(0.5) - half).abs() < 1e-12);
    }

    /// The chance of at least `k` successes, summed term by term.
    fn upper_tail(k: u64, n: u64, p: f64) -> f64 {
        let ln_choose =
            |i: f64, n: f64| ln_gamma(n + 1.0) - ln_gamma(i + 1.0) - ln_gamma(n - i + 1.0);
        let term = |i: u64| {
            let (i, n) = (i as f64, n as f64);
            (ln_choose(i, n) + i * p.ln() + (n - i) * (-p).ln_1p()).exp()
        };
        (k..=n).map(term).sum()
    }

    #[test]
    fn quantiles_are_nearest_ranks() {
        let q = Quantiles::of((1..=200).rev().map(f64::from)).unwrap();
        assert_eq!((q.count, q.min_us, q.mean_us), (200, 1.0, 100.5));
        assert_eq!((q.p50_us, q.p90_us, q.p99_us, q.max_us), (100.0, 180.0, 198.0, 200.0));
    }

    proptest! {
        #[test]
        fn each_end_leaves_two_and_a_half_percent(n in 1_u64..400, share in 0.0_f64..=1.0) {
            let k = (n as f64 * share) as u64;
            let Interval { low, high } = clopper_pearson(k, n).unwrap();
            let seen = k as f64 / n as f64;
            prop_assert!(low <= seen && seen <= high);
            if k > 0 {
                prop_assert!((upper_tail(k, n, low) - 0.025).abs() < 1e-8);
            }
            if k < n {
                prop_assert!((1.0 - upper_tail(k + 1, n, high) - 0.025).abs() < 1e-8);
            }
        }
    }
}

//! A table of injected causes against what the detectors found, with the interruption by each cause
//! as the sender felt it and as the VMM accounts for it.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use super::plan::Injection;
use super::report::FailoverRow;
use crate::traffic::percentile;

/// What one injected cause did.
#[derive(Debug, Serialize)]
pub struct CauseSummary {
    /// The cause.
    pub injected: Injection,
    /// How often it was injected.
    pub faults: usize,
    /// Faults in whose interruption the machine did not stand still by itself. The medians are over
    /// these, or over all if there are none.
    pub stall_free: usize,
    /// Median of the interruptions as the sender felt them, microseconds.
    pub interruption_median_us: f64,
    /// Median of the same by the VMM's own account, see [`FailoverRow::metric_us`].
    pub metric_median_us: Option<f64>,
    /// The longest interruption, stalls included, microseconds.
    pub interruption_max_us: f64,
    /// As what it was found, how often.
    pub found: BTreeMap<&'static str, usize>,
}

/// One summary for each cause that was injected.
pub(super) fn summaries(rows: &[FailoverRow]) -> Vec<CauseSummary> {
    Injection::all().filter_map(|cause| summary(cause, rows)).collect()
}

fn summary(injected: Injection, rows: &[FailoverRow]) -> Option<CauseSummary> {
    let all: Vec<_> = rows.iter().filter(|row| row.injected == injected).collect();
    let stall_free: Vec<_> = all.iter().copied().filter(|row| !row.machine_stalled).collect();
    let judged = if stall_free.is_empty() { &all } else { &stall_free };
    let mut found = BTreeMap::new();
    for row in &all {
        *found.entry(row.cause).or_insert(0) += 1;
    }
    Some(CauseSummary {
        injected,
        faults: all.len(),
        stall_free: stall_free.len(),
        interruption_median_us: median(judged.iter().map(|row| row.interruption_us))?,
        metric_median_us: median(judged.iter().filter_map(|row| row.metric_us)),
        interruption_max_us: all.iter().map(|row| row.interruption_us).fold(0.0, f64::max),
        found,
    })
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    percentile(&sorted, 0.5)
}

/// A line for each injected cause: how often it was injected, how long it interrupted the service
/// by the sender's and by the VMM's account, and as what it was found.
pub(super) fn table(out: &mut String, causes: &[CauseSummary]) {
    // Writing to a string cannot fail.
    let _ =
        writeln!(out, "\n  injected      faults  interruption p50 / max   metric p50   found as");
    for cause in causes {
        let found: Vec<String> =
            cause.found.iter().map(|(cause, count)| format!("{cause} {count}")).collect();
        let _ = writeln!(
            out,
            "  {:<12}  {:>6}     {:>6.2} / {:>6.2} ms    {:>9}   {}",
            cause.injected.name(),
            cause.faults,
            cause.interruption_median_us / 1000.0,
            cause.interruption_max_us / 1000.0,
            millis(cause.metric_median_us),
            found.join(", "),
        );
    }
}

/// Microseconds as milliseconds for people; a dash where there is no value.
pub(super) fn millis(us: Option<f64>) -> String {
    us.map_or_else(|| "-".to_owned(), |us| format!("{:.2} ms", us / 1000.0))
}

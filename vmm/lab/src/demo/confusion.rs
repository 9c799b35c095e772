//! A table of injected causes against what the detectors found, with the interruption by each cause.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::plan::Injection;
use super::report::FailoverRow;
use crate::fault::Cause;
use crate::traffic::percentile;

/// A line for each injected cause: how often it was injected, how long it interrupted the service,
/// and as what it was found. Nothing is written where all faults were crashes found as crashes.
pub(super) fn table(out: &mut String, rows: &[FailoverRow]) {
    let crash = Injection::Fault(Cause::Crash);
    if rows.iter().all(|row| row.injected == crash && row.cause == crash.name()) {
        return;
    }
    let _ = writeln!(out, "\n  injected      faults  interruption p50 / max   found as");
    for cause in Injection::all() {
        let of_cause: Vec<_> = rows.iter().filter(|row| row.injected == cause).collect();
        let mut sorted: Vec<f64> = of_cause.iter().map(|row| row.interruption_us).collect();
        sorted.sort_by(f64::total_cmp);
        let (Some(median), Some(max)) = (percentile(&sorted, 0.5), sorted.last()) else { continue };
        let mut found = BTreeMap::new();
        for row in &of_cause {
            *found.entry(row.cause).or_insert(0) += 1;
        }
        let found: Vec<String> =
            found.into_iter().map(|(cause, count)| format!("{cause} {count}")).collect();
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "  {:<12}  {:>6}     {:>6.2} / {:>6.2} ms      {}",
            cause.name(),
            of_cause.len(),
            median / 1000.0,
            max / 1000.0,
            found.join(", "),
        );
    }
}

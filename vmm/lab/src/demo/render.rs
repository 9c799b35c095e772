//! The demo's result for people.

use std::fmt::Write;

use super::confusion;
use super::report::{FailoverRow, GOAL_INTERRUPTION_US, Limits, Report};
use crate::traffic::percentile;

/// Upper edges of the histogram's bins, milliseconds.
const EDGES_MS: [f64; 11] = [0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 10.0, 20.0, f64::INFINITY];
/// Widest bar, characters.
const BAR_CHARS: usize = 40;

impl Report {
    /// Table, histogram, and one verdict line.
    pub fn text(&self, limits: Limits) -> String {
        let mut out = String::new();
        table(&mut out, &self.failovers);
        confusion::table(&mut out, &self.causes);
        histogram(&mut out, &self.failovers);
        self.traffic_lines(&mut out);
        out.push_str(&self.verdict_line(limits));
        out.push('\n');
        out
    }

    fn traffic_lines(&self, out: &mut String) {
        let t = &self.traffic;
        line(
            out,
            format_args!(
                "traffic   {} sent, {} echoed, {} lost, {} duplicated, {} corrupted",
                t.sent, t.received, t.lost, t.duplicated, t.corrupted
            ),
        );
        line(
            out,
            format_args!(
                "gaps      p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms between successive echoes",
                t.gap_us.p50 / 1000.0,
                t.gap_us.p99 / 1000.0,
                t.gap_us.max / 1000.0
            ),
        );
        line(
            out,
            format_args!(
                "cost      {} KiB RAM a domain, VMM resident {} KiB, first echo after {:.0} ms",
                self.memory.domain_kib, self.memory.vmm_rss_kib, self.first_echo_ms
            ),
        );
        if !self.machine_stalls_ms.is_empty() {
            let worst = self.machine_stalls_ms.iter().copied().fold(0.0, f64::max);
            line(
                out,
                format_args!(
                    "machine   stood still {} times by itself, for up to {worst:.1} ms",
                    self.machine_stalls_ms.len()
                ),
            );
            if let Some(median_us) = self.stall_free_median_us {
                let median_ms = median_us / 1000.0;
                line(out, format_args!("          p50 {median_ms:.2} ms where it did not"));
            }
        }
        if !self.realtime {
            line(out, format_args!("machine   no real-time scheduling was permitted"));
        }
    }

    fn verdict_line(&self, limits: Limits) -> String {
        if let Some(why) = self.failure(limits) {
            return format!("FAILED: {why}");
        }
        let all = self.failovers.len();
        let over: Vec<_> =
            self.failovers.iter().filter(|r| r.interruption_us >= GOAL_INTERRUPTION_US).collect();
        let stalled = over.iter().filter(|row| row.machine_stalled).count();
        match over.len() {
            0 => format!("OK: {all} of {all} failovers, each interruption under 10 ms"),
            n if n == stalled => format!(
                "OK: {all} of {all} failovers; {n} interruptions over 10 ms, in each of which the \
                 machine itself stood still"
            ),
            n => format!(
                "OK: {all} of {all} failovers, but {n} interruptions over 10 ms ({stalled} of them \
                 while the machine itself stood still)"
            ),
        }
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{text}");
}

fn table(out: &mut String, rows: &[FailoverRow]) {
    line(
        out,
        format_args!(
            "  #  injected      site  found            from>to     detect     switch  interruption     metric  lost  resent  spare again"
        ),
    );
    for (n, row) in rows.iter().enumerate() {
        line(
            out,
            format_args!(
                "{:>3}  {:<12}  {:<5} {:<15}  {:<9} {:>5.0} µs  {:>6.0} µs  {:>9.2} ms  {:>9}  {:>4}  {:>6}  {:>8.1} ms{}",
                n + 1,
                row.injected.name(),
                row.site,
                row.cause,
                format!("{}>{}", row.from, row.to),
                row.detect_us,
                row.switch_us,
                row.interruption_us / 1000.0,
                confusion::millis(row.metric_us),
                row.frames_lost,
                row.frames_resent,
                row.redundant_again_ms,
                match row.machine_stalled {
                    true => format!("  machine stalled {:.1} ms", row.stalled_us / 1000.0),
                    false => String::new(),
                },
            ),
        );
    }
}

fn histogram(out: &mut String, rows: &[FailoverRow]) {
    let mut sorted: Vec<f64> = rows.iter().map(|row| row.interruption_us / 1000.0).collect();
    sorted.sort_by(f64::total_cmp);
    let Some(max) = sorted.last().copied() else { return };
    line(out, format_args!("\ninterruption, {} failovers", sorted.len()));
    let counts = bins(&sorted);
    let most = counts.iter().copied().max().unwrap_or(1).max(1);
    let last = counts.iter().rposition(|&count| count > 0).unwrap_or(0);
    for (edge, count) in EDGES_MS.iter().zip(counts).take(last + 1) {
        let label = if edge.is_finite() { format!("< {edge:>4.1} ms") } else { ">= 20  ms".into() };
        let bar = "█".repeat((count * BAR_CHARS).div_ceil(most));
        line(out, format_args!("  {label}  {bar} {count}"));
    }
    let at = |share| percentile(&sorted, share).unwrap_or(max);
    line(out, format_args!("  p50 {:.2} ms, p90 {:.2} ms, max {max:.2} ms\n", at(0.5), at(0.9)));
}

fn bins(sorted_ms: &[f64]) -> [usize; EDGES_MS.len()] {
    let mut counts = [0; EDGES_MS.len()];
    for value in sorted_ms {
        let bin = EDGES_MS.partition_point(|edge| edge <= value);
        counts[bin.min(EDGES_MS.len() - 1)] += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_falls_into_one_bin() {
        let counts = bins(&[0.0, 0.49, 0.5, 9.99, 10.0, 1e9]);
        assert_eq!(counts[0], 2);
        assert_eq!(counts[1], 1);
        assert_eq!(counts[8], 1);
        assert_eq!(counts[9], 1);
        assert_eq!(counts[10], 1);
    }
}

//! What others measured, for comparison with our own figures: driver VMs with a warm spare on Xen, by Le,
//! Gallagher, Tamir and Turner (NCA 2009), whose Table III the report's first table follows.

use serde::Serialize;

use super::format::percent;

/// [`PaperRow::source`] of our own figures.
pub(super) const MEASURED: &str = "measured";
/// [`PaperRow::source`] of the paper's figures.
const PAPER: &str = "paper";

/// A row in the form of the paper's tables. Shares are of injected faults, between 0 and 1.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct PaperRow {
    /// Whose figures: `measured` or `paper`.
    pub(super) source: &'static str,
    /// The configuration.
    pub(super) configuration: String,
    /// The kind of fault.
    pub(super) kind: String,
    /// Injected, that is activated, faults.
    pub(super) injected: u64,
    /// Detected at once: a crash, an illegal act.
    pub(super) crash: f64,
    /// Detected by sampling: hang, stall, silence, link.
    pub(super) hang: f64,
    /// Undetected failures of the service.
    pub(super) silent: f64,
    /// Faults without any effect.
    pub(super) not_manifested: f64,
    /// A sound domain was found to have failed; the paper has no such column.
    pub(super) false_failover: f64,
    /// Share of the detected failures after which the service came back; `None` where no recovery
    /// was tried.
    pub(super) restored: Option<f64>,
    /// Lower end of its 95 % interval; the paper gives none.
    pub(super) restored_low: Option<f64>,
    /// Share of the interruptions that were under 10 ms.
    pub(super) under_10_ms: Option<f64>,
    /// Mean interruption, microseconds.
    pub(super) mean_us: Option<f64>,
}

impl PaperRow {
    /// Returns true if the figures are the paper's.
    pub(super) fn is_published(&self) -> bool {
        self.source == PAPER
    }

    /// A share of this row in percent: the paper itself prints one decimal.
    pub(super) fn percent(&self, share: f64) -> String {
        match self.is_published() {
            true => format!("{:.1} %", share * 100.0),
            false => percent(share),
        }
    }
}

/// The share of interruptions under 10 ms that the paper's fast spare reached.
pub(super) const FAST_SPARE_UNDER_10_MS: f64 = 0.91;

/// The paper's rows for the driver in a virtual machine of its own: with no recovery, and with each
/// way of it.
pub(super) fn rows() -> Vec<PaperRow> {
    // Percentages in the order of the paper's columns.
    let row = |configuration: &str, kind: &str, injected, percentages: [f64; 4]| {
        let [crash, hang, silent, not_manifested] = percentages.map(|percent| percent / 100.0);
        PaperRow {
            source: PAPER,
            configuration: configuration.into(),
            kind: kind.into(),
            injected,
            crash,
            hang,
            silent,
            not_manifested,
            false_failover: 0.0,
            restored: None,
            restored_low: None,
            under_10_ms: None,
            mean_us: None,
        }
    };
    let recovered = |row: PaperRow, share, mean_s: Option<f64>| PaperRow {
        restored: Some(share),
        mean_us: mean_s.map(|s| s * 1e6),
        ..row
    };
    let fast =
        |row| PaperRow { under_10_ms: Some(FAST_SPARE_UNDER_10_MS), ..recovered(row, 0.999, None) };
    vec![
        fast(row("fast-spare", "code", 2856, [55.2, 3.1, 2.6, 39.1])),
        fast(row("fast-spare", "register", 1300, [28.6, 3.0, 0.5, 67.8])),
        recovered(row("spare", "code", 584, [53.4, 3.4, 2.9, 40.3]), 1.0, Some(4.52)),
        recovered(row("reboot", "code", 568, [54.0, 3.2, 2.8, 40.0]), 1.0, Some(7.47)),
        // The last share is the rest to 100 %: the paper prints only the failures.
        row("none", "both", 2809, [55.5, 3.0, 4.9, 36.6]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_is_a_whole() {
        for row in rows() {
            let sum = row.crash + row.hang + row.silent + row.not_manifested;
            assert!((sum - 1.0).abs() < 0.0015, "{}: {sum}", row.configuration);
        }
    }
}

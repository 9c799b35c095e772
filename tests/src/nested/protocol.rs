//! The messages between the nested machine and its host: one JSON object per line.

use serde::{Deserialize, Serialize};

/// Name of the virtio-serial port, as it appears in the machine's Linux.
pub const PORT_NAME: &str = "warmspare.results";

/// Folder of the test programs inside the machine, if they were asked for.
pub const TESTS_FOLDER: &str = "/target/release";

/// Processors of the machine that its programs may use; the first is left to the kernel.
///
/// QEMU's `cpu_clear_ignne`, which every instruction that clears floating-point exceptions calls,
/// rewrites a word of the *first* processor's state, on whichever processor it runs and without a
/// lock (10.0.2 and later). The same word holds the bit that says whether a guest's VMCB masks
/// interrupts. A first processor that runs guests loses this bit now and then and takes interrupts
/// where they are disabled; the kernel then deadlocks or triple-faults, in every second minute. On
/// a processor that runs no guests, nothing in that word changes.
pub const PROCESSORS: std::ops::Range<usize> = 1..3;

/// A message from the machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FromGuest {
    /// The machine is up.
    Hello {
        /// Release of its kernel.
        kernel: String,
        /// The steps that it will run, in order.
        steps: Vec<String>,
    },
    /// A step has ended.
    Step {
        /// Its name.
        name: String,
        /// True if it passed.
        ok: bool,
        /// How long it took, in milliseconds of the machine's own clock.
        ms: f64,
        /// What was measured, or why it failed.
        detail: serde_json::Value,
    },
    /// One failover.
    Failover(Row),
    /// The host is to pull or plug in the cable of a NIC; the machine waits for [`ToGuest`].
    SetLink {
        /// `nic0`, `nic1` or `sender`.
        nic: String,
        /// True to plug it in, false to pull it.
        up: bool,
    },
    /// All steps have ended; the last message.
    Verdict {
        /// Steps that passed.
        passed: usize,
        /// Names of the steps that failed.
        failed: Vec<String>,
    },
}

/// A reply to the machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ToGuest {
    /// The request was carried out.
    Done,
    /// The request could not be carried out.
    Refused {
        /// The reason.
        why: String,
    },
}

/// One failover. Times are those of the machine's own clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Policy of the topology.
    pub policy: String,
    /// What was injected.
    pub injected: String,
    /// Where it was injected.
    pub site: String,
    /// The detector's verdict.
    pub cause: String,
    /// Number of the failed domain.
    pub from: u8,
    /// Number of the domain that took over; `None` if the same one was restarted.
    pub to: Option<u8>,
    /// From the fault to the verdict, microseconds.
    pub detect_us: f64,
    /// From the verdict to the first echo after the interruption, microseconds.
    pub switch_us: f64,
    /// The longest time between two echoes around the fault, microseconds.
    pub interruption_us: f64,
    /// The longest time between two echoes in an equally long period right before the fault,
    /// microseconds.
    pub healthy_us: f64,
    /// How long a processor of the machine stood still during the interruption, microseconds.
    pub stalled_us: f64,
    /// Datagrams around the fault that were never echoed.
    pub lost: u64,
    /// Frames that were sent again.
    pub resent: u64,
    /// Received frames that were salvaged from the failed NIC.
    pub salvaged: u64,
    /// From the verdict until a spare stood by again, milliseconds.
    pub redundant_again_ms: f64,
}

/// Medians over failovers of one policy and cause.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Policy of the topology.
    pub policy: String,
    /// What was injected.
    pub injected: String,
    /// Number of failovers.
    pub count: usize,
    /// Median of [`Row::detect_us`].
    pub detect_us: f64,
    /// Median of [`Row::switch_us`].
    pub switch_us: f64,
    /// Median of [`Row::interruption_us`].
    pub interruption_us: f64,
    /// Median of [`Row::healthy_us`].
    pub healthy_us: f64,
    /// Median of the interruptions, each less the time for which the machine stood still in it.
    pub less_stalls_us: f64,
    /// The longest interruption.
    pub worst_us: f64,
    /// Median of [`Row::redundant_again_ms`].
    pub redundant_again_ms: f64,
}

impl Summary {
    /// Returns one summary for each cause, in the order in which the causes first appear.
    pub fn by_cause(rows: &[Row]) -> Vec<Self> {
        let mut summaries: Vec<Self> = Vec::new();
        for row in rows {
            if summaries.iter().all(|known| known.injected != row.injected) {
                let same: Vec<_> = rows.iter().filter(|r| r.injected == row.injected).collect();
                summaries.push(Self::of(&same));
            }
        }
        summaries
    }

    fn of(rows: &[&Row]) -> Self {
        let median = |of: fn(&Row) -> f64| {
            let mut values: Vec<_> = rows.iter().map(|row| of(row)).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        Self {
            policy: rows[0].policy.clone(),
            injected: rows[0].injected.clone(),
            count: rows.len(),
            detect_us: median(|row| row.detect_us),
            switch_us: median(|row| row.switch_us),
            interruption_us: median(|row| row.interruption_us),
            healthy_us: median(|row| row.healthy_us),
            less_stalls_us: median(|row| (row.interruption_us - row.stalled_us).max(0.0)),
            worst_us: rows.iter().map(|row| row.interruption_us).fold(0.0, f64::max),
            redundant_again_ms: median(|row| row.redundant_again_ms),
        }
    }

    /// Column headings for [`Self::line`].
    pub fn head() -> String {
        format!(
            "{:<10} {:<10} {:>5} {:>10} {:>10} {:>13} {:>10} {:>12} {:>10} {:>12}",
            "policy",
            "injected",
            "count",
            "detect",
            "switch",
            "interruption",
            "healthy",
            "less stalls",
            "worst",
            "spare again"
        )
    }

    /// A line of a human-readable table, in milliseconds.
    pub fn line(&self) -> String {
        let ms = |us: f64| format!("{:.1} ms", us / 1000.0);
        format!(
            "{:<10} {:<10} {:>5} {:>10} {:>10} {:>13} {:>10} {:>12} {:>10} {:>12}",
            self.policy,
            self.injected,
            self.count,
            ms(self.detect_us),
            ms(self.switch_us),
            ms(self.interruption_us),
            ms(self.healthy_us),
            ms(self.less_stalls_us),
            ms(self.worst_us),
            ms(1000.0 * self.redundant_again_ms),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(injected: &str, interruption_us: f64, stalled_us: f64) -> Row {
        Row {
            policy: "spare".into(),
            injected: injected.into(),
            site: "rx".into(),
            cause: "crash".into(),
            from: 0,
            to: Some(1),
            detect_us: 1.0,
            switch_us: 2.0,
            interruption_us,
            healthy_us: 4.0,
            stalled_us,
            lost: 0,
            resent: 0,
            salvaged: 0,
            redundant_again_ms: 3.0,
        }
    }

    #[test]
    fn medians_are_of_each_cause_by_itself() {
        let rows = [
            row("hang", 9.0, 0.0),
            row("crash", 5.0, 4.0),
            row("hang", 1.0, 2.0),
            row("hang", 3.0, 0.0),
        ];
        let summaries = Summary::by_cause(&rows);
        assert_eq!(summaries.len(), 2);
        assert_eq!((summaries[0].injected.as_str(), summaries[0].count), ("hang", 3));
        assert_eq!((summaries[0].interruption_us, summaries[0].worst_us), (3.0, 9.0));
        assert_eq!((summaries[0].less_stalls_us, summaries[1].less_stalls_us), (3.0, 1.0));
        assert_eq!(Summary::head().len(), summaries[0].line().len());
    }

    #[test]
    fn a_failover_is_one_line_of_its_kind() {
        let line = serde_json::to_string(&FromGuest::Failover(row("crash", 5.0, 4.0))).unwrap();
        assert!(line.starts_with(r#"{"kind":"failover","policy":"spare""#), "{line}");
        let back: FromGuest = serde_json::from_str(&line).unwrap();
        assert_eq!(back, FromGuest::Failover(row("crash", 5.0, 4.0)));
    }
}

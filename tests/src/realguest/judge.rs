//! Judges the interruptions that the steps have measured.

use anyhow::{Context, Result, ensure};
use lab::fault::Cause;
use lab::traffic::{Ledger, percentile};
use serde_json::{Map, Value, json};

use super::steps::{Bench, Failure, spread};
use crate::gates::{self, Interruption, LINUX_GUEST, Relative};

/// The longest interruption that warmspare promises, milliseconds.
const PROMISED_MS: f64 = 10.0;

impl Bench<'_> {
    /// Judges each cause by its gate. Returns what was measured, and a message for each limit that
    /// was exceeded.
    pub(super) fn judge_causes(
        &self,
        failures: &[Failure],
        ledger: &Ledger,
    ) -> Result<(Value, Vec<String>)> {
        let (mut figures, mut over) = (Map::new(), Vec::new());
        for (cause, gate) in LINUX_GUEST {
            let of: Vec<_> = failures.iter().filter(|failure| failure.cause == cause).collect();
            if !of.is_empty() {
                let (row, why) = self.judge_kind(cause.name(), &of, ledger, gate)?;
                figures.insert(cause.name().into(), row);
                over.extend(why);
            }
        }
        Ok((figures.into(), over))
    }

    /// Judges failures of one kind by their gate. Returns what was measured, and a message if the
    /// limit was exceeded.
    pub(super) fn judge_kind(
        &self,
        what: &str,
        failures: &[&Failure],
        ledger: &Ledger,
        gate: Relative,
    ) -> Result<(Value, Option<String>)> {
        let interruptions = self.interruptions(failures, ledger)?;
        let mut healthy_ms: Vec<_> = failures.iter().map(|f| f.healthy_ms(ledger)).collect();
        healthy_ms.sort_by(f64::total_cmp);
        let healthy_median_ms = percentile(&healthy_ms, 0.5).unwrap_or(0.0);
        let limit_ms = gate.limit_ms(healthy_median_ms);
        let judged = gates::judge(what, &interruptions, limit_ms);
        let long: Vec<_> = interruptions.iter().filter(|one| one.ms > PROMISED_MS).collect();
        let stalled = long.iter().filter(|one| one.machine_stalled).count();
        let figures = json!({
            "events": failures.len(),
            "interruption_ms": spread(interruptions.iter().map(|one| one.ms).collect()),
            "verdict_to_first_frame_ms": spread(failures.iter().filter_map(|f| f.switch_ms()).collect()),
            "healthy_median_ms": healthy_median_ms,
            "stall_free_median_ms": gates::stall_free_median_ms(&interruptions),
            "limit_ms": limit_ms,
            "over_10_ms": long.len(),
            "of_these_machine_stalled": stalled,
        });
        Ok((figures, judged.err().map(|why| why.to_string())))
    }

    /// The interruption that each failure caused, in order.
    fn interruptions(&self, failures: &[&Failure], ledger: &Ledger) -> Result<Vec<Interruption>> {
        let stalls = self.witness.stalls();
        let of = |failure: &&Failure| {
            let (from_ns, to_ns) = failure.silence(ledger).context("no echo around a failure")?;
            let machine_stalled = stalls.iter().any(|stall| stall.overlaps(from_ns, to_ns));
            Ok(Interruption { ms: (to_ns - from_ns) as f64 / 1e6, machine_stalled })
        };
        failures.iter().map(of).collect()
    }
}

/// Returns the figures of a step, which passes if no limit was exceeded.
pub(super) fn verdict(figures: Value, over: &[String]) -> Result<Value> {
    ensure!(over.is_empty(), "{}; {figures}", over.join("; "));
    Ok(figures)
}

/// The causes of failures, to be injected in turn.
pub(super) fn causes() -> [Cause; LINUX_GUEST.len()] {
    LINUX_GUEST.map(|(cause, _)| cause)
}

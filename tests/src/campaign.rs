//! The smoke campaign: a hundred faults of all kinds. No fault may harm the application, leave it
//! without its network or the network without a spare, or do harm undetected, and none may be
//! detected where there is none.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use lab::campaign::{FaultKind, InjectionOutcome, InjectionRecord, read_records};
use serde_json::Value;

use crate::program;
use crate::workspace;

/// Outcomes that are failures even if the machine stalled.
const HARM: [InjectionOutcome; 2] = [InjectionOutcome::Corrupted, InjectionOutcome::Unrecovered];
/// How often an injection during which the machine itself stood still is repeated: if a detector or
/// a sender was stopped for longer than the thresholds, the injection says nothing about the fault.
const REPEATS: usize = 3;
const KINDS: [FaultKind; 5] =
    [FaultKind::Code, FaultKind::Register, FaultKind::Data, FaultKind::Device, FaultKind::Mutation];

/// Runs the campaign in `target/campaign-smoke`, and judges it.
///
/// # Errors
/// The campaign fails to complete, or a fault had an outcome that must not occur.
pub fn run() -> Result<()> {
    let out = workspace().join("target/campaign-smoke");
    let _ = std::fs::remove_dir_all(&out);
    let file = workspace().join("examples/campaign-smoke.json");
    let mut command = Command::new(program());
    let status = command.arg("campaign").arg(file).arg("--out").arg(&out).status();
    let status = status.context("warmspare cannot be started")?;
    if !status.success() {
        bail!("the campaign ended with {status}");
    }
    let records = read_records(&out)?.records;
    judge_reach(&records)?;
    let bad = records.into_iter().filter(InjectionRecord::is_bad);
    let bad = bad.map(|record| stall_free(record, |id| replay(&out, id)));
    let bad = bad.collect::<Result<Vec<_>>>()?;
    let bad: Vec<_> = bad.iter().filter(|record| record.is_bad()).map(told).collect();
    ensure!(bad.is_empty(), "{}", bad.join("; "));
    Ok(())
}

/// Checks that faults took effect; otherwise a campaign without findings proves nothing.
fn judge_reach(records: &[InjectionRecord]) -> Result<()> {
    for kind in KINDS {
        if !records.iter().any(|record| record.kind == kind && record.activated) {
            bail!("no fault of kind {kind:?} was activated");
        }
    }
    if !records.iter().any(|record| record.outcome.is_recovered()) {
        bail!("nothing was detected: no fault took effect");
    }
    Ok(())
}

/// Returns the injection as recorded, or its repetition if the machine stood still in it.
fn stall_free(
    mut record: InjectionRecord,
    mut repeat: impl FnMut(u64) -> Result<InjectionRecord>,
) -> Result<InjectionRecord> {
    for _ in 0..REPEATS {
        let excused = record.machine_stall_ms > 0.0 && !HARM.contains(&record.outcome);
        if !record.is_bad() || !excused {
            break;
        }
        println!("campaign: the machine itself stood still: once more: {}", told(&record));
        record = repeat(record.id)?;
    }
    Ok(record)
}

/// Repeats an injection.
fn replay(out: &Path, id: u64) -> Result<InjectionRecord> {
    let mut command = Command::new(program());
    command.args(["campaign", "replay"]).arg(out).arg(id.to_string()).args(["--format", "json"]);
    let output = command.output().context("warmspare cannot be started")?;
    ensure!(output.status.success(), "injection {id} cannot be repeated: {}", output.status);
    let replayed: Value = serde_json::from_slice(&output.stdout).context("what was repeated")?;
    Ok(serde_json::from_value(replayed["again"].clone())?)
}

/// Describes an injection in one line.
fn told(record: &InjectionRecord) -> String {
    let note = record.note.as_deref().unwrap_or_default();
    format!(
        "injection {} came out as {} ({note}; the machine stood still for up to {:.1} ms): warmspare \
         campaign replay target/campaign-smoke {}",
        record.id,
        record.outcome.name(),
        record.machine_stall_ms,
        record.id
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(outcome: &str, machine_stall_ms: f64) -> InjectionRecord {
        let frames = serde_json::json!({
            "sent": 9, "received": 9, "lost": 0, "duplicated": 0, "corrupted": 0
        });
        serde_json::from_value(serde_json::json!({
            "schema": "warmspare.injection/1", "id": 67, "configuration": "fast-spare", "seed": 1,
            "kind": "code", "fault": { "segment": "text", "activation": 1 }, "moment_us": 1,
            "armed_ms": 1.0, "activated": false, "activated_after_us": null, "verdict": null,
            "outcome": outcome, "interruption_us": null, "frames": frames, "recovery": [],
            "machine_stall_ms": machine_stall_ms,
        }))
        .unwrap()
    }

    /// Judges an injection whose repetitions all come out as `again`: returns true if it is bad,
    /// and the number of repetitions.
    fn ends(first: InjectionRecord, again: &InjectionRecord) -> (bool, usize) {
        let mut repeats = 0;
        let last = stall_free(first, |_| {
            repeats += 1;
            Ok(again.clone())
        });
        (last.unwrap().is_bad(), repeats)
    }

    #[test]
    fn what_went_wrong_while_the_machine_stood_still_must_go_right_once() {
        let good = record("masked", 0.0);
        for outcome in ["false-failover", "degraded", "silent-failure"] {
            assert_eq!(ends(record(outcome, 51.6), &good), (false, 1));
            assert_eq!(ends(record(outcome, 51.6), &record(outcome, 51.6)), (true, REPEATS));
            assert_eq!(ends(record(outcome, 51.6), &record(outcome, 0.0)), (true, 1));
        }
    }

    #[test]
    fn what_goes_wrong_on_a_machine_that_ran_is_not_repeated() {
        let good = record("masked", 0.0);
        for outcome in ["false-failover", "degraded", "silent-failure"] {
            assert_eq!(ends(record(outcome, 0.0), &good), (true, 0));
        }
        for harm in ["corrupted", "unrecovered"] {
            assert_eq!(ends(record(harm, 51.6), &good), (true, 0));
        }
    }
}

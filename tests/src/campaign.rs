//! The smoke campaign: a hundred faults of all kinds, none of which may harm the application or
//! leave it without its network.

use std::process::Command;

use anyhow::{Context, Result, bail};
use lab::campaign::{FaultKind, InjectionOutcome, InjectionRecord, read_records};

use crate::program;
use crate::runner::workspace;

/// What must not happen.
const FORBIDDEN: [InjectionOutcome; 2] =
    [InjectionOutcome::Corrupted, InjectionOutcome::Unrecovered];
const KINDS: [FaultKind; 5] =
    [FaultKind::Code, FaultKind::Register, FaultKind::Data, FaultKind::Device, FaultKind::Mutation];

/// Runs it in `target/campaign-smoke`, and judges it.
///
/// # Errors
/// It does not come to its end, or something happened that must not.
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
    judge(&read_records(&out)?.records)
}

fn judge(records: &[InjectionRecord]) -> Result<()> {
    for kind in KINDS {
        if !records.iter().any(|record| record.kind == kind && record.activated) {
            bail!("no fault of kind {kind:?} was activated");
        }
    }
    if !records.iter().any(|record| record.outcome.is_recovered()) {
        bail!("nothing was detected: no fault took effect");
    }
    let forbidden = records.iter().find(|record| FORBIDDEN.contains(&record.outcome));
    if let Some(record) = forbidden {
        let note = record.note.as_deref().unwrap_or_default();
        bail!(
            "injection {} came out as {} ({note}): warmspare campaign replay target/campaign-smoke {}",
            record.id,
            record.outcome.name(),
            record.id
        );
    }
    Ok(())
}

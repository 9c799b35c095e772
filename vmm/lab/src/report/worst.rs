//! The injections that need a closer look first, each with the command that repeats it.

use std::path::Path;

use serde::Serialize;

use super::classify::severity;
use super::format::name;
use crate::injection::{FaultKind, InjectionOutcome, InjectionRecord};

/// How many injections a report lists.
const WORST: usize = 20;

/// One of the worst injections.
#[derive(Clone, Debug, Serialize)]
pub(super) struct WorstRow {
    /// The label of its group.
    pub(super) group: String,
    /// Its number in its campaign.
    pub(super) id: u64,
    /// What became of it.
    pub(super) outcome: InjectionOutcome,
    /// The kind of fault.
    pub(super) kind: FaultKind,
    /// Where the fault was: symbol, or segment.
    pub(super) place: String,
    /// Source line, if known.
    pub(super) source: Option<String>,
    /// What was changed there: bit, register, mutation.
    pub(super) change: String,
    /// The detector, if one found it.
    pub(super) detector: Option<String>,
    /// From activation to verdict, microseconds.
    pub(super) detect_us: Option<f64>,
    /// How long the service was interrupted, microseconds; `None`: it did not come back.
    pub(super) interruption_us: Option<f64>,
    /// The longest time in which the machine itself stood still meanwhile, milliseconds.
    pub(super) machine_stall_ms: f64,
    /// Why it was judged so.
    pub(super) note: Option<String>,
    /// The command that repeats it.
    pub(super) replay: String,
}

/// An injection that may be among the worst.
#[derive(Clone, Copy)]
pub(super) struct Candidate<'a> {
    /// The label of its group.
    pub(super) group: &'a str,
    /// The folder of its campaign.
    pub(super) folder: &'a Path,
    pub(super) record: &'a InjectionRecord,
}

/// The worst of all: by severity first, then by interruption. Ordinary outcomes are listed only if
/// they interrupted the service.
pub(super) fn worst<'a>(candidates: impl Iterator<Item = Candidate<'a>>) -> Vec<WorstRow> {
    let length = |one: &Candidate<'_>| one.record.interruption_us.unwrap_or(f64::INFINITY);
    let mut all: Vec<_> =
        candidates.filter(|one| one.record.is_bad() || one.record.is_restored()).collect();
    all.sort_by(|a, b| {
        let by_severity = severity(b.record).cmp(&severity(a.record));
        by_severity.then(length(b).total_cmp(&length(a))).then(a.record.id.cmp(&b.record.id))
    });
    all.truncate(WORST);
    all.into_iter().map(row).collect()
}

fn row(Candidate { group, folder, record }: Candidate<'_>) -> WorstRow {
    let fault = &record.fault;
    let place = fault.symbol.clone().or_else(|| fault.function.clone());
    let place = place.unwrap_or_else(|| match fault.address {
        Some(address) => format!("{} {address:#x}", name(&fault.segment)),
        None => name(&fault.segment),
    });
    WorstRow {
        group: group.into(),
        id: record.id,
        outcome: record.outcome,
        kind: record.kind,
        place,
        source: fault.source.clone(),
        change: change(record),
        detector: record.verdict.as_ref().map(|verdict| verdict.cause.clone()),
        detect_us: record.verdict.as_ref().map(|verdict| verdict.detect_us),
        interruption_us: record.interruption_us,
        machine_stall_ms: record.machine_stall_ms,
        note: record.note.clone(),
        replay: format!("warmspare campaign replay {} {}", quoted(folder), record.id),
    }
}

fn change(record: &InjectionRecord) -> String {
    let fault = &record.fault;
    let parts = [
        fault.mutation.clone(),
        fault.register.clone(),
        fault.byte.map(|byte| format!("byte {byte}")),
        fault.bit.map(|bit| format!("bit {bit}")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// A path, quoted for a shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:,@%=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_pass_a_shell_unharmed() {
        assert_eq!(quoted(Path::new("/tmp/c1")), "/tmp/c1");
        assert_eq!(quoted(Path::new("a b")), "'a b'");
        assert_eq!(quoted(Path::new("it's")), r"'it'\''s'");
        assert_eq!(quoted(Path::new("$(x)")), "'$(x)'");
    }
}

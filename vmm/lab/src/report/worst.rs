//! The injections to look into first, each with the command that repeats it.

use std::path::Path;

use serde::Serialize;

use super::group::word;
use super::judge;
use crate::injection::{FaultKind, InjectionOutcome, InjectionRecord};

/// How many a report shows.
pub const WORST: usize = 20;

/// One of them.
#[derive(Clone, Debug, Serialize)]
pub struct WorstRow {
    /// The label of its group.
    pub group: String,
    /// Its number in its campaign.
    pub id: u64,
    /// What became of it.
    pub outcome: InjectionOutcome,
    /// The kind of fault.
    pub kind: FaultKind,
    /// Where it struck: symbol, or segment.
    pub place: String,
    /// Source line, if known.
    pub source: Option<String>,
    /// What was changed there: bit, register, mutation.
    pub change: String,
    /// The detector, if one found it.
    pub detector: Option<String>,
    /// From activation to verdict, microseconds.
    pub detect_us: Option<f64>,
    /// How long the service was interrupted, microseconds; `None`: it did not come back.
    pub interruption_us: Option<f64>,
    /// How long the machine itself stood still at the most meanwhile, milliseconds.
    pub machine_stall_ms: f64,
    /// Why it was judged so.
    pub note: Option<String>,
    /// The command that repeats it.
    pub replay: String,
}

/// The worst of all: by severity first, then by interruption. Ordinary outcomes count only as long
/// as they interrupted the service.
pub fn worst<'a>(
    records: impl Iterator<Item = (&'a str, &'a Path, &'a InjectionRecord)>,
) -> Vec<WorstRow> {
    let length = |record: &InjectionRecord| record.interruption_us.unwrap_or(f64::INFINITY);
    let mut all: Vec<_> = records.filter(|(_, _, r)| r.is_bad() || r.is_restored()).collect();
    all.sort_by(|(_, _, a), (_, _, b)| {
        let by_severity = judge::severity(b).cmp(&judge::severity(a));
        by_severity.then(length(b).total_cmp(&length(a))).then(a.id.cmp(&b.id))
    });
    all.truncate(WORST);
    all.into_iter().map(|(group, folder, record)| row(group, folder, record)).collect()
}

fn row(group: &str, folder: &Path, record: &InjectionRecord) -> WorstRow {
    let fault = &record.fault;
    let place = fault.symbol.clone().or_else(|| fault.function.clone());
    let place = place.unwrap_or_else(|| match fault.address {
        Some(address) => format!("{} {address:#x}", word(&fault.segment)),
        None => word(&fault.segment),
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

/// A path as a shell takes it.
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

//! Classifies outcomes: how bad they are, and which column of the paper they belong to.

use crate::injection::{InjectionOutcome as Outcome, InjectionRecord};

/// How much an outcome needs a closer look; 0 is an ordinary outcome.
pub(super) fn severity(record: &InjectionRecord) -> u8 {
    if !record.is_bad() {
        return 0;
    }
    match record.outcome {
        Outcome::Corrupted => 5,
        Outcome::SilentFailure => 4,
        Outcome::Unrecovered => 3,
        Outcome::FalseFailover => 2,
        _ => 1,
    }
}

/// The columns of the paper's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PaperClass {
    /// The driver stopped by itself, or did what it may not.
    Crash,
    /// A detector had to sample for it.
    Hang,
    /// Only the application noticed.
    Silent,
    /// The fault had no effect.
    NotManifested,
    /// A false failover; the paper has no such column.
    FalseFailover,
}

/// The paper's column for an injected fault; `None` for one that was not injected. The column follows
/// from the detector that found the failure, whether it was recovered from or not.
pub(super) fn paper_class(record: &InjectionRecord) -> Option<PaperClass> {
    if !record.is_injected() {
        return None;
    }
    if record.is_silent() {
        return Some(PaperClass::Silent);
    }
    if record.is_detected() {
        let by = record.verdict.as_ref().map_or(record.outcome.name(), |v| v.cause.as_str());
        let at_once = matches!(by, "crash" | "protocol");
        return Some(if at_once { PaperClass::Crash } else { PaperClass::Hang });
    }
    Some(match record.outcome {
        Outcome::FalseFailover => PaperClass::FalseFailover,
        _ => PaperClass::NotManifested,
    })
}

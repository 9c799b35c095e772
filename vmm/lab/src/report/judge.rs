//! How bad an outcome is, and what the paper would call it.

use serde::{Deserialize, Serialize};

use crate::injection::{InjectionOutcome as Outcome, InjectionRecord};

/// How much it asks to be looked into; 0 is an ordinary outcome.
pub fn severity(record: &InjectionRecord) -> u8 {
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PaperClass {
    /// The driver stopped by itself, or did what it may not.
    Crash,
    /// It had to be looked for.
    Hang,
    /// Nobody noticed but the application.
    Silent,
    /// Nothing happened.
    NotManifested,
    /// The paper has none.
    FalseFailover,
}

/// The paper's column for an injected fault; `None` for one that was not injected. Recovered or not,
/// what counts is by what the failure was detected.
pub fn paper_class(record: &InjectionRecord) -> Option<PaperClass> {
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

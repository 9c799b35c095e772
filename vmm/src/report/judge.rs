//! What an outcome counts as. Both denominators of a report rest on these few lines.
//!
//! *Injected* are faults that were activated, as the paper counts them. *Detected* are those of them
//! that a detector found. Whatever harmed the service counts as injected, even where nothing was
//! seen to activate the fault: an outcome must not get lost between two denominators.

use serde::{Deserialize, Serialize};

use crate::campaign::{Configuration, InjectionOutcome as Outcome, InjectionRecord};

/// Whether it counts as injected.
pub fn is_injected(record: &InjectionRecord) -> bool {
    match record.outcome {
        Outcome::NotActivated => false,
        // Without a fault, a false alarm says nothing about faults.
        Outcome::FalseFailover => record.activated,
        Outcome::Masked
        | Outcome::Crash
        | Outcome::Hang
        | Outcome::Stall
        | Outcome::Silence
        | Outcome::Protocol
        | Outcome::Link
        | Outcome::Degraded
        | Outcome::Unrecovered
        | Outcome::SilentFailure
        | Outcome::Corrupted => true,
    }
}

/// Whether a failure was detected.
pub fn is_detected(record: &InjectionRecord) -> bool {
    let found = record.verdict.is_some() || record.outcome != Outcome::Corrupted;
    can_be_detected(record.outcome) && found
}

/// Whether the class is one of detected failures, or, as harm to the guest, may be.
pub fn can_be_detected(outcome: Outcome) -> bool {
    match outcome {
        Outcome::Crash
        | Outcome::Hang
        | Outcome::Stall
        | Outcome::Silence
        | Outcome::Protocol
        | Outcome::Link
        | Outcome::Degraded
        | Outcome::Unrecovered
        | Outcome::Corrupted => true,
        Outcome::NotActivated
        | Outcome::Masked
        | Outcome::SilentFailure
        | Outcome::FalseFailover => false,
    }
}

/// Whether a failure was detected and the service came back, with a spare or without.
pub fn is_restored(record: &InjectionRecord) -> bool {
    record.outcome.is_recovered() || record.outcome == Outcome::Degraded
}

/// Whether the service or its guest was harmed and nothing was detected.
pub fn is_silent(record: &InjectionRecord) -> bool {
    match record.outcome {
        Outcome::SilentFailure => true,
        Outcome::Corrupted => record.verdict.is_none(),
        Outcome::NotActivated
        | Outcome::Masked
        | Outcome::Crash
        | Outcome::Hang
        | Outcome::Stall
        | Outcome::Silence
        | Outcome::Protocol
        | Outcome::Link
        | Outcome::Degraded
        | Outcome::Unrecovered
        | Outcome::FalseFailover => false,
    }
}

/// How much it asks to be looked into; 0 is an ordinary recovery.
pub fn severity(record: &InjectionRecord) -> u8 {
    match record.outcome {
        Outcome::Corrupted => 5,
        Outcome::SilentFailure => 4,
        // Where nothing recovers, that is no news.
        Outcome::Unrecovered if record.configuration == Configuration::None => 0,
        Outcome::Unrecovered => 3,
        Outcome::FalseFailover => 2,
        Outcome::Degraded => 1,
        Outcome::NotActivated
        | Outcome::Masked
        | Outcome::Crash
        | Outcome::Hang
        | Outcome::Stall
        | Outcome::Silence
        | Outcome::Protocol
        | Outcome::Link => 0,
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
    if !is_injected(record) {
        return None;
    }
    if is_silent(record) {
        return Some(PaperClass::Silent);
    }
    if is_detected(record) {
        let by = record.verdict.as_ref().map_or(record.outcome.name(), |v| v.cause.as_str());
        let at_once = matches!(by, "crash" | "protocol");
        return Some(if at_once { PaperClass::Crash } else { PaperClass::Hang });
    }
    Some(match record.outcome {
        Outcome::FalseFailover => PaperClass::FalseFailover,
        _ => PaperClass::NotManifested,
    })
}

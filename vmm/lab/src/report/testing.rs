//! Records made up for tests. Nothing of this was measured.

use crate::injection::{
    Configuration, FaultKind, FaultRecord, FaultSegment, FrameCounts, INJECTION_SCHEMA,
    InjectionOutcome, InjectionRecord, VerdictRecord,
};

/// An injection of code that was not activated: the others are changes of this one.
pub(super) fn record(id: u64) -> InjectionRecord {
    InjectionRecord {
        schema: INJECTION_SCHEMA.into(),
        id,
        configuration: Configuration::FastSpare,
        seed: id,
        kind: FaultKind::Code,
        fault: FaultRecord {
            address: Some(0x1000 + id),
            symbol: Some(format!("made_up+{id:#x}")),
            function: Some("made_up".into()),
            source: Some("made_up.rs:7".into()),
            instruction: None,
            segment: FaultSegment::Text,
            byte: Some(1),
            bit: Some(3),
            register: None,
            mutation: None,
            bytes: None,
            activation: 1,
        },
        moment_us: 500,
        armed_ms: 5.0,
        activated: false,
        activated_after_us: None,
        verdict: None,
        outcome: InjectionOutcome::NotActivated,
        interruption_us: None,
        frames: FrameCounts { sent: 10, received: 9, lost: 1, duplicated: 0, corrupted: 0 },
        recovery: Vec::new(),
        machine_stall_ms: 0.0,
        note: None,
    }
}

/// One that was activated, with what came of it.
pub(super) fn injected(id: u64, outcome: InjectionOutcome) -> InjectionRecord {
    InjectionRecord { activated: true, outcome, ..record(id) }
}

/// One that a detector found after a millisecond, and whose interruption ended.
pub(super) fn found(
    id: u64,
    outcome: InjectionOutcome,
    cause: &str,
    interruption_us: f64,
) -> InjectionRecord {
    let verdict = VerdictRecord {
        cause: cause.into(),
        text: "made up".into(),
        detect_us: 1000.0 * id as f64,
        switch_us: Some(100.0 * id as f64),
    };
    let (verdict, interruption_us) = (Some(verdict), Some(interruption_us));
    InjectionRecord { verdict, interruption_us, ..injected(id, outcome) }
}

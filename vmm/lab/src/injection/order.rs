//! The order for one trial: which fault, under which configuration, for how long.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::kinds::{Configuration, FaultKind};
use super::outcome::InjectionOutcome;
use super::record::{FaultRecord, FrameCounts, INJECTION_SCHEMA, InjectionRecord};

/// One injection that is to be carried out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TrialOrder {
    pub(crate) id: u64,
    pub(crate) seed: u64,
    pub(crate) configuration: Configuration,
    pub(crate) kind: FaultKind,
    pub(crate) fault: FaultRecord,
    /// How long after redundancy the fault is armed.
    pub(crate) moment_us: u64,
    /// Between two datagrams of the sender.
    pub(crate) period_us: u32,
    /// How long an activated fault is observed before it counts as masked.
    pub(crate) observe_ms: u32,
    /// How long execution may take to reach the fault.
    pub(crate) reach_ms: u32,
    /// Where failed domains leave their core files.
    pub(crate) dumps: Option<PathBuf>,
}

impl TrialOrder {
    /// The record of this injection, with this outcome and no observation.
    pub(crate) fn record(&self, outcome: InjectionOutcome) -> InjectionRecord {
        InjectionRecord {
            schema: INJECTION_SCHEMA.into(),
            id: self.id,
            configuration: self.configuration,
            seed: self.seed,
            kind: self.kind,
            fault: self.fault.clone(),
            moment_us: self.moment_us,
            armed_ms: 0.0,
            activated: false,
            activated_after_us: None,
            verdict: None,
            outcome,
            interruption_us: None,
            frames: FrameCounts::default(),
            recovery: Vec::new(),
            machine_stall_ms: 0.0,
            note: None,
        }
    }

    /// The record of an injection that the program itself did not survive: the fault did that, so
    /// it was activated, and no detector found it.
    pub(crate) fn lost(&self, why: String) -> InjectionRecord {
        InjectionRecord {
            activated: true,
            note: Some(why),
            ..self.record(InjectionOutcome::Unrecovered)
        }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::super::kinds::FaultSegment;
    use super::*;

    /// An order for a fault in the text, with nothing else said.
    pub(crate) fn order(configuration: Configuration) -> TrialOrder {
        TrialOrder {
            id: 1,
            seed: 1,
            configuration,
            kind: FaultKind::Code,
            fault: FaultRecord::blank(FaultSegment::Text),
            moment_us: 0,
            period_us: 1000,
            observe_ms: 200,
            reach_ms: 60,
            dumps: None,
        }
    }
}

//! What a worker process is asked for, and what it answers: one JSON line each.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::draw::Drawn;
use super::manifest::Profile;
use super::record::{
    FaultKind, FaultRecord, FrameCounts, INJECTION_SCHEMA, InjectionOutcome, InjectionRecord,
};
use super::spec::{CampaignSpec, Configuration};

/// A request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// Where the driver spends its time.
    Profile { period_us: u32 },
    /// One injection.
    Inject(Box<Order>),
}

/// The answer to it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    Profile(Profile),
    Injected(Box<InjectionRecord>),
    /// It could not be done: why, in one line.
    Failed(String),
}

/// One injection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) id: u64,
    pub(super) seed: u64,
    pub(super) configuration: Configuration,
    pub(super) kind: FaultKind,
    pub(super) fault: FaultRecord,
    pub(super) moment_us: u64,
    pub(super) period_us: u32,
    pub(super) observe_ms: u32,
    pub(super) reach_ms: u32,
    /// Where failed domains leave their remains.
    pub(super) dumps: Option<PathBuf>,
}

impl Order {
    /// The order of a drawn fault.
    pub(super) fn of(spec: &CampaignSpec, drawn: Drawn) -> Self {
        let Drawn { id, configuration, kind, fault, moment_us } = drawn;
        Self {
            id,
            seed: spec.seed,
            configuration,
            kind,
            fault,
            moment_us,
            period_us: spec.period_us,
            observe_ms: spec.observe_ms,
            reach_ms: spec.reach_ms,
            dumps: None,
        }
    }

    /// The order that led to a record.
    pub(super) fn again(spec: &CampaignSpec, record: &InjectionRecord) -> Self {
        let drawn = Drawn {
            id: record.id,
            configuration: record.configuration,
            kind: record.kind,
            fault: record.fault.clone(),
            moment_us: record.moment_us,
        };
        Self { seed: record.seed, ..Self::of(spec, drawn) }
    }
    /// Its record, with this outcome and nothing seen.
    pub(super) fn record(&self, outcome: InjectionOutcome) -> InjectionRecord {
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
    /// it was activated, and nothing found it.
    pub(super) fn lost(&self, why: String) -> InjectionRecord {
        InjectionRecord {
            activated: true,
            note: Some(why),
            ..self.record(InjectionOutcome::Unrecovered)
        }
    }
}

//! What a request can change.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::{ApiError, ErrorCode};
use crate::budget::PROBATION;
use crate::domain::{DomainId, DomainSlot};
use crate::supervisor::{DrillError, Operator, SwitchError, System, UpgradeError};

/// Most bytes of a driver that is read; ours have some tens of KiB, debug information some MiB.
const IMAGE_BYTES: u64 = 64 << 20;

/// What can be asked of a running system. Called on a thread that may wait, never on the data path.
pub trait Actions: Send + Sync {
    /// Hands the service in plan to `to`, or to the best standby.
    ///
    /// # Errors
    /// The ring is where it was, or a failover came in between.
    fn switch(&self, to: Option<&str>) -> Result<Switched, ApiError>;

    /// Lets a standby prove that it could take over: the one that is named, or the first in line.
    ///
    /// # Errors
    /// There was no drill.
    fn drill(&self, domain: Option<&str>) -> Result<Drilled, ApiError>;

    /// Replaces the driver of all domains by the image in this file.
    ///
    /// # Errors
    /// They run the old one.
    fn upgrade(&self, image: &Path, probation: Option<Duration>) -> Result<Upgraded, ApiError>;
}

/// What a switch did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Switched {
    /// The domain that served.
    pub from: String,
    /// The domain that serves now.
    pub to: String,
    /// How long the guest's frames waited.
    pub waited_us: f64,
}

/// What came of a drill.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Drilled {
    /// The standby.
    pub domain: String,
    /// Whether it has proved itself; if not, it is built anew, unless another is to blame.
    pub passed: bool,
    /// Whose fault it was: `spare`, `wire` or `active`.
    pub blame: Option<String>,
    /// How often it was tried.
    pub attempts: u32,
    /// From the release of the standby to the answer.
    pub round_trip_us: f64,
}

/// What an upgrade did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Upgraded {
    /// The domain that serves now.
    pub serves: String,
    /// The domain that served before.
    pub served: String,
    /// How long it took, probation included.
    pub took_seconds: f64,
}

/// A running system, asked by names.
pub struct SystemActions {
    operator: Operator,
    slots: Vec<Arc<DomainSlot>>,
}

impl SystemActions {
    /// Of this system.
    pub fn new(system: &System) -> Self {
        Self { operator: system.operator(), slots: system.slots().to_vec() }
    }

    fn name(&self, id: DomainId) -> String {
        self.slots[id.index()].name.clone()
    }

    fn id(&self, name: &str) -> Result<DomainId, ApiError> {
        let slot = self.slots.iter().find(|slot| slot.name == name);
        let missing =
            || ApiError::new(ErrorCode::UnknownDomain, format!("there is no domain `{name}`"));
        slot.map(|slot| slot.id).ok_or_else(missing)
    }
}

impl Actions for SystemActions {
    fn switch(&self, to: Option<&str>) -> Result<Switched, ApiError> {
        let to = to.map(|name| self.id(name)).transpose()?;
        let report = self.operator.switch_to(to)?;
        Ok(Switched {
            from: self.name(report.from),
            to: self.name(report.to),
            waited_us: report.waited_ns as f64 / 1000.0,
        })
    }

    fn drill(&self, domain: Option<&str>) -> Result<Drilled, ApiError> {
        let domain = domain.map(|name| self.id(name)).transpose()?;
        let report = self.operator.drill(domain)?;
        Ok(Drilled {
            domain: self.name(report.domain),
            passed: report.passed(),
            blame: report.blame.map(|blame| format!("{blame:?}").to_lowercase()),
            attempts: report.attempts,
            round_trip_us: report.round_trip_ns as f64 / 1000.0,
        })
    }

    fn upgrade(&self, image: &Path, probation: Option<Duration>) -> Result<Upgraded, ApiError> {
        let bytes = read_image(image)?;
        let report = self.operator.upgrade(&bytes, probation.unwrap_or(PROBATION))?;
        Ok(Upgraded {
            serves: self.name(report.serves),
            served: self.name(report.served),
            took_seconds: report.took.as_secs_f64(),
        })
    }
}

/// Reads an ordinary file of a bounded size: anything else might never end.
fn read_image(path: &Path) -> Result<Vec<u8>, ApiError> {
    let bad =
        |why: String| ApiError::new(ErrorCode::BadImage, format!("{}: {why}", path.display()));
    let metadata = std::fs::metadata(path).map_err(|error| bad(error.to_string()))?;
    if !metadata.is_file() || metadata.len() > IMAGE_BYTES {
        return Err(bad("no file with the program of a domain".into()));
    }
    std::fs::read(path).map_err(|error| bad(error.to_string()))
}

/// An error with all its causes, in one sentence.
fn refuse(code: ErrorCode, error: &dyn Error) -> ApiError {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    ApiError::new(code, text)
}

impl From<SwitchError> for ApiError {
    fn from(error: SwitchError) -> Self {
        let code = match &error {
            SwitchError::NobodyServes => ErrorCode::NoActive,
            SwitchError::NoSpare => ErrorCode::NoStandby,
            SwitchError::NotStandby { .. } => ErrorCode::NotStandby,
            SwitchError::Unhealthy { .. } => ErrorCode::Unhealthy,
            SwitchError::NotAttached { .. } => ErrorCode::NotAttached,
            SwitchError::Busy => ErrorCode::Busy,
            SwitchError::Interrupted => ErrorCode::Overtaken,
            SwitchError::Unready { .. }
            | SwitchError::Handover(_)
            | SwitchError::Switchboard(_) => ErrorCode::Failed,
        };
        refuse(code, &error)
    }
}

impl From<DrillError> for ApiError {
    fn from(error: DrillError) -> Self {
        let code = match &error {
            DrillError::NoStandby => ErrorCode::NoStandby,
            DrillError::NotAttached => ErrorCode::NotAttached,
            DrillError::LinkDown => ErrorCode::Unhealthy,
            DrillError::NobodyServes => ErrorCode::NoActive,
            DrillError::Busy => ErrorCode::Busy,
            DrillError::Abandoned => ErrorCode::Overtaken,
            DrillError::Switchboard(_) => ErrorCode::Failed,
        };
        refuse(code, &error)
    }
}

impl From<UpgradeError> for ApiError {
    fn from(error: UpgradeError) -> Self {
        let code = match &error {
            UpgradeError::Image(_) | UpgradeError::Unfit(_) => ErrorCode::BadImage,
            UpgradeError::NoSpare => ErrorCode::NoStandby,
            UpgradeError::Busy => ErrorCode::Busy,
            UpgradeError::RolledBack { .. } => ErrorCode::RolledBack,
        };
        refuse(code, &error)
    }
}

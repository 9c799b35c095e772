//! What a request can change.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::{ApiError, ErrorCode};
use crate::debugger::Debuggers;
use microvm::domain::{DomainId, DomainSlot, HoldError};
use platform::budget::PROBATION;
use platform::one_line::one_line;
use supervisor::{DrillError, ExamineError, Failover, Operator, SwitchError, System, UpgradeError};

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

    /// Stops a standby; with `switch_first` the domain that serves too, once another one does.
    ///
    /// # Errors
    /// It runs on.
    fn pause(&self, domain: &str, switch_first: bool) -> Result<Paused, ApiError>;

    /// Lets a paused domain run again.
    ///
    /// # Errors
    /// Nothing has changed.
    fn resume(&self, domain: &str) -> Result<Resumed, ApiError>;

    /// Writes a core file of a domain that lives on.
    ///
    /// # Errors
    /// There is none.
    fn dump(&self, domain: &str) -> Result<Dumped, ApiError>;

    /// Opens a GDB server for a domain, at this socket or at one beside the control socket.
    ///
    /// # Errors
    /// There is none.
    fn debug(
        &self,
        domain: &str,
        switch_first: bool,
        socket: Option<&Path>,
    ) -> Result<Opened, ApiError>;
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

/// What a pause did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Paused {
    /// The domain, which stands still until it is resumed or has to serve.
    pub domain: String,
    /// The domain that serves.
    pub serves: Option<String>,
}

/// What a resumption did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Resumed {
    /// The domain, which runs again.
    pub domain: String,
}

/// A dump that was written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Dumped {
    /// The domain.
    pub domain: String,
    /// Folder with core file, program and description, on the machine that warmspare runs on.
    pub folder: PathBuf,
    /// How long the domain stood still.
    pub held_us: f64,
}

/// A GDB server that waits for its debugger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Opened {
    /// The domain.
    pub domain: String,
    /// The domain that serves.
    pub serves: Option<String>,
    /// Unix socket for `target remote`, on the machine that warmspare runs on.
    pub socket: PathBuf,
    /// The program that the domain runs, with symbols.
    pub program: PathBuf,
}

/// A running system, asked by names.
pub struct SystemActions {
    operator: Operator,
    slots: Vec<Arc<DomainSlot>>,
    failover: Arc<Failover>,
    debuggers: Debuggers,
    /// Where sockets of GDB servers go that nobody has named.
    folder: Option<PathBuf>,
}

impl SystemActions {
    /// Of this system, with its control socket.
    pub fn new(system: &System, socket: Option<&Path>) -> Self {
        Self {
            operator: system.operator(),
            slots: system.slots().to_vec(),
            failover: system.failover().clone(),
            debuggers: Debuggers::default(),
            folder: socket.and_then(Path::parent).map(Path::to_owned),
        }
    }

    fn serves(&self) -> Option<String> {
        self.failover.active().map(|id| self.name(id))
    }

    /// Has another domain serve, if this one does.
    fn switch_away(&self, id: DomainId) -> Result<(), ApiError> {
        if self.failover.active() == Some(id) {
            self.operator.switch_to(None)?;
        }
        Ok(())
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

    fn pause(&self, domain: &str, switch_first: bool) -> Result<Paused, ApiError> {
        let id = self.id(domain)?;
        if switch_first {
            self.switch_away(id)?;
        }
        self.operator.pause(id)?;
        Ok(Paused { domain: self.name(id), serves: self.serves() })
    }

    fn resume(&self, domain: &str) -> Result<Resumed, ApiError> {
        let id = self.id(domain)?;
        self.operator.resume(id)?;
        Ok(Resumed { domain: self.name(id) })
    }

    fn dump(&self, domain: &str) -> Result<Dumped, ApiError> {
        let report = self.operator.dump(self.id(domain)?)?;
        Ok(Dumped {
            domain: self.name(report.domain),
            folder: report.folder,
            held_us: report.held_ns as f64 / 1000.0,
        })
    }

    fn debug(
        &self,
        domain: &str,
        switch_first: bool,
        socket: Option<&Path>,
    ) -> Result<Opened, ApiError> {
        let id = self.id(domain)?;
        let beside =
            || self.folder.as_ref().map(|folder| folder.join(format!("gdb-{domain}.sock")));
        let nowhere = || ApiError::new(ErrorCode::BadSocket, "name a `socket` for the debugger");
        let socket = socket.map(Path::to_owned).or_else(beside).ok_or_else(nowhere)?;
        if switch_first {
            self.switch_away(id)?;
        }
        let debugged = self.operator.debug(id)?;
        let program = self
            .debuggers
            .open(debugged, &socket)
            .map_err(|error| refuse(ErrorCode::BadSocket, &error))?;
        Ok(Opened { domain: self.name(id), serves: self.serves(), socket, program })
    }
}

impl From<ExamineError> for ApiError {
    fn from(error: ExamineError) -> Self {
        let code = match &error {
            ExamineError::NotRunning { .. } => ErrorCode::NotRunning,
            ExamineError::Serves { .. } => ErrorCode::Serves,
            ExamineError::NotPaused { .. } => ErrorCode::NotPaused,
            ExamineError::Debugged { .. } => ErrorCode::Debugged,
            ExamineError::Busy => ErrorCode::Busy,
            ExamineError::Hold(HoldError::Released) => ErrorCode::Overtaken,
            ExamineError::NoDumps => ErrorCode::NoDumps,
            ExamineError::Hold(HoldError::TimedOut)
            | ExamineError::Registers(_)
            | ExamineError::Dump(_) => ErrorCode::Failed,
        };
        refuse(code, &error)
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
    ApiError::new(code, one_line(error))
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
            SwitchError::Debugged { .. } => ErrorCode::Debugged,
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
            DrillError::LinkDown | DrillError::Aside => ErrorCode::Unhealthy,
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

//! The operations that a request can ask for.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::error::{ApiError, ErrorCode};
use super::refusals::refuse;
use super::responses::{Drilled, Dumped, Opened, Paused, Resumed, Switched, Upgraded};
use crate::debugger::Debuggers;
use microvm::domain::{DomainId, DomainSlot};
use platform::budget::PROBATION;
use platform::user_file;
use supervisor::{Failover, Operator, System};

/// What can be asked of a running system. Called on a thread that may wait, never on the data path.
pub(super) trait Actions: Send + Sync {
    /// Performs a planned switch to `to`, or to the best standby.
    ///
    /// # Errors
    /// The same domain serves as before, or a failover came in between.
    fn switch(&self, to: Option<&str>) -> Result<Switched, ApiError>;

    /// Drills a standby: the one that is named, or the one that would take over.
    ///
    /// # Errors
    /// There was no drill.
    fn drill(&self, domain: Option<&str>) -> Result<Drilled, ApiError>;

    /// Replaces the driver of all domains by the image in this file.
    ///
    /// # Errors
    /// All domains run the old driver.
    fn upgrade(&self, image: &Path, probation: Option<Duration>) -> Result<Upgraded, ApiError>;

    /// Stops a standby. With `switch_first`, also the domain that serves, after a planned switch.
    ///
    /// # Errors
    /// The domain runs on.
    fn pause(&self, domain: &str, switch_first: bool) -> Result<Paused, ApiError>;

    /// Lets a paused domain run again.
    ///
    /// # Errors
    /// Nothing has changed.
    fn resume(&self, domain: &str) -> Result<Resumed, ApiError>;

    /// Writes a core file of a domain that lives on.
    ///
    /// # Errors
    /// No core file was written.
    fn dump(&self, domain: &str) -> Result<Dumped, ApiError>;

    /// Opens a GDB server for a domain, at this socket or at one beside the control socket.
    ///
    /// # Errors
    /// No GDB server was opened.
    fn debug(
        &self,
        domain: &str,
        switch_first: bool,
        socket: Option<&Path>,
    ) -> Result<Opened, ApiError>;
}

/// The operations of a running system, with domains given by name.
pub(super) struct SystemActions {
    operator: Operator,
    slots: Vec<Arc<DomainSlot>>,
    failover: Arc<Failover>,
    debuggers: Debuggers,
    /// Folder for the sockets of GDB servers whose requests name none.
    folder: Option<PathBuf>,
}

impl SystemActions {
    /// The operations of this system. `socket` is its control socket.
    pub(super) fn new(system: &System, socket: Option<&Path>) -> Self {
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

    /// Performs a planned switch away from this domain, if it serves.
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

/// Reads a regular file of a bounded size. Reading anything else might never end.
fn read_image(path: &Path) -> Result<Vec<u8>, ApiError> {
    let bad =
        |why: String| ApiError::new(ErrorCode::BadImage, format!("{}: {why}", path.display()));
    user_file::read(path, user_file::IMAGE_BYTES).map_err(|error| bad(error.to_string()))
}

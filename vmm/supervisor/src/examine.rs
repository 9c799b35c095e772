//! Looking into a domain that lives: pauses, dumps, debuggers.
//!
//! | | a standby | the active domain |
//! |---|---|---|
//! | pause | until it is resumed, or has to serve | refused: another one must serve first |
//! | dump | for the time of a memory copy | the same: its frames wait for some milliseconds |
//! | debugger | until it goes, or the domain has to serve | while it is stopped, the service is |
//!
//! A domain that stands still for one of these is no failure of its own: its vCPU is visibly held,
//! and no detector takes it for hung. A standby that is put aside is no healthy spare, but still a
//! spare: when it has to take over, the hold is broken in that moment.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use super::event::Event;
use super::failover::Failover;
use super::operator::Operator;
use super::roles::RoleState;
use crate::coredump::{LiveCapture, Offer};
use microvm::domain::{Debug, DebugError, DomainId, HoldError, Life};
use platform::budget::DUMP_ANSWER_DEADLINE;
use platform::clock::monotonic_ns;

/// Why a domain was not looked into. The service goes on in each case.
#[derive(Debug, thiserror::Error)]
pub enum ExamineError {
    /// It has no life that could be looked into.
    #[error("{name} does not run: it is {state}")]
    NotRunning {
        /// Its name.
        name: String,
        /// What it is.
        state: RoleState,
    },
    /// It may not stand still.
    #[error("{name} serves: let another domain serve first")]
    Serves {
        /// Its name.
        name: String,
    },
    /// There is nothing to end.
    #[error("{name} is not paused")]
    NotPaused {
        /// Its name.
        name: String,
    },
    /// One is enough.
    #[error("a debugger is already at {name}")]
    Debugged {
        /// Its name.
        name: String,
    },
    /// A drill, a switch or an upgrade is on.
    #[error("another planned operation is on")]
    Busy,
    /// It was needed, or failed, or did not stop.
    #[error(transparent)]
    Hold(#[from] HoldError),
    /// Its registers cannot be read.
    #[error("its registers cannot be read")]
    Registers(#[source] DebugError),
    /// There is no place for dumps.
    #[error("the topology names no folder for dumps: add `dumps`")]
    NoDumps,
    /// The dump could not be written.
    #[error("the dump is lost: {0}")]
    Dump(String),
}

/// A dump of a domain that lives on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpReport {
    /// The domain.
    pub domain: DomainId,
    /// Its life.
    pub epoch: u32,
    /// Folder with core file, program and description.
    pub folder: std::path::PathBuf,
    /// For how long it stood still, nanoseconds.
    pub held_ns: u64,
}

/// A domain in a debugger. Dropped, it runs on.
pub struct Debugged {
    /// Breakpoints and memory.
    pub debug: Debug,
    /// The life.
    pub life: Arc<Life>,
    operator: Operator,
}

impl Drop for Debugged {
    fn drop(&mut self) {
        let (id, epoch) = (self.life.id(), self.life.epoch());
        let failover = self.operator.failover();
        failover.set_debugged(id, epoch, false);
        self.operator.tell(Event::Debugger { domain: id, attached: false });
    }
}

impl Failover {
    /// A debugger comes to a life, or goes.
    fn set_debugged(&self, id: DomainId, epoch: u32, debugged: bool) {
        let mut table = self.lock_table();
        let entry = &mut table[id.index()];
        if entry.epoch == epoch {
            entry.debugged = debugged;
        }
        drop(table);
        self.notify();
    }

    /// The life of a domain that serves or stands by.
    fn running(&self, id: DomainId) -> Result<(RoleState, Arc<Life>), ExamineError> {
        let table = self.lock_table();
        let entry = &table[id.index()];
        match (entry.state, &entry.life) {
            (state @ (RoleState::Active | RoleState::Standby), Some(life)) => {
                Ok((state, life.clone()))
            }
            (state, _) => {
                let name = self.slots[id.index()].name.clone();
                Err(ExamineError::NotRunning { name, state })
            }
        }
    }
}

impl Operator {
    fn name(&self, id: DomainId) -> String {
        self.failover().slots[id.index()].name.clone()
    }

    /// Stops a standby. It stays so until [`Self::resume`], or until it has to serve. One that is
    /// paused stays paused.
    ///
    /// # Errors
    /// See [`ExamineError`].
    pub fn pause(&self, id: DomainId) -> Result<(), ExamineError> {
        let failover = self.failover();
        // Not in the middle of a drill.
        let _planned = failover.begin_planned().ok_or(ExamineError::Busy)?;
        let (state, life) = failover.running(id)?;
        if state == RoleState::Active {
            return Err(ExamineError::Serves { name: self.name(id) });
        }
        let hold = life.hold();
        let mut table = failover.lock_table();
        let entry = &mut table[id.index()];
        if entry.state == RoleState::Active {
            return Err(ExamineError::Serves { name: self.name(id) });
        }
        if entry.state != RoleState::Standby || entry.epoch != life.epoch() {
            return Err(HoldError::Broken.into());
        }
        let paused_before = entry.paused.replace(hold).is_some();
        drop(table);
        if !paused_before {
            failover.notify();
            self.tell(Event::Paused { domain: id });
        }
        Ok(())
    }

    /// Ends a pause.
    ///
    /// # Errors
    /// See [`ExamineError`].
    pub fn resume(&self, id: DomainId) -> Result<(), ExamineError> {
        let failover = self.failover();
        let hold = failover.lock_table()[id.index()].paused.take();
        drop(hold.ok_or_else(|| ExamineError::NotPaused { name: self.name(id) })?);
        failover.notify();
        self.tell(Event::Resumed { domain: id });
        Ok(())
    }

    /// Writes a core file of a domain that lives on. Waits until it is written.
    ///
    /// # Errors
    /// See [`ExamineError`].
    pub fn dump(&self, id: DomainId) -> Result<DumpReport, ExamineError> {
        let failover = self.failover();
        let dumps = self.dumps().ok_or(ExamineError::NoDumps)?;
        let (capture, life, held_ns) = {
            let _planned = failover.begin_planned().ok_or(ExamineError::Busy)?;
            let (state, life) = failover.running(id)?;
            let slot = &failover.slots[id.index()];
            // Room for the copy is made before anybody has to wait for it.
            let prepared = LiveCapture::prepare(slot, &life, state == RoleState::Active);
            let hold = life.hold();
            let began_ns = monotonic_ns();
            hold.settle()?;
            let registers = hold.registers().map_err(ExamineError::Registers)?;
            let capture = prepared.take(slot, &life, registers);
            if hold.is_broken() {
                // Copied while it ran: good for nothing.
                return Err(HoldError::Broken.into());
            }
            drop(hold);
            (capture, life, monotonic_ns() - began_ns)
        };
        let (tell, told) = sync_channel(1);
        if !dumps.offer(Offer::requested(capture, tell)) {
            return Err(ExamineError::Dump("the disk is slower than the dumps".into()));
        }
        let late = |_| ExamineError::Dump("the disk is stuck".into());
        let written = told.recv_timeout(DUMP_ANSWER_DEADLINE).map_err(late)?;
        let folder = written.map_err(ExamineError::Dump)?;
        Ok(DumpReport { domain: id, epoch: life.epoch(), folder, held_ns })
    }

    /// Opens a domain for a debugger, which may stop it as long as it likes.
    ///
    /// # Errors
    /// See [`ExamineError`].
    pub fn debug(&self, id: DomainId) -> Result<Debugged, ExamineError> {
        let failover = self.failover();
        let _planned = failover.begin_planned().ok_or(ExamineError::Busy)?;
        let (_, life) = failover.running(id)?;
        let taken = || ExamineError::Debugged { name: self.name(id) };
        let debug = life.debug().ok_or_else(taken)?;
        failover.set_debugged(id, life.epoch(), true);
        self.tell(Event::Debugger { domain: id, attached: true });
        Ok(Debugged { debug, life, operator: self.clone() })
    }
}

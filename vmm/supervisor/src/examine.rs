//! Examining a domain that is alive: pauses, dumps, debuggers.
//!
//! | | a standby | the active domain |
//! |---|---|---|
//! | pause | until it is resumed, or has to serve | refused: another domain must serve first |
//! | dump | for the time of a memory copy | the same: its frames wait for some milliseconds |
//! | debugger | until it goes, or the domain has to serve | the service stops with the domain |
//!
//! A domain that is stopped for one of these has not failed: its vCPU is visibly held, and no
//! detector takes it for hung. A standby that is put aside is not a healthy spare, but still a
//! spare: when it has to take over, the hold is broken in that moment.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use super::domain::LifeHandle;
use super::event::Event;
use super::failover::Failover;
use super::operator::Operator;
use super::reports::DumpReport;
use super::roles::RoleState;
use crate::coredump::{Capture, Offer};
use microvm::domain::{DebugAccess, DebugError, DomainId, HoldError, Life};
use platform::budget::DUMP_ANSWER_DEADLINE;
use platform::clock::monotonic_ns;

/// Why a domain was not examined. The service goes on in each case.
#[derive(Debug, thiserror::Error)]
pub enum ExamineError {
    /// The domain has no life that could be examined.
    #[error("{name} does not run: it is {state}")]
    NotRunning {
        /// Its name.
        name: String,
        /// Its role.
        state: RoleState,
    },
    /// The domain serves, and must not be stopped.
    #[error("{name} serves: let another domain serve first")]
    Serves {
        /// Its name.
        name: String,
    },
    /// There is no pause that could be ended.
    #[error("{name} is not paused")]
    NotPaused {
        /// Its name.
        name: String,
    },
    /// A domain has one debugger at most.
    #[error("a debugger is already at {name}")]
    Debugged {
        /// Its name.
        name: String,
    },
    /// A drill, a switch or an upgrade is in progress.
    #[error("another planned operation is in progress")]
    Busy,
    /// The domain had to serve, failed, or did not stop.
    #[error(transparent)]
    Hold(#[from] HoldError),
    /// The domain's registers cannot be read.
    #[error("its registers cannot be read")]
    Registers(#[source] DebugError),
    /// The topology names no folder for dumps.
    #[error("the topology names no folder for dumps: add `dumps`")]
    NoDumps,
    /// The dump could not be written.
    #[error("the dump is lost: {0}")]
    Dump(String),
}

/// A domain in a debugger. When this is dropped, the domain runs on.
pub struct Debugged {
    /// Breakpoints and memory.
    pub debug: DebugAccess,
    /// The life that is debugged.
    pub life: Arc<Life>,
    operator: Operator,
}

impl Drop for Debugged {
    fn drop(&mut self) {
        let (id, epoch) = (self.life.id(), self.life.epoch());
        let failover = self.operator.failover();
        failover.set_debugged(id, epoch, false);
        self.operator.report(Event::Debugger { domain: id, attached: false });
    }
}

impl Failover {
    /// Notes that a debugger comes to a life, or leaves it.
    fn set_debugged(&self, id: DomainId, epoch: u32, debugged: bool) {
        let mut table = self.lock_table();
        let entry = &mut table[id.index()];
        if entry.epoch() == epoch {
            entry.debugged = debugged;
        }
        drop(table);
        self.notify();
    }

    /// The life of a domain that serves or stands by.
    fn running(&self, id: DomainId) -> Result<(RoleState, LifeHandle), ExamineError> {
        let table = self.lock_table();
        let entry = &table[id.index()];
        match (entry.role(), &entry.life) {
            (state @ (RoleState::Active | RoleState::Standby), Some(life)) => {
                Ok((state, life.clone()))
            }
            (state, _) => {
                let name = self.domain(id).name().to_owned();
                Err(ExamineError::NotRunning { name, state })
            }
        }
    }
}

impl Operator {
    fn name(&self, id: DomainId) -> String {
        self.failover().domain(id).name().to_owned()
    }

    /// Stops a standby until [`Self::resume`], or until it has to serve. A standby that is paused
    /// already stays paused.
    ///
    /// # Errors
    /// See [`ExamineError`].
    pub fn pause(&self, id: DomainId) -> Result<(), ExamineError> {
        let failover = self.failover();
        // Not in the middle of a drill.
        let _planned = failover.planned.begin().ok_or(ExamineError::Busy)?;
        let (state, life) = failover.running(id)?;
        if state == RoleState::Active {
            return Err(ExamineError::Serves { name: self.name(id) });
        }
        let hold = life.hold();
        let mut table = failover.lock_table();
        let entry = &mut table[id.index()];
        if entry.role() == RoleState::Active {
            return Err(ExamineError::Serves { name: self.name(id) });
        }
        if entry.role() != RoleState::Standby || entry.epoch() != life.epoch() {
            return Err(HoldError::Released.into());
        }
        let paused_before = entry.paused.replace(hold).is_some();
        drop(table);
        if !paused_before {
            failover.notify();
            self.report(Event::Paused { domain: id });
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
        self.report(Event::Resumed { domain: id });
        Ok(())
    }

    /// Writes a core file of a domain that is alive. Waits until it is written.
    ///
    /// # Errors
    /// See [`ExamineError`].
    pub fn dump(&self, id: DomainId) -> Result<DumpReport, ExamineError> {
        let dumps = self.dumps().ok_or(ExamineError::NoDumps)?;
        let (capture, life, held_ns) = self.capture(id)?;
        let (tell, told) = sync_channel(1);
        if !dumps.offer(Offer::requested(capture, tell)) {
            return Err(ExamineError::Dump("the disk is slower than the dumps".into()));
        }
        let late = |_| ExamineError::Dump("the disk is stuck".into());
        let written = told.recv_timeout(DUMP_ANSWER_DEADLINE).map_err(late)?;
        let folder = written.map_err(ExamineError::Dump)?;
        Ok(DumpReport { domain: id, epoch: life.epoch(), folder, held_ns })
    }

    /// Copies a domain that is alive, which is stopped meanwhile. Returns the copy, the life, and
    /// for how long it was stopped in nanoseconds.
    fn capture(&self, id: DomainId) -> Result<(Capture, LifeHandle, u64), ExamineError> {
        let failover = self.failover();
        let _planned = failover.planned.begin().ok_or(ExamineError::Busy)?;
        let (role, life) = failover.running(id)?;
        let domain = failover.domain(id);
        // Room for the copy is allocated before the domain is stopped.
        let room = domain.prepare_capture(&life, role == RoleState::Active);
        let hold = life.hold();
        let began_ns = monotonic_ns();
        hold.wait_until_held()?;
        let capture = domain.take_capture(room, &life, &hold).map_err(ExamineError::Registers)?;
        if hold.is_released() {
            // The domain ran while it was copied, so the copy is inconsistent.
            return Err(HoldError::Released.into());
        }
        drop(hold);
        Ok((capture, life, monotonic_ns() - began_ns))
    }

    /// Opens a domain for a debugger, which may stop the domain as long as it likes.
    ///
    /// # Errors
    /// See [`ExamineError`].
    pub fn debug(&self, id: DomainId) -> Result<Debugged, ExamineError> {
        let failover = self.failover();
        let _planned = failover.planned.begin().ok_or(ExamineError::Busy)?;
        let (_, life) = failover.running(id)?;
        let taken = || ExamineError::Debugged { name: self.name(id) };
        let debug = life.debug().ok_or_else(taken)?;
        failover.set_debugged(id, life.epoch(), true);
        self.report(Event::Debugger { domain: id, attached: true });
        let life = life.micro_vm().clone();
        Ok(Debugged { debug, life, operator: self.clone() })
    }
}

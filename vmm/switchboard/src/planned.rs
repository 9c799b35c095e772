//! Planned switches and drills, as the supervisor asks for them.

use std::sync::atomic::Ordering;

use microvm::domain::DomainId;

use crate::command::{Command, DrillSeen, Refused, Reply};
use crate::error::SwitchboardError;
use crate::handle::Switchboard;

/// Why the ring does not change hands.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// It has no such life, or that broke the protocol.
    #[error("the domain has no life {epoch}")]
    NotInstalled {
        /// Epoch that was asked for.
        epoch: u32,
    },
    /// No domain serves, this one does already, or another handover is under way.
    #[error("there is nothing to hand over")]
    Busy,
    /// The serving domain still had frames after [`platform::budget::HANDOVER_DRAIN`]; it keeps the
    /// ring.
    #[error("the serving domain does not get rid of its frames")]
    NotDrained,
    /// A takeover came in between.
    #[error("a failover came in between")]
    TakenOver,
    /// The switchboard does not answer.
    #[error(transparent)]
    Switchboard(#[from] SwitchboardError),
}

impl HandoverError {
    fn of(refused: Refused, epoch: u32) -> Self {
        match refused {
            Refused::NotInstalled => Self::NotInstalled { epoch },
            Refused::Busy => Self::Busy,
            Refused::NotDrained => Self::NotDrained,
            Refused::TakenOver => Self::TakenOver,
        }
    }
}

impl Switchboard {
    /// First step of a planned switch: both domains' receptions are the guests' from here on, each
    /// frame once. This comes before the other domain's filters are opened.
    ///
    /// # Errors
    /// See [`HandoverError`]; nothing has changed.
    pub fn overlap(&self, to: DomainId, epoch: u32) -> Result<(), HandoverError> {
        match self.shared.call(Command::Overlap { domain: to.index(), epoch })? {
            Reply::Overlap(Err(refused)) => Err(HandoverError::of(refused, epoch)),
            _ => Ok(()),
        }
    }

    /// Second step: the guests' frames wait until the serving domain's NIC has confirmed all that
    /// it has; then the other domain gets the ring. Returns how long they waited, in nanoseconds.
    ///
    /// # Errors
    /// See [`HandoverError`]; the domain that serves keeps the ring, and
    /// [`Self::end_handover`] comes when the other's filters are shut again.
    pub fn hand_over(&self, epoch: u32) -> Result<u64, HandoverError> {
        match self.shared.call(Command::HandOver)? {
            Reply::HandedOver(Ok(waited_ns)) => Ok(waited_ns),
            Reply::HandedOver(Err(refused)) => Err(HandoverError::of(refused, epoch)),
            _ => Err(HandoverError::Busy),
        }
    }

    /// Third step: returns true once all that the network had sent to the port that was left is
    /// with its domain. Until then that NIC's filters stay open. The last switch on the way sends
    /// the guests' announcements there too, behind all those frames; their coming shows it. In a
    /// network that does not send them there, this stays false.
    pub fn is_settled(&self) -> bool {
        self.shared.settled.load(Ordering::Acquire)
    }

    /// Last step: the domain that does not serve has its filters shut and is quiet; from here on it
    /// must publish nothing.
    ///
    /// # Errors
    /// The switchboard does not answer.
    pub fn end_handover(&self) -> Result<(), SwitchboardError> {
        self.shared.call(Command::EndHandover).map(drop)
    }

    /// Writes the probes of a drill of this standby, and answers its question from here on. Returns
    /// false if no other domain serves to drill against, or an earlier answer is still under way.
    ///
    /// # Errors
    /// The switchboard does not answer.
    pub fn begin_drill(&self, number: u32, standby: DomainId) -> Result<bool, SwitchboardError> {
        let command = Command::BeginDrill { number, standby: standby.index() };
        Ok(matches!(self.shared.call(command)?, Reply::Drill(true)))
    }

    /// Ends a drill, and returns what was seen of it.
    ///
    /// # Errors
    /// The switchboard does not answer.
    pub fn end_drill(&self) -> Result<DrillSeen, SwitchboardError> {
        match self.shared.call(Command::EndDrill)? {
            Reply::DrillSeen(seen) => Ok(seen),
            _ => Ok(DrillSeen::default()),
        }
    }
}

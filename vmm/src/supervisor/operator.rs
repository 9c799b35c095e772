//! What an operator can ask for.

use std::sync::Arc;
use std::time::Instant;

use super::failover::{Failover, Verdict};
use super::roles::RoleState;
use crate::budget::PAUSE_DEADLINE;
use crate::clock::monotonic_ns;
use crate::domain::{DomainId, DomainSlot};

/// Why nothing was done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OperatorError {
    /// The topology has no such domain.
    #[error("there is no domain `{0}`")]
    UnknownDomain(String),
    /// No domain serves.
    #[error("no domain serves, so there is nothing to hand over")]
    NoActive,
    /// No domain stands by.
    #[error("no domain stands by, so none can take over")]
    NoStandby,
    /// The named domain does not stand by.
    #[error("domain `{name}` does not stand by: it is {role}")]
    NotStandby {
        /// The domain.
        name: String,
        /// What it is instead.
        role: RoleState,
    },
    /// A failure came first.
    #[error("a failure came first: look again")]
    Overtaken,
}

/// Acts for an operator. Its calls may wait some milliseconds; none is for the data path.
pub struct Operator {
    slots: Vec<Arc<DomainSlot>>,
    failover: Arc<Failover>,
}

impl Operator {
    pub(super) fn new(slots: Vec<Arc<DomainSlot>>, failover: Arc<Failover>) -> Self {
        Self { slots, failover }
    }

    /// Name of a domain.
    pub fn name(&self, id: DomainId) -> &str {
        &self.slots[id.index()].name
    }

    /// Hands the service to a standby: the one of this name, or the first one. The domain that
    /// served is stopped and built anew, as after a failure. Returns both, the former one first.
    ///
    /// # Errors
    /// Nothing was changed; or, for [`OperatorError::Overtaken`], not by this call.
    pub fn switch(&self, to: Option<&str>) -> Result<(DomainId, DomainId), OperatorError> {
        let wanted = to.map(|name| self.standby(name)).transpose()?;
        let from = self.failover.active().ok_or(OperatorError::NoActive)?;
        if !self.failover.is_redundant() {
            return Err(OperatorError::NoStandby);
        }
        let life = self.failover.life(from).ok_or(OperatorError::Overtaken)?;
        // Until here it has worked; from here on the service stands still.
        let worked_ns = monotonic_ns();
        life.expel();
        if !life.wait_out(Instant::now() + PAUSE_DEADLINE) {
            tracing::warn!(domain = self.name(from), "the vCPU does not come out of the guest");
        }
        let handed =
            self.failover.hand_over(from, life.epoch(), Verdict::Operator, worked_ns, wanted);
        handed.map(|to| (from, to)).ok_or(OperatorError::Overtaken)
    }

    fn standby(&self, name: &str) -> Result<DomainId, OperatorError> {
        let slot = self.slots.iter().find(|slot| slot.name == name);
        let id = slot.ok_or_else(|| OperatorError::UnknownDomain(name.to_owned()))?.id;
        match self.failover.state(id).0 {
            RoleState::Standby => Ok(id),
            role => Err(OperatorError::NotStandby { name: name.to_owned(), role }),
        }
    }
}

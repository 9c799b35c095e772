//! One guest's port, as the connection to its front-end has it.

use std::sync::Arc;

use crate::command::{Command, Reply, RingChange, RingsDone};
use crate::error::SwitchboardError;
use crate::port::{PortEvents, RINGS};
use crate::shared::Shared;

/// The switchboard as a connection to a front-end sees it.
#[derive(Clone)]
pub struct PortHandle {
    shared: Arc<Shared>,
    guest: usize,
}

impl PortHandle {
    pub(crate) fn new(shared: Arc<Shared>, guest: usize) -> Self {
        Self { shared, guest }
    }

    /// Changes this guest's virtqueues at the next loop boundary and waits for that; where the
    /// transmit ring is stopped, also for the guest's last frames, for
    /// [`platform::budget::GUEST_DRAIN_DEADLINE`] at most.
    ///
    /// # Errors
    /// The switchboard does not answer.
    pub(crate) fn set_rings(
        &self,
        changes: [RingChange; RINGS],
    ) -> Result<RingsDone, SwitchboardError> {
        let command = Command::SetRings { guest: self.guest, changes };
        match self.shared.call(command)? {
            Reply::Rings(done) => Ok(done),
            _ => Ok(RingsDone::default()),
        }
    }

    /// Announces this guest to the network, once.
    ///
    /// # Errors
    /// The switchboard does not answer.
    pub(crate) fn announce(&self) -> Result<(), SwitchboardError> {
        self.shared.call(Command::Announce { guest: self.guest }).map(drop)
    }

    /// MTU of the network.
    pub(crate) fn mtu(&self) -> u16 {
        self.shared.mtu
    }

    pub(crate) fn events(&self) -> &PortEvents {
        &self.shared.port_events[self.guest]
    }
}

//! Why the switchboard could not do something.

use microvm::domain::DomainId;
use platform::memory::MemoryError;

use crate::violation::Violation;

/// Why the switchboard could not do something.
#[derive(Debug, thiserror::Error)]
pub enum SwitchboardError {
    /// The operating system refuses a thread or a descriptor.
    #[error("cannot start the switchboard")]
    Start(#[source] std::io::Error),
    /// The transmit pool is too small.
    #[error("the transmit pool is too small")]
    Pool(#[source] MemoryError),
    /// There must be guests, but no more than have room.
    #[error("{0} application guests cannot be served")]
    Guests(usize),
    /// Domain numbers must be places in the list of slots.
    #[error("domain {0:?} is not at its place in the list of slots")]
    Place(DomainId),
    /// The rings were not zeroed before.
    #[error("domain {id:?} was not prepared")]
    NotPrepared {
        /// The domain.
        id: DomainId,
        /// How that showed.
        source: Violation,
    },
    /// There is no such installed life, or it broke the protocol.
    #[error("domain {id:?} has no installed life {epoch}")]
    NotInstalled {
        /// The domain.
        id: DomainId,
        /// Epoch that was asked for.
        epoch: u32,
    },
    /// Another domain is active; to replace it takes a takeover.
    #[error("a domain is active already")]
    Busy,
    /// No loop boundary within [`platform::budget::BOUNDARY_DEADLINE`].
    #[error("the switchboard does not answer")]
    Deadline,
    /// Its thread has ended.
    #[error("the switchboard has ended")]
    Ended,
}

//! What goes wrong with a NIC.

use std::error::Error;

use crate::obstacle::Obstacle;

/// What goes wrong with a NIC.
#[derive(Debug, thiserror::Error)]
pub enum NicError {
    /// An operating system call failed.
    #[error("{name}: cannot {what}")]
    System {
        /// Name of the NIC.
        name: String,
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// Something is missing that the user can mend.
    #[error(transparent)]
    Obstacle(Obstacle),
    /// VFIO, or the device behind it, does not do what it should.
    #[error(transparent)]
    Vfio(Box<dyn Error + Send + Sync>),
}

impl NicError {
    /// Returns true if the user can mend it; the text says how.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Obstacle(_) => true,
            Self::System { .. } | Self::Vfio(_) => false,
        }
    }
}

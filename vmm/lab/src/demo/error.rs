//! What goes wrong with a demo.

use std::time::Duration;

use crate::fault::FaultError;
use operate::control::PlaneError;
use supervisor::{SwitchError, SystemError, UpgradeError};

/// Why a demo could not be carried through.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The system cannot be built.
    #[error(transparent)]
    System(#[from] SystemError),
    /// The demo cannot be watched as asked.
    #[error(transparent)]
    Plane(#[from] PlaneError),
    /// The switch has no port for the sender.
    #[error(transparent)]
    Port(#[from] nic::wire::SwitchError),
    /// A process, thread or folder cannot be made.
    #[error("cannot {what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A fault cannot be injected.
    #[error(transparent)]
    Fault(#[from] FaultError),
    /// A planned switch was refused.
    #[error("the planned switch did not take place")]
    Switch(#[from] SwitchError),
    /// An upgrade was refused or rolled back.
    #[error("the upgrade did not take place")]
    Upgrade(#[from] UpgradeError),
    /// Something did not happen in time.
    #[error("{what} within {seconds} s")]
    Late {
        /// What did not happen.
        what: String,
        /// How long the demo waited for it.
        seconds: u64,
    },
    /// The application guest's process has ended.
    #[error("the application guest has ended: {0}")]
    AppEnded(std::process::ExitStatus),
}

impl DemoError {
    pub(super) fn late(what: &str, waited: Duration) -> Self {
        Self::Late { what: what.to_owned(), seconds: waited.as_secs() }
    }

    /// For `map_err`: what was tried, and why it failed.
    pub(super) fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}

//! Why a system could not be built.

use crate::coredump::StoreError;
use microvm::domain::SlotError;
use microvm::kvm::{ImageError, VmError};
use nic::NicError;
use nic::wire::{SwitchError, TapError};
use platform::memory::MemoryError;
use switchboard::SwitchboardError;
use switchboard::vhost_user::VhostUserError;

/// None of the NICs can be used now, and waiting for one was not wanted.
#[derive(Debug, thiserror::Error)]
#[error("no NIC can be used: {0}")]
pub struct NoNicError(pub(super) String);

/// Why a system could not be built.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
#[allow(missing_docs, reason = "each variant is the error of the part it names")]
pub enum SystemError {
    Memory(#[from] MemoryError),
    Slot(#[from] SlotError),
    Nic(#[from] NicError),
    Image(#[from] ImageError),
    Switch(#[from] SwitchError),
    Tap(#[from] TapError),
    Switchboard(#[from] SwitchboardError),
    VhostUser(#[from] VhostUserError),
    Kvm(#[from] VmError),
    NoNic(#[from] NoNicError),
    Dumps(#[from] StoreError),
    System(#[from] std::io::Error),
}

//! Why a domain gives up.

use core::fmt;

use shared_ring::CursorViolation;
use shared_ring::hypercall::PanicCode;

/// A failure that ends this life of the domain: it goes into the panic text, and the VMM builds
/// the domain anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DomainError {
    /// Not a control page, or one of another ABI version.
    Abi {
        /// What stands where the magic number should.
        magic: u32,
        /// What stands where the ABI version should.
        version: u32,
    },
    /// The control page names no usable time base.
    NoTimeBase,
    /// The NIC answers all ones.
    NicGone,
    /// The NIC did not come up, not even after a full reset.
    NicInit(BringUpError),
    /// The VMM's cursor on one of the shared rings is impossible.
    Cursor(CursorViolation),
    /// An entry from the VMM is impossible.
    Entry(EntryError),
}

/// Which step of the bring-up did not end in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BringUpError {
    /// A queue stays enabled.
    QueueStuck,
    /// A queue does not become enabled.
    QueueDead,
    /// A ring does not start at descriptor zero.
    HeadNotZero,
    /// The receive tail is not where the driver left it.
    TailMoved,
}

/// What is wrong with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryError {
    /// Published for another life of the domain.
    Epoch,
    /// No such buffer.
    Buffer,
    /// Address zero, or a buffer that crosses a page.
    Address,
    /// A length that the NIC cannot handle, or that the parts of a frame do not add up to.
    Length,
    /// Unknown flags, or flags that contradict each other.
    Flags,
    /// Header offsets that no frame can have.
    Offload,
}

impl DomainError {
    /// The argument of the PANIC call.
    pub fn code(self) -> PanicCode {
        match self {
            Self::Abi { .. } | Self::NoTimeBase => PanicCode::Abi,
            Self::NicGone => PanicCode::NicGone,
            Self::NicInit(_) => PanicCode::NicInit,
            Self::Cursor(_) | Self::Entry(_) => PanicCode::Ring,
        }
    }
}

impl fmt::Display for DomainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Abi { magic, version } => {
                write!(f, "control page with magic {magic:#x}, ABI version {version}")
            }
            Self::NoTimeBase => f.write_str("control page without a TSC frequency"),
            Self::NicGone => f.write_str("NIC reads all ones"),
            Self::NicInit(step) => write!(f, "NIC does not come up: {step:?}"),
            Self::Cursor(CursorViolation { own, other }) => {
                write!(f, "impossible ring cursor {other} against {own}")
            }
            Self::Entry(what) => write!(f, "impossible ring entry: {what:?}"),
        }
    }
}

impl core::error::Error for DomainError {}

impl From<CursorViolation> for DomainError {
    fn from(violation: CursorViolation) -> Self {
        Self::Cursor(violation)
    }
}

impl From<EntryError> for DomainError {
    fn from(error: EntryError) -> Self {
        Self::Entry(error)
    }
}

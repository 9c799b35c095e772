//! How a life ends.

use std::fmt;

use shared_ring::hypercall::PanicCode;

use crate::kvm::{CrashRecord, Registers};

/// Why a domain failed, as its vCPU thread found out. Small and without allocations: it is made and
/// handed on between the fault and the takeover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A CPU exception.
    Exception(CrashRecord),
    /// The domain gave up; its text is in [`Outcome::panic_text`].
    Panic {
        /// See [`PanicCode`].
        code: u32,
    },
    /// Triple fault. What happened is lost.
    Shutdown,
    /// A load or store where its map has neither memory nor registers.
    OutsideMap {
        /// Guest address.
        address: u64,
        /// A store.
        write: bool,
    },
    /// A register access that is not an aligned 32-bit one.
    RegisterAccess {
        /// Offset in the BAR.
        offset: u64,
        /// Its width in bytes.
        bytes: u8,
        /// A store.
        write: bool,
    },
    /// A hypercall that does not exist.
    Hypercall {
        /// Offset in the hypercall page.
        offset: u64,
        /// Its argument.
        value: u32,
    },
    /// The guest was left for a reason that a sound one does not give.
    UnexpectedExit {
        /// Number of the exit in the KVM API.
        reason: u32,
    },
    /// KVM refused to run the vCPU.
    Kvm {
        /// The operating system's error number.
        errno: i32,
    },
    /// The vCPU thread itself panicked.
    VcpuThread,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = |write: &bool| if *write { "store to" } else { "load from" };
        match self {
            Self::Exception(record) => write!(f, "{record}"),
            Self::Panic { code } => match PanicCode::from_u32(*code) {
                Some(code) => write!(f, "the domain gave up: {code:?}"),
                None => write!(f, "the domain gave up with unknown code {code}"),
            },
            Self::Shutdown => write!(f, "triple fault"),
            Self::OutsideMap { address, write } => {
                write!(f, "{} {address:#x}, outside its map", way(write))
            }
            Self::RegisterAccess { offset, bytes, write } => {
                write!(f, "{bytes}-byte {} register {offset:#x}", way(write))
            }
            Self::Hypercall { offset, value } => {
                write!(f, "unknown hypercall {offset:#x}({value:#x})")
            }
            Self::UnexpectedExit { reason } => write!(f, "unexpected exit {reason} from the guest"),
            Self::Kvm { errno } => {
                write!(f, "KVM: {}", std::io::Error::from_raw_os_error(*errno))
            }
            Self::VcpuThread => write!(f, "the vCPU thread panicked"),
        }
    }
}

/// What is left of a life once its vCPU is out of the guest for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What it failed of by itself; `None` if it was forced out. A crash record here is complete.
    pub fault: Option<Fault>,
    /// Where the program stood, if KVM could tell; after an exception, see the crash record.
    pub registers: Option<Registers>,
    /// What the domain wrote before it gave up, made printable; valid until the slot is prepared
    /// for the next life.
    pub panic_text: Option<String>,
}

//! What goes wrong with the application guest.

use std::io;
use std::path::PathBuf;

use super::link::LinkError;
use microvm::kvm::{CrashRecord, ImageError, VmError};
use platform::memory::MemoryError;

/// Why the application guest could not be started, or ended.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// There is no usable back-end behind the socket.
    #[error(
        "--socket {}: no usable vhost-user back-end there (start `warmspare run` or another one first, or correct the path)",
        path.display()
    )]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why not.
        source: LinkError,
    },
    /// The micro-VM could not be built or run.
    #[error(transparent)]
    Vm(#[from] VmError),
    /// The embedded image is damaged.
    #[error("the application guest's image is not usable")]
    Image(#[from] ImageError),
    /// No memory, or a place outside of it.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// No descriptors, threads or signals.
    #[error("the operating system refuses {what}")]
    System {
        /// What was asked of it.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// Waiting failed.
    #[error("cannot wait for the back-end")]
    Wait(#[source] io::Error),
    /// The guest gave up.
    #[error("the guest panicked (code {code}): {text}")]
    GuestPanicked {
        /// See [`shared_ring::hypercall::PanicCode`].
        code: u32,
        /// What it said.
        text: String,
    },
    /// A CPU exception in the guest.
    #[error(
        "the guest crashed: exception {} at {:#x}, error code {:#x}, cr2 {:#x}",
        .0.vector, .0.registers.rip, .0.error_code, .0.cr2
    )]
    Crashed(Box<CrashRecord>),
    /// A triple fault.
    #[error("the guest crashed: triple fault")]
    Shutdown,
    /// An exit of a kind that a sound guest does not cause.
    #[error("the guest left for a reason that KVM numbers {reason}")]
    UnexpectedExit {
        /// Number of the exit in the KVM API.
        reason: u32,
    },
    /// The guest reached where nothing is.
    #[error("the guest accessed {address:#x}, where there is nothing")]
    OutsideMap {
        /// Guest-physical address.
        address: u64,
    },
    /// A hypercall that does not exist.
    #[error("the guest made hypercall {call:#x}, which does not exist")]
    UnknownCall {
        /// Offset in the hypercall page.
        call: u64,
    },
    /// A virtqueue that cannot be.
    #[error("the guest put virtqueue {queue} where it cannot be")]
    Queue {
        /// 0 receive, 1 transmit.
        queue: usize,
    },
    /// The canary area was written to.
    #[error("word {word} of the guest's canary area was overwritten")]
    Canary {
        /// Which.
        word: usize,
    },
    /// Text, constants or unused memory were written to.
    #[error("the guest's memory at {address:#x} was overwritten, where nothing may write")]
    Damaged {
        /// Where.
        address: u64,
    },
    /// The vCPU thread panicked.
    #[error("the thread of the application guest panicked")]
    ThreadPanicked,
}

impl AppError {
    /// Whether the user can mend it: then the program ends with status 2.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Socket { .. } => true,
            Self::Vm(error) => matches!(
                error,
                VmError::NoPermission(_) | VmError::NoDevice(_) | VmError::ApiVersion { .. }
            ),
            Self::Image(_)
            | Self::Memory(_)
            | Self::System { .. }
            | Self::Wait(_)
            | Self::GuestPanicked { .. }
            | Self::Crashed(_)
            | Self::Shutdown
            | Self::UnexpectedExit { .. }
            | Self::OutsideMap { .. }
            | Self::UnknownCall { .. }
            | Self::Queue { .. }
            | Self::Canary { .. }
            | Self::Damaged { .. }
            | Self::ThreadPanicked => false,
        }
    }
}

//! What goes wrong with the application guest.

use std::io;
use std::path::PathBuf;

use microvm::kvm::{CrashRecord, ImageError, VmError};
use platform::budget::BACKEND_DEADLINE;
use platform::memory::MemoryError;

/// Why the application guest could not be started, or ended.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The socket has no usable back-end.
    #[error(
        "--socket {}: no usable vhost-user back-end there (start `warmspare run` or another one first, or correct the path)",
        path.display()
    )]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why not.
        source: ConnectionError,
    },
    /// The micro-VM could not be built or run.
    #[error(transparent)]
    Vm(#[from] VmError),
    /// The embedded image is damaged.
    #[error("the application guest's image is not usable")]
    Image(#[from] ImageError),
    /// There is no memory, or an address lies outside of it.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// No descriptors, threads or signals can be had.
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
        /// The guest's message.
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
    /// The guest accessed an address where nothing is.
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
    /// A virtqueue lies outside of RAM, or is not aligned.
    #[error("the guest put virtqueue {queue} where it cannot be")]
    Queue {
        /// 0 receive, 1 transmit.
        queue: usize,
    },
    /// The canary area was written to.
    #[error("word {word} of the guest's canary area was overwritten")]
    Canary {
        /// Index of the word.
        word: usize,
    },
    /// Text, constants or unused memory were written to.
    #[error("the guest's memory at {address:#x} was overwritten, where nothing may write")]
    Damaged {
        /// Guest-physical address.
        address: u64,
    },
    /// The vCPU thread panicked.
    #[error("the thread of the application guest panicked")]
    ThreadPanicked,
}

impl AppError {
    /// Returns true if the user can mend it: then the program ends with status 2.
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

/// Why a back-end cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The path is too long for a socket address.
    #[error("the path is longer than the 107 bytes a socket address can hold")]
    PathTooLong,
    /// No back-end listens on the socket.
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    /// A request failed.
    #[error("the back-end refuses {what}")]
    Request {
        /// The vhost-user request.
        what: &'static str,
        /// Why it failed.
        source: vhost::Error,
    },
    /// The back-end did not answer.
    #[error("the back-end does not answer within {} ms", BACKEND_DEADLINE.as_millis())]
    NoAnswer,
    /// Feature bits are missing that the guest needs or already uses.
    #[error("the back-end does not offer feature bits {missing:#x}")]
    Features {
        /// The missing bits.
        missing: u64,
    },
    /// No descriptors or threads can be had.
    #[error("the operating system refuses what a connection needs")]
    System(#[source] io::Error),
}

//! Why there is no wire.

use std::io;

/// Why there is no wire.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// No interface can have this name.
    #[error("`{0}` is no name of an interface: use 1 to 15 printable characters without spaces")]
    Name(String),
    /// The driver is missing, or out of reach.
    #[error(
        "/dev/net/tun cannot be opened: load the kernel's module (modprobe tun), or give this program \
         the device"
    )]
    NoTun(#[source] io::Error),
    /// There is none, and it is not ours to make.
    #[error("there is no interface {name}: make it: ip tuntap add {name} mode tap")]
    Absent {
        /// The interface.
        name: String,
    },
    /// Neither root nor owner.
    #[error(
        "the TAP {name} may not be created or attached to: run as root, or have root make it yours: \
         ip tuntap add {name} mode tap user USER"
    )]
    Forbidden {
        /// The interface.
        name: String,
    },
    /// One program at a time.
    #[error("the TAP {name} is in use: stop the other program, or name another TAP")]
    Busy {
        /// The interface.
        name: String,
    },
    /// An interface of another kind.
    #[error(
        "the interface {name} is no TAP with one queue: name another, or make it anew: \
         ip tuntap add {name} mode tap"
    )]
    NoTap {
        /// The interface.
        name: String,
    },
    /// An operating system call failed.
    #[error("the TAP {name} cannot {what}: look at it with ip -details link show {name}")]
    System {
        /// The interface.
        name: String,
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
}

impl TapError {
    /// Returns true if the name cannot be that of a TAP, so that waiting for it makes no sense.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::Name(_) | Self::NoTap { .. } => true,
            Self::NoTun(_)
            | Self::Absent { .. }
            | Self::Forbidden { .. }
            | Self::Busy { .. }
            | Self::System { .. } => false,
        }
    }
}

//! Breaches of the protocol: what a domain can do that no working driver does.

use std::fmt;

use shared_ring::CursorViolation;

use microvm::domain::DomainId;

/// A ring that a domain writes or whose other cursor it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RingName {
    /// Frames to send.
    TxPost,
    /// Empty receive buffers.
    RxProvide,
    /// Frames claimed sent.
    TxDone,
    /// Frames received.
    RxDone,
}

impl fmt::Display for RingName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TxPost => "TX_POST",
            Self::RxProvide => "RX_PROVIDE",
            Self::TxDone => "TX_DONE",
            Self::RxDone => "RX_DONE",
        })
    }
}

/// A breach of the protocol, with the evidence: something that a domain published does not check.
/// After one, that domain's rings are ignored until a new life is installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// More entries are in flight than a ring holds.
    #[error("{ring}: cursor {other} is impossible beside {own}")]
    Cursor {
        /// The ring.
        ring: RingName,
        /// The switchboard's cursor.
        own: u32,
        /// The domain's cursor.
        other: u32,
    },
    /// The pool has no such buffer.
    #[error("{ring}: there is no buffer {buffer}")]
    UnknownBuffer {
        /// The ring.
        ring: RingName,
        /// The number in the entry.
        buffer: u16,
    },
    /// A domain returned a receive buffer that it does not own: never provided, or returned
    /// already.
    #[error("RX_DONE: buffer {buffer} was not the domain's to return")]
    NotOwned {
        /// The buffer.
        buffer: u16,
    },
    /// A domain claimed a transmit buffer that was not posted to it, or that it had claimed
    /// already.
    #[error("TX_DONE: buffer {buffer} was not posted")]
    NotPosted {
        /// The buffer.
        buffer: u16,
    },
    /// A frame is shorter than an Ethernet header, a part of one longer than a buffer, or one that is
    /// not the last does not fill its buffer.
    #[error("RX_DONE: {len} bytes in buffer {buffer}")]
    BadLength {
        /// The buffer.
        buffer: u16,
        /// Bytes, as the entry says.
        len: u16,
    },
    /// A domain published the beginning of a frame without its end.
    #[error("RX_DONE: the frame that goes on behind buffer {buffer} was published by halves")]
    HalfFrame {
        /// The last buffer that was published of it.
        buffer: u16,
    },
    /// A frame has more buffers than the longest one takes.
    #[error("RX_DONE: buffer {buffer} is one too many for a frame")]
    EndlessFrame {
        /// The buffer.
        buffer: u16,
    },
    /// An entry has flags that have no meaning on this ring.
    #[error("{ring}: flags {flags:#06x}")]
    UnknownFlags {
        /// The ring.
        ring: RingName,
        /// All flags of the entry.
        flags: u16,
    },
    /// An entry is another life's.
    #[error("{ring}: entry of epoch {found}, expected {expected}")]
    WrongEpoch {
        /// The ring.
        ring: RingName,
        /// Low bits of the epoch in the entry.
        found: u16,
        /// Low bits of the epoch of this life.
        expected: u16,
    },
    /// The header that the switchboard cleared was never written: an old or invented frame.
    #[error("RX_DONE: nothing was received into buffer {buffer}")]
    StaleHeader {
        /// The buffer.
        buffer: u16,
    },
    /// Buffers came back that the domain had not taken yet.
    #[error("RX_PROVIDE: buffer {buffer} came back before it was taken")]
    ReturnedUntaken {
        /// The buffer.
        buffer: u16,
    },
    /// A domain published entries without being the active one.
    #[error("{ring}: {entries} entries of a domain that is not active")]
    NotActive {
        /// The ring.
        ring: RingName,
        /// How many entries.
        entries: u32,
    },
    /// The NIC counts more frames than the domain was given to send: old ones, or its own.
    #[error("the NIC sent {frames} frames more than it was given")]
    Surplus {
        /// How many frames.
        frames: u32,
    },
}

impl Violation {
    /// The violation that an impossible cursor of `ring` is.
    pub(crate) fn cursor(ring: RingName, violation: CursorViolation) -> Self {
        Self::Cursor { ring, own: violation.own, other: violation.other }
    }
}

/// Hears of violations. It is called on the switchboard's thread, so it must neither block nor
/// allocate.
pub trait ViolationSink: Send + Sync {
    /// The life `epoch` of domain `id` broke the protocol. Called at most once in a life.
    fn violation(&self, id: DomainId, epoch: u32, violation: Violation);
}

//! The status page: the domain writes, the VMM reads and distrusts every word of it.

use crate::atomic::{AtomicU32, AtomicU64};
use crate::control::Cursor;

/// Bytes of the panic text.
pub const PANIC_TEXT_BYTES: usize = 256;

/// How far a domain says it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum DomainState {
    /// Not yet at READY.
    Booting = 0,
    /// NIC programmed, buffers posted.
    Attached = 1,
    /// Has served the ring at least once.
    Serving = 2,
}

/// Counters of the driver, running, for people and plots; nothing is decided by them.
#[derive(Debug, Default)]
#[repr(C)]
pub struct DriverCounters {
    /// Frames handed to the NIC.
    pub tx_frames: AtomicU64,
    /// Bytes of these.
    pub tx_bytes: AtomicU64,
    /// Frames taken from the NIC.
    pub rx_frames: AtomicU64,
    /// Bytes of these.
    pub rx_bytes: AtomicU64,
    /// Frames that the NIC marked as damaged.
    pub rx_errors: AtomicU64,
    /// Times the domain parked.
    pub parks: AtomicU64,
    /// NOTIFY calls.
    pub notifies: AtomicU64,
    /// Stores to a tail register.
    pub doorbells: AtomicU64,
}

/// Shape of the page at [`crate::layout::STATUS_BASE`]. All-zero memory is a valid value.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct StatusPage {
    /// Turns of the domain's loop.
    pub heartbeat: AtomicU64,
    /// Not zero from just before WAIT until just after: the switchboard must kick.
    pub parked: AtomicU32,
    /// See [`DomainState`].
    pub state: AtomicU32,
    /// Bytes ever written to the log text ring.
    pub log_written: AtomicU64,
    /// Next receive descriptor that the driver will look at, modulo the NIC's ring. After a
    /// failure the VMM salvages completed frames from here on.
    pub rx_next: AtomicU32,
    /// Not zero while receive and transmit interrupts are masked because the loop polls.
    pub interrupts_masked: AtomicU32,
    /// How the last attach went, see [`attach`].
    pub attach_path: AtomicU32,
    /// Bytes of `panic_text` that are valid.
    pub panic_len: AtomicU32,
    /// Driver counters.
    pub counters: DriverCounters,
    /// Number of the last drill that ended.
    pub drill: AtomicU32,
    /// What it proved, bits of [`drill`].
    pub drill_proof: AtomicU32,
    /// TX_POST, how far the domain has read: these frames are in its hand.
    pub tx_post_consumed: Cursor,
    /// RX_PROVIDE, how far the domain has read.
    pub rx_provide_consumed: Cursor,
    /// TX_DONE, written by the domain.
    pub tx_done_published: Cursor,
    /// RX_DONE, written by the domain.
    pub rx_done_published: Cursor,
    /// Text of a panic, UTF-8 as far as a failed program can be believed; words, little-endian.
    pub panic_text: [AtomicU64; PANIC_TEXT_BYTES / 8],
}

/// Values of [`StatusPage::attach_path`].
pub mod attach {
    /// Not attached.
    pub const NONE: u32 = 0;
    /// Rings re-attached without a reset.
    pub const REATTACH: u32 = 1;
    /// Full reset of the NIC.
    pub const RESET: u32 = 2;
}

/// Bits of [`StatusPage::drill_proof`].
pub mod drill {
    /// The registers are as the driver left them.
    pub const REGISTERS: u32 = 1 << 0;
    /// The NIC reports the probe sent.
    pub const SENT: u32 = 1 << 1;
    /// The answer came back.
    pub const ANSWERED: u32 = 1 << 2;
}

#[cfg(not(loom))]
const _: () = {
    assert!(core::mem::offset_of!(StatusPage, counters) == 40);
    assert!(core::mem::offset_of!(StatusPage, drill) == 104);
    assert!(core::mem::offset_of!(StatusPage, tx_post_consumed) == 128);
    assert!(core::mem::offset_of!(StatusPage, panic_text) == 384);
    assert!(size_of::<StatusPage>() <= crate::layout::PAGE_BYTES as usize);
};

//! What both sides of the isolation boundary agree on.
//!
//! The VMM's switchboard and a driver domain share memory and nothing else. This crate holds every
//! shape that crosses that boundary, so that a change on one side cannot be forgotten on the other:
//!
//! - [`layout`]: where everything lies in a domain's address space, and how large it is;
//! - [`entry`]: one descriptor of a shared ring;
//! - [`frame`]: how long frames are;
//! - [`ring`]: the single-producer, single-consumer ring and its two ends;
//! - [`control`]: the page the VMM writes and the domain reads;
//! - [`status`]: the page the domain writes and the VMM reads *and distrusts*;
//! - [`probe`]: the frames of a drill;
//! - [`igb_registers`]: the registers of the NIC, which both sides program;
//! - [`bar_map`]: which registers of the NIC a domain may touch;
//! - [`hypercall`]: the stores by which a domain asks something of the VMM.
//!
//! It depends on nothing of ours. An image carries [`ABI_VERSION`] in an ELF note (see [`abi`]);
//! the VMM refuses an image whose version differs from its own.

#![cfg_attr(not(any(test, loom)), no_std)]

pub mod abi;
pub mod bar_map;
pub mod control;
pub mod entry;
pub mod frame;
pub mod hypercall;
pub mod igb_registers;
pub mod layout;
pub mod probe;
pub mod ring;
pub mod status;

pub use abi::ABI_VERSION;
pub use control::{ControlPage, Role};
pub use entry::{Entry, EntryFlags};
pub use ring::{Consumer, CursorViolation, Producer, PushError};
pub use status::{DomainState, StatusPage};

/// The atomics of this crate: `core`'s, or `loom`'s when its model checker runs the ring.
pub(crate) mod atomic {
    #[cfg(not(loom))]
    pub(crate) use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
    #[cfg(loom)]
    pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
}

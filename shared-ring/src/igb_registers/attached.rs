//! What the registers of a NIC hold whose driver is attached: the driver writes these values, and the
//! VMM's detectors compare with them. An image with other values would be condemned, so a change here
//! is a change of the ABI.
//!
//! Each comes with the bits that count; what else a register has is reserved, or the hardware's.

use super::{IVAR_VALID, queue, rctl, tctl};

/// [`RCTL`](super::RCTL) with every filter shut: a standby.
///
/// With LPE, always: without it, a NIC takes a frame of 1,500 bytes with two tags for too long, and
/// RLPML says how long is too long.
pub const RCTL: u32 = rctl::EN | rctl::SECRC | rctl::LPE;
/// The filters in it that are open where a domain serves: broadcast and multicast.
pub const RCTL_FILTERS: u32 = rctl::BAM | rctl::MPE;
/// All that is defined of it, §8.9.1.
pub const RCTL_BITS: u32 = 0x04ff_b0fe;

/// The length in [`RLPML`](super::RLPML), whose value is
/// [`longest_on_wire`](crate::frame::longest_on_wire).
pub const RLPML_BITS: u32 = 0x3fff;

/// [`TCTL`](super::TCTL), §8.12.1. The slot time is written, and not what stood there: the VMM
/// writes the whole register when it shuts a unit.
pub const TCTL: u32 = tctl::RESET | tctl::EN | tctl::RTLC;
/// All that is defined of it.
pub const TCTL_BITS: u32 =
    tctl::EN | tctl::PSP | tctl::CT_MASK | tctl::COLD_MASK | tctl::SWXOFF | tctl::RTLC;

/// [`IVAR0`](super::IVAR0): receive and transmit of queue 0 on vector 0.
pub const IVAR0: u32 = IVAR_VALID << 8 | IVAR_VALID;
/// The bytes of queue 0.
pub const IVAR0_BITS: u32 = 0xffff;
/// [`IVAR_MISC`](super::IVAR_MISC): link and the rest on vector 1.
pub const IVAR_MISC: u32 = (IVAR_VALID | 1) << 8;
/// The byte of other causes.
pub const IVAR_MISC_BITS: u32 = 0xff00;

/// [`SRRCTL`](super::SRRCTL): advanced descriptors, one buffer, 2 KiB.
pub const SRRCTL: u32 = queue::TYPE_ADVANCED_ONE_BUFFER << queue::SRRCTL_TYPE_SHIFT | 2;
/// Buffer size and descriptor type.
pub const SRRCTL_BITS: u32 = queue::SRRCTL_BUFFER_KIB | 7 << queue::SRRCTL_TYPE_SHIFT;

const _: () = assert!((RCTL | RCTL_FILTERS) & !RCTL_BITS == 0);
const _: () = assert!(TCTL & TCTL_BITS == 0x0104_00fa);

//! How long frames are: what follows from the MTU for the NIC, the rings and the switchboard.
//!
//! All lengths are bytes without the frame check sequence, except where it is named.

use crate::layout::BUFFER_BYTES;

/// Smallest MTU: what every IPv4 host takes in (RFC 791).
pub const MIN_MTU: u16 = 576;
/// Largest MTU: jumbo frames as switches forward them, and below what a NIC of the family takes.
pub const MAX_MTU: u16 = 9216;
/// MTU of Ethernet.
pub const DEFAULT_MTU: u16 = 1500;

/// Bytes of an Ethernet header without tags.
pub const HEADER_BYTES: usize = 14;
/// Bytes of a VLAN tag, of 802.1Q or 802.1ad.
pub const TAG_BYTES: usize = 4;
/// Tags that a frame of full size may carry beyond its MTU: the two of a provider's network, and one
/// of the guest's own within.
pub const MAX_TAGS: usize = 3;
/// Bytes of the frame check sequence, which a NIC counts and a buffer does not hold.
pub const CHECK_BYTES: usize = 4;

/// Bytes of the longest frame of a network with this MTU.
#[inline]
pub const fn longest(mtu: u16) -> usize {
    mtu as usize + HEADER_BYTES + MAX_TAGS * TAG_BYTES
}

/// The same as [`RLPML`](crate::igb_registers::RLPML) holds it: with the frame check sequence.
#[inline]
pub const fn longest_on_wire(mtu: u16) -> u32 {
    (longest(mtu) + CHECK_BYTES) as u32
}

/// Most receive buffers of a frame.
pub const MAX_RX_PARTS: usize = longest(MAX_MTU).div_ceil(BUFFER_BYTES);

// A frame of the default MTU takes one buffer, with all its tags.
const _: () = assert!(longest(DEFAULT_MTU) <= BUFFER_BYTES);
// RLPML has 14 bits, and a packet of a NIC of the family at most 9728 bytes (§7.2.2.1.2).
const _: () = assert!(longest_on_wire(MAX_MTU) <= 9728 && MAX_RX_PARTS == 5);

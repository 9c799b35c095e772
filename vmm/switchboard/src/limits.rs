//! Sizes and bounds that several modules share.

use nic::wire::MAX_FRAME_BYTES;
use shared_ring::layout::BUFFER_BYTES;

/// Bytes of an Ethernet header, the least that a frame has.
pub(crate) const ETHERNET_HEADER_BYTES: usize = 14;

/// Shortest frame handed to a NIC; shorter ones are padded with zeroes (IEEE 802.3, 3.2.8).
pub(crate) const MIN_FRAME_BYTES: usize = 60;

/// Transmit buffers of the longest frame.
pub(crate) const MAX_FRAME_BUFFERS: usize = MAX_FRAME_BYTES.div_ceil(BUFFER_BYTES);

/// Frames moved each way in one turn, so that a takeover never waits for more than a few hundred
/// copies.
pub(crate) const TURN_FRAMES: usize = 256;

/// Frames taken from one guest before the next guest has its turn.
pub(crate) const VISIT_FRAMES: usize = 32;

/// IP addresses remembered of each family and guest; the one that was learned first makes room.
pub(crate) const ADDRESSES: usize = 8;

/// MAC addresses beside its own that one guest can have.
pub const STATIONS: usize = 64;

//! Sizes and bounds that several modules share.

use nic::wire::MAX_FRAME_BYTES;
use shared_ring::layout::BUFFER_BYTES;

/// Bytes of an Ethernet header, the least that a frame has.
pub(crate) const ETHERNET_HEADER_BYTES: usize = 14;

/// Shortest frame handed to a NIC; shorter ones are padded with zeroes (IEEE 802.3, 3.2.8).
pub(crate) const MIN_FRAME_BYTES: usize = 60;

/// Transmit buffers of the longest frame.
pub(crate) const MAX_FRAME_BUFFERS: usize = MAX_FRAME_BYTES.div_ceil(BUFFER_BYTES);

/// Work of one turn each way, so that a takeover never waits for more than a few hundred copies. An
/// ordinary frame counts one; a longer one counts its buffers, and a frame for several guests each
/// of its copies. The last thing that is begun may go beyond that: a frame that is cut, for
/// instance.
pub(crate) const TURN_FRAMES: usize = 256;

/// Descriptors of one virtqueue that are read in one turn before it has to wait for the next. A
/// turn of ordinary frames, of one to three descriptors each, never gets there.
pub(crate) const TURN_DESCRIPTORS: u32 = 4096;

/// Frames taken from one guest before the next guest has its turn.
pub(crate) const VISIT_FRAMES: usize = 32;

/// IP addresses remembered of each family and station; the one that was learned first makes room.
pub(crate) const ADDRESSES: usize = 8;

/// MAC addresses beside its own that one guest can have.
pub const FURTHER_MACS: usize = 64;

/// Stations remembered of each guest: each of its MAC addresses in each VLAN, frames without tags
/// among them; the one that was heard longest ago makes room.
pub(crate) const STATIONS: usize = 128;

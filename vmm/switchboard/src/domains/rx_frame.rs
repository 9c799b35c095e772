//! A received frame, and where its bytes lie in a domain's receive pool.

use microvm::domain::DomainSlot;
use shared_ring::layout::{BUFFER_BYTES, CLEARED_HEADER_BYTES, RX_POOL_BASE};
use vm_memory::VolatileSlice;

/// A received frame that checked. The switchboard owns its buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RxFrame {
    pub(crate) buffer: u16,
    /// Bytes of the frame.
    pub(crate) len: usize,
    /// The frame's first bytes, read once: the bytes that were checked are those that are handed
    /// on.
    pub(crate) head: [u8; CLEARED_HEADER_BYTES],
    /// The NIC reported an error with it.
    pub(crate) damaged: bool,
}

impl RxFrame {
    /// The part of the frame that `head` holds.
    pub(crate) fn head(&self) -> &[u8] {
        &self.head[..self.len.min(CLEARED_HEADER_BYTES)]
    }

    /// Destination MAC address.
    pub(crate) fn destination(&self) -> &[u8] {
        &self.head[..6]
    }

    /// Source MAC address.
    pub(crate) fn source(&self) -> &[u8] {
        &self.head[6..12]
    }

    /// Returns true if the frame is for a group: broadcast or multicast.
    pub(crate) fn is_for_group(&self) -> bool {
        self.head[0] & 1 != 0
    }
}

/// Where a receive buffer lies in a domain's RAM.
pub(super) fn buffer_offset(buffer: u16) -> u64 {
    RX_POOL_BASE + u64::from(buffer) * BUFFER_BYTES as u64
}

/// Bytes of a receive buffer, for volatile copies.
pub(super) fn buffer_slice(
    slot: &DomainSlot,
    buffer: u16,
    from: usize,
    len: usize,
) -> VolatileSlice<'_> {
    match slot.ram.slice(buffer_offset(buffer) + from as u64, len) {
        Ok(slice) => slice,
        // Callers checked `buffer` against the pool and `from + len` against the buffer.
        Err(_) => unreachable!("a receive buffer lies within the pool"),
    }
}

/// The part of a frame behind its head, where it was received.
pub(crate) fn body<'a>(slot: &'a DomainSlot, frame: &RxFrame) -> VolatileSlice<'a> {
    let head = frame.head().len();
    buffer_slice(slot, frame.buffer, head, frame.len - head)
}

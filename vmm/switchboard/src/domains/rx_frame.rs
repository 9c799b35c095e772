//! A received frame, and where its bytes lie in a domain's receive pool.

use microvm::domain::DomainSlot;
use shared_ring::frame::MAX_RX_PARTS;
use shared_ring::layout::{BUFFER_BYTES, CLEARED_HEADER_BYTES, RX_POOL_BASE};
use vm_memory::VolatileSlice;

/// One buffer of a received frame, as a domain or its NIC says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RxPart {
    pub(crate) buffer: u16,
    /// Bytes in it.
    pub(crate) len: u16,
    /// The frame goes on in the next buffer.
    pub(crate) more: bool,
    /// The NIC reported an error with the frame.
    pub(crate) damaged: bool,
}

/// A received frame that checked. The switchboard owns its buffers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RxFrame {
    /// All but the last one are full.
    buffers: [u16; MAX_RX_PARTS],
    /// Bytes of the frame.
    pub(crate) len: usize,
    /// The frame's first bytes, read once: the bytes that were checked are those that are handed
    /// on.
    pub(crate) head: [u8; CLEARED_HEADER_BYTES],
    /// The NIC reported an error with it.
    pub(crate) damaged: bool,
}

impl RxFrame {
    /// A frame in one buffer.
    #[inline]
    pub(super) fn new(part: RxPart, head: [u8; CLEARED_HEADER_BYTES]) -> Self {
        let mut buffers = [0; MAX_RX_PARTS];
        buffers[0] = part.buffer;
        Self { buffers, len: usize::from(part.len), head, damaged: part.damaged }
    }

    /// Appends a buffer to one whose buffers are all full. Returns false if it has the most that
    /// there can be.
    pub(super) fn append(&mut self, part: RxPart) -> bool {
        let Some(place) = self.buffers.get_mut(self.len / BUFFER_BYTES) else { return false };
        *place = part.buffer;
        self.len += usize::from(part.len);
        self.damaged |= part.damaged;
        true
    }

    /// Its buffers, in order.
    #[inline]
    pub(crate) fn buffers(&self) -> &[u16] {
        &self.buffers[..self.len.div_ceil(BUFFER_BYTES)]
    }

    /// The buffers behind the one that it begins in; most frames have none.
    #[inline]
    pub(crate) fn further_buffers(&self) -> &[u16] {
        match self.len {
            0..=BUFFER_BYTES => &[],
            _ => &self.buffers()[1..],
        }
    }

    /// The buffer that it begins in, by which it is known.
    #[inline]
    pub(crate) fn first_buffer(&self) -> u16 {
        self.buffers[0]
    }

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

/// The part of a frame behind its head in the buffer that it begins in.
#[inline]
pub(crate) fn body<'a>(slot: &'a DomainSlot, frame: &RxFrame) -> VolatileSlice<'a> {
    let head = frame.head().len();
    buffer_slice(slot, frame.first_buffer(), head, frame.len.min(BUFFER_BYTES) - head)
}

/// All of a frame behind its head: as many parts as it has buffers.
pub(crate) fn bodies<'a>(
    slot: &'a DomainSlot,
    frame: &RxFrame,
) -> ([VolatileSlice<'a>; MAX_RX_PARTS], usize) {
    let count = frame.buffers().len();
    let parts = std::array::from_fn(|n| match n {
        0 => body(slot, frame),
        _ if n < count => {
            let here = (frame.len - n * BUFFER_BYTES).min(BUFFER_BYTES);
            buffer_slice(slot, frame.buffers[n], 0, here)
        }
        // Places behind the last buffer are empty.
        _ => buffer_slice(slot, frame.first_buffer(), 0, 0),
    });
    (parts, count)
}

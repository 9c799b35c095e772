//! The transmit queue: frames in, sent buffers out.
//!
//! ```text
//!     claimed          rung         complete      filled   (free-running, modulo the ring)
//!        | with the NIC  | no bell yet  | parts of    |
//!        |               |              | a frame     |
//! ```
//! A frame is `[context] data ... data`. Only its last descriptor asks for a write-back, and the
//! first one's shadow says where that is, so a frame is claimed as a whole.

use shared_ring::layout::{BUFFER_BYTES, NIC_TX_DESCRIPTORS, PAGE_BYTES, TX_BUFFERS};
use shared_ring::{Entry, EntryFlags};

use super::descriptor::{Descriptor, NULL_PACKET, TX_DONE, command, option};
use super::offload::Offload;
use crate::error::EntryError;

const SIZE: u32 = NIC_TX_DESCRIPTORS as u32;
const _: () = assert!(SIZE.is_power_of_two());

/// Shortest frame that the MAC pads by itself, bytes (§7.2.2.1.2, TCTL.PSP set).
pub const MIN_FRAME_BYTES: u32 = 17;
/// Longest frame of the NIC, bytes (§7.2.2.1.2).
pub const MAX_FRAME_BYTES: u32 = 9728;
/// Most buffers of a frame (QEMU gathers 64).
pub const MAX_PARTS: u32 = 64;
/// Descriptors that must be free before a part is pushed: its own, and a context before it.
const PART_DESCRIPTORS: u32 = 2;
/// Shadow of a descriptor without a buffer.
const NO_BUFFER: u16 = u16::MAX;

/// What the driver remembers of a descriptor.
#[derive(Clone, Copy, Debug)]
struct Shadow {
    buffer: u16,
    /// On the first descriptor of a frame: index of its last.
    frame_end: u16,
}

/// A frame of which the first parts have been pushed.
#[derive(Clone, Copy, Debug)]
struct OpenFrame {
    bytes_left: u32,
    parts: u32,
}

/// The NIC's transmit ring and what the driver knows of it.
#[derive(Debug)]
pub struct TransmitQueue<'m> {
    ring: &'m [Descriptor; NIC_TX_DESCRIPTORS],
    shadow: [Shadow; NIC_TX_DESCRIPTORS],
    claimed: u32,
    rung: u32,
    complete: u32,
    filled: u32,
    open: Option<OpenFrame>,
}

fn index(cursor: u32) -> usize {
    (cursor & (SIZE - 1)) as usize
}

impl<'m> TransmitQueue<'m> {
    /// An empty queue.
    pub fn new(ring: &'m [Descriptor; NIC_TX_DESCRIPTORS]) -> Self {
        for descriptor in ring {
            descriptor.store(0, 0);
        }
        let shadow = [Shadow { buffer: NO_BUFFER, frame_end: 0 }; NIC_TX_DESCRIPTORS];
        Self { ring, shadow, claimed: 0, rung: 0, complete: 0, filled: 0, open: None }
    }

    /// Ends whatever packet the NIC may have kept from a dead driver, by a packet of no bytes, and
    /// returns the tail to ring. QEMU keeps a half-transmitted packet across queue disable and
    /// would join our first frame to it; on hardware a null packet does nothing (§7.2.2.1.2). It
    /// asks for no write-back and is claimed together with the first frame. Only on an empty queue.
    pub fn push_null_packet(&mut self) -> u32 {
        self.write(0, NULL_PACKET, NO_BUFFER);
        self.rung = self.filled;
        index(self.rung) as u32
    }

    /// Returns true if another part of a frame can be pushed.
    #[inline(always)]
    pub fn has_room(&self) -> bool {
        SIZE - 1 - self.filled.wrapping_sub(self.claimed) >= PART_DESCRIPTORS
    }

    /// Turns one entry into descriptors; there must be room. Returns true if that ended a frame.
    /// The NIC sees the frame after the doorbell.
    ///
    /// # Errors
    /// The entry is impossible. The queue must not be used any more.
    #[inline(always)]
    pub fn push(&mut self, entry: &Entry) -> Result<bool, EntryError> {
        check_part(entry)?;
        let (frame, mut word) = match self.open {
            Some(frame) => (frame, DATA),
            None => self.begin(entry)?,
        };
        let bytes_left =
            frame.bytes_left.checked_sub(u32::from(entry.len)).ok_or(EntryError::Length)?;
        let parts = frame.parts + 1;
        let more = entry.flags.contains(EntryFlags::MORE);
        if more == (bytes_left == 0) || parts > MAX_PARTS {
            return Err(EntryError::Length);
        }
        word |= u64::from(entry.len);
        if more {
            self.open = Some(OpenFrame { bytes_left, parts });
            self.write(entry.iova, word, entry.buffer);
            return Ok(false);
        }
        word |= u64::from(command::END | command::REPORT_STATUS);
        self.write(entry.iova, word, entry.buffer);
        self.open = None;
        self.shadow[index(self.complete)].frame_end = index(self.filled.wrapping_sub(1)) as u16;
        self.complete = self.filled;
        Ok(true)
    }

    /// Starts a frame: its context descriptor, and what its first data descriptor says.
    fn begin(&mut self, entry: &Entry) -> Result<(OpenFrame, u64), EntryError> {
        let more = entry.flags.contains(EntryFlags::MORE);
        let bytes = if more { entry.frame_len } else { u32::from(entry.len) };
        if !(MIN_FRAME_BYTES..=MAX_FRAME_BYTES).contains(&bytes) {
            return Err(EntryError::Length);
        }
        let mut word = DATA | u64::from(bytes << option::PAYLEN_SHIFT) << 32;
        if let Some(offload) = Offload::of(entry)? {
            let [first, second] = offload.context;
            self.write(first, second, NO_BUFFER);
            word |= u64::from(offload.options) << 32;
        }
        Ok((OpenFrame { bytes_left: bytes, parts: 0 }, word))
    }

    /// Puts in a frame of the driver's own, which nobody claims; between frames, and there must be
    /// room. Returns the index of its descriptor.
    pub fn push_probe(&mut self, iova: u64, bytes: u32) -> usize {
        let at = index(self.filled);
        let report = command::END | command::REPORT_STATUS;
        let payload = u64::from(bytes << option::PAYLEN_SHIFT) << 32;
        self.write(iova, DATA | u64::from(report) | u64::from(bytes) | payload, NO_BUFFER);
        self.shadow[index(self.complete)].frame_end = at as u16;
        self.complete = self.filled;
        at
    }

    fn write(&mut self, first: u64, second: u64, buffer: u16) {
        let at = index(self.filled);
        self.ring[at].store(first, second);
        self.shadow[at].buffer = buffer;
        self.filled = self.filled.wrapping_add(1);
    }

    /// The value for the tail register, if there are whole frames that the NIC does not know.
    #[inline(always)]
    pub fn doorbell(&mut self) -> Option<u32> {
        // Not `!=`: a null packet was rung and never was a complete frame.
        let waiting = self.complete.wrapping_sub(self.rung) as i32;
        (waiting > 0).then(|| {
            self.rung = self.complete;
            index(self.rung) as u32
        })
    }

    /// Returns true if the oldest frame has been sent.
    #[inline(always)]
    pub fn is_completed(&self) -> bool {
        if self.claimed == self.complete {
            return false;
        }
        let end = usize::from(self.shadow[index(self.claimed)].frame_end);
        self.ring[end].status() & TX_DONE != 0
    }

    /// Returns true if the NIC is done with the descriptor at an index.
    pub fn is_done(&self, at: usize) -> bool {
        self.ring[at % NIC_TX_DESCRIPTORS].status() & TX_DONE != 0
    }

    /// Claims the oldest frame if it has been sent: calls `each` with the number of each of its
    /// buffers. Returns true if it was.
    ///
    /// Claimed descriptors are emptied. Where a store into one is lost later on, the NIC finds nothing
    /// to send, which the VMM notices; with what stands there from the frame before, it would send
    /// that frame's length or bytes, which nobody here can notice.
    pub fn claim(&mut self, mut each: impl FnMut(u16)) -> bool {
        if !self.is_completed() {
            return false;
        }
        let end = usize::from(self.shadow[index(self.claimed)].frame_end);
        loop {
            let at = index(self.claimed);
            self.claimed = self.claimed.wrapping_add(1);
            self.ring[at].store(0, 0);
            if self.shadow[at].buffer != NO_BUFFER {
                each(self.shadow[at].buffer);
            }
            if at == end {
                return true;
            }
        }
    }
}

/// Second word of every data descriptor.
const DATA: u64 = (command::ADVANCED | command::TYPE_DATA | command::INSERT_FCS) as u64;

/// Checks what holds for every part of a frame.
fn check_part(entry: &Entry) -> Result<(), EntryError> {
    if !entry.flags.is_known() || entry.flags.contains(EntryFlags::ERROR) {
        return Err(EntryError::Flags);
    }
    if usize::from(entry.buffer) >= TX_BUFFERS {
        return Err(EntryError::Buffer);
    }
    if entry.len == 0 || usize::from(entry.len) > BUFFER_BYTES {
        return Err(EntryError::Length);
    }
    // Across a page boundary the IOMMU of QEMU silently loses the frame.
    let in_page = entry.iova % PAGE_BYTES;
    if entry.iova == 0 || in_page + u64::from(entry.len) > PAGE_BYTES {
        return Err(EntryError::Address);
    }
    Ok(())
}

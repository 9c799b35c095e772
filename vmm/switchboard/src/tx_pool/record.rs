//! What is known of a transmit buffer, and how many buffers a guest may have.

use microvm::domain::DomainSlot;
use shared_ring::layout::BUFFER_BYTES;
use shared_ring::{Entry, EntryFlags};

use crate::limits::MIN_FRAME_BYTES;
use crate::port::Checksum;
use crate::tx_buffers::FIRST_RESERVED;

/// Most buffers of each of several guests: as much as a gigabit link sends of full size in three
/// milliseconds, so that no guest's frames wait longer behind another's.
const SHARED_QUOTA: usize = 256;

/// Where a buffer stands; the ledger draws how it goes from one state to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    #[default]
    Free,
    Waiting,
    Posted,
    Claimed,
    /// Poison that was not copied to the quarantine yet.
    Poison,
}

/// What is known of one buffer. A frame is a run of buffers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Buffer {
    pub(super) state: State,
    pub(super) len: u16,
    pub(super) first: bool,
    pub(super) more: bool,
    /// Bytes of the whole frame, on its first buffer.
    pub(super) frame_len: u32,
    /// Failures at which the frame was in hand, on its first buffer.
    pub(super) failures: u8,
    /// Those among them at which the domain was at this frame, on its first buffer.
    pub(super) suspicions: u8,
    /// The frame was posted before; on its first buffer.
    pub(super) again: bool,
    /// The guest that sent the frame; only for buffers that are for guests' frames.
    pub(super) guest: u8,
    /// Cursor of its entry in TX_POST.
    pub(super) cursor: u32,
    /// What the NIC is to compute, on its first buffer.
    pub(super) checksum: Option<Checksum>,
}

impl Buffer {
    /// Notes, on a frame's first buffer, that its domain failed, which had taken the entries before
    /// the cursor `taken`. The frame is the `oldest` of those that were not confirmed, or not.
    pub(super) fn note_failure(&mut self, taken: Option<u32>, oldest: bool) {
        if !matches!(self.state, State::Posted | State::Claimed) {
            return;
        }
        let entries = self.frame_len.div_ceil(BUFFER_BYTES as u32).max(1);
        let (in_hand, is_last) = match taken.map(|taken| taken.wrapping_sub(self.cursor) as i32) {
            // Entries of this frame, and of those behind it, that were taken.
            Some(behind) => (behind > 0, behind > 0 && behind <= entries as i32),
            // A cursor that is impossible proves nothing.
            None => (true, true),
        };
        self.failures += u8::from(in_hand);
        self.suspicions += u8::from(in_hand && (oldest || is_last));
    }

    /// The entry by which the buffer with this number is posted; the epoch is the life's to fill
    /// in.
    #[inline]
    pub(super) fn entry(&self, number: u16) -> Entry {
        let more = if self.more { EntryFlags::MORE.0 } else { 0 };
        let (offload, checksum) = match self.checksum {
            Some(checksum) => (EntryFlags::CHECKSUM.0, checksum),
            None => (0, Checksum { start: 0, offset: 0 }),
        };
        Entry {
            iova: DomainSlot::tx_iova(number),
            buffer: number,
            len: self.len,
            flags: EntryFlags(more | offload),
            csum_start: checksum.start,
            csum_offset: checksum.offset,
            epoch: 0,
            frame_len: if self.first { self.frame_len } else { 0 },
            guest: u16::from(self.guest),
        }
    }
}

/// Buffers that each guest may hold. Together the guests hold no more than there are, so none can
/// take another's.
pub(super) fn quota(guests: usize) -> u16 {
    let share = usize::from(FIRST_RESERVED) / guests.max(1);
    (if guests > 1 { share.min(SHARED_QUOTA) } else { share }) as u16
}

/// Buffers that so many frames take, none longer than `longest_bytes`.
pub(crate) fn buffers_of(frames: usize, longest_bytes: usize) -> usize {
    frames * longest_bytes.max(MIN_FRAME_BYTES).div_ceil(BUFFER_BYTES)
}

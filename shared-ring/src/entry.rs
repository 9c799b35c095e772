//! One entry of a shared ring: 32 bytes, the same shape on all four rings.

use crate::atomic::{AtomicU64, Ordering};

/// Bytes of an entry.
pub const ENTRY_BYTES: usize = 32;

/// Bits of [`Entry::flags`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct EntryFlags(pub u16);

impl EntryFlags {
    /// Plain: one buffer, no offload.
    pub const NONE: Self = Self(0);
    /// The frame goes on in the next entry's buffer.
    pub const MORE: Self = Self(1 << 0);
    /// Transmit: fill in the checksum at `csum_start + csum_offset`.
    pub const CHECKSUM: Self = Self(1 << 1);
    /// Receive: the NIC reported an error with this frame.
    pub const ERROR: Self = Self(1 << 4);

    const KNOWN: u16 = Self::MORE.0 | Self::CHECKSUM.0 | Self::ERROR.0;

    /// Returns true if all bits of `other` are set.
    #[inline]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns true if only defined bits are set.
    #[inline]
    pub const fn is_known(self) -> bool {
        self.0 & !Self::KNOWN == 0
    }
}

/// A decoded entry. What a field means on which ring:
///
/// | ring | iova | buffer | len | other |
/// |---|---|---|---|---|
/// | TX_POST | of the frame's bytes | TX pool | bytes of this buffer | offload fields, guest |
/// | TX_DONE | 0 | TX pool | 0 | |
/// | RX_PROVIDE | of the buffer | RX pool | room, bytes | |
/// | RX_DONE | 0 | RX pool | bytes received | flags |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// I/O address, as the NIC sees it.
    pub iova: u64,
    /// Number of the buffer in its pool.
    pub buffer: u16,
    /// Bytes.
    pub len: u16,
    /// See [`EntryFlags`].
    pub flags: EntryFlags,
    /// Low bits of the epoch of the domain that published this, or that it was published for.
    pub epoch: u16,
    /// Offset at which checksumming starts, in bytes from the frame's start.
    pub csum_start: u16,
    /// Offset of the checksum field from `csum_start`.
    pub csum_offset: u16,
    /// Application guest that the frame comes from.
    pub guest: u16,
    /// Bytes of the whole frame, on its first entry.
    pub frame_len: u32,
}

/// An entry as it stands in shared memory: words, each read or written once.
#[derive(Debug, Default)]
#[repr(C, align(32))]
pub struct Slot([AtomicU64; 4]);

#[cfg(not(loom))]
const _: () = assert!(size_of::<Slot>() == ENTRY_BYTES && align_of::<Slot>() == ENTRY_BYTES);

#[inline]
fn pack(a: u16, b: u16, c: u16, d: u16) -> u64 {
    u64::from(a) | u64::from(b) << 16 | u64::from(c) << 32 | u64::from(d) << 48
}

#[inline]
fn unpack(word: u64) -> [u16; 4] {
    [word as u16, (word >> 16) as u16, (word >> 32) as u16, (word >> 48) as u16]
}

impl Slot {
    /// Writes all words. The ring's cursor, stored afterwards with Release, makes them visible.
    #[inline]
    pub fn store(&self, e: Entry) {
        let words = [
            e.iova,
            pack(e.buffer, e.len, e.flags.0, e.epoch),
            pack(e.csum_start, e.csum_offset, 0, 0),
            u64::from(e.guest) | u64::from(e.frame_len) << 32,
        ];
        for (cell, word) in self.0.iter().zip(words) {
            cell.store(word, Ordering::Relaxed);
        }
    }

    /// Reads each word once: what the other side changes later is never seen.
    #[inline]
    pub fn load(&self) -> Entry {
        let word = |i: usize| self.0[i].load(Ordering::Relaxed);
        let iova = word(0);
        let [buffer, len, flags, epoch] = unpack(word(1));
        let [csum_start, csum_offset, ..] = unpack(word(2));
        let last = word(3);
        Entry {
            iova,
            buffer,
            len,
            flags: EntryFlags(flags),
            epoch,
            csum_start,
            csum_offset,
            guest: last as u16,
            frame_len: (last >> 32) as u32,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_entry_survives_its_slot(
            iova: u64,
            four in any::<[u16; 4]>(),
            offload in any::<[u16; 2]>(),
            guest: u16,
            frame_len: u32,
        ) {
            let entry = Entry {
                iova,
                buffer: four[0],
                len: four[1],
                flags: EntryFlags(four[2]),
                epoch: four[3],
                csum_start: offload[0],
                csum_offset: offload[1],
                guest,
                frame_len,
            };
            let slot = Slot::default();
            slot.store(entry);
            prop_assert_eq!(slot.load(), entry);
        }
    }
}

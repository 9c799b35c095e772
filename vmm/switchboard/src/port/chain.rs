//! A walk along a descriptor chain (virtio 1.3, 2.7.5), counting what it reads.
//!
//! `virtio-queue` has such a walk, but only behind an iterator that reads the guest's available
//! index anew for each chain. This one is given the chain's head. It ends alike at the end of a
//! chain, at a descriptor that cannot be read, and after as many descriptors as its table has (a
//! loop); a caller that minds looks whether the last descriptor had a next.

use vm_memory::{Bytes, GuestAddress, VolatileMemory};

use super::memory::GuestMemory;

/// Bytes of a descriptor.
const BYTES: usize = 16;

/// Bits of a descriptor's flags (virtio 1.3, 2.7.5).
mod flag {
    pub(super) const NEXT: u16 = 1;
    pub(super) const WRITE: u16 = 2;
    pub(super) const INDIRECT: u16 = 4;
}

/// A buffer of a chain, as its descriptor says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Descriptor {
    /// Guest-physical address.
    pub(super) address: u64,
    /// Bytes.
    pub(super) len: u32,
    flags: u16,
    next: u16,
}

impl Descriptor {
    #[inline]
    fn parse(word: u128) -> Self {
        let word = u128::from_le(word);
        Self {
            address: word as u64,
            len: (word >> 64) as u32,
            flags: (word >> 96) as u16,
            next: (word >> 112) as u16,
        }
    }

    /// Returns true if the chain goes on.
    pub(super) fn has_next(&self) -> bool {
        self.flags & flag::NEXT != 0
    }

    /// Returns true if the buffer is for the device to write.
    pub(super) fn is_write_only(&self) -> bool {
        self.flags & flag::WRITE != 0
    }
}

/// What is left of a chain.
pub(super) struct Chain<'a> {
    memory: &'a GuestMemory,
    table: u64,
    /// Descriptors of the table.
    size: u32,
    /// Place of the next descriptor in the table.
    at: u32,
    /// Descriptors that may still be read.
    left: u32,
    is_indirect: bool,
    read: u32,
}

impl<'a> Chain<'a> {
    /// The chain that begins at a place of a ring's table of `size` descriptors.
    pub(super) fn new(memory: &'a GuestMemory, table: u64, size: u16, head: u16) -> Self {
        let (size, at) = (u32::from(size), u32::from(head));
        Self { memory, table, size, at, left: size, is_indirect: false, read: 0 }
    }

    /// Descriptors read so far, the one that names an indirect table included.
    pub(super) fn read(&self) -> u32 {
        self.read
    }

    #[inline]
    fn descriptor(&mut self) -> Option<Descriptor> {
        if self.left == 0 || self.at >= self.size {
            return None;
        }
        self.read += 1;
        let address = self.table.checked_add(u64::from(self.at) * BYTES as u64)?;
        let piece = self.memory.piece(address, BYTES);
        let word = match piece.as_ref().and_then(|piece| piece.get_ref::<u128>(0).ok()) {
            Some(word) => word.load(),
            // It lies across two regions, or nowhere.
            None => self.memory.read_obj(GuestAddress(address)).ok()?,
        };
        Some(Descriptor::parse(word))
    }

    /// Goes on in an indirect table; `None` if it is none: an indirect table holds whole
    /// descriptors, at most as many as an index can name, and names no other table (2.7.5.3.1).
    fn enter(&mut self, table: Descriptor) -> Option<()> {
        let bytes = table.len as usize;
        let size = u16::try_from(bytes / BYTES).ok()?;
        if self.is_indirect || !bytes.is_multiple_of(BYTES) {
            return None;
        }
        self.table = table.address;
        (self.size, self.left) = (size.into(), size.into());
        self.at = 0;
        self.is_indirect = true;
        Some(())
    }
}

impl Iterator for Chain<'_> {
    type Item = Descriptor;

    #[inline]
    fn next(&mut self) -> Option<Descriptor> {
        let mut descriptor = self.descriptor()?;
        if descriptor.flags & flag::INDIRECT != 0 {
            self.enter(descriptor)?;
            descriptor = self.descriptor()?;
            if descriptor.flags & flag::INDIRECT != 0 {
                return None;
            }
        }
        self.at = descriptor.next.into();
        self.left = if descriptor.has_next() { self.left - 1 } else { 0 };
        Some(descriptor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::{FakeGuest, QUEUE};

    fn walk(guest: &FakeGuest, head: u16) -> (Vec<Descriptor>, u32) {
        let memory = guest.shared();
        let mut chain = Chain::new(&memory, guest.tx.descriptors(), QUEUE, head);
        let all = chain.by_ref().collect();
        (all, chain.read())
    }

    #[test]
    fn a_chain_is_walked_in_order_and_counted() {
        let mut guest = FakeGuest::new();
        let places = guest.tx.chain(&[(12, false), (100, false), (7, true)]);
        let (all, read) = walk(&guest, places[0]);
        let seen: Vec<_> = all.iter().map(|it| (it.len, it.is_write_only())).collect();
        assert_eq!(seen, [(12, false), (100, false), (7, true)]);
        assert_eq!(all[1].address, guest.tx.buffer(places[1]));
        assert_eq!((all[2].has_next(), read), (false, 3));
    }

    #[test]
    fn a_loop_ends_after_as_many_descriptors_as_the_table_has() {
        let guest = FakeGuest::new();
        guest.tx.set_descriptor(0, guest.tx.buffer(0), 0, flag::NEXT, 0);
        let (all, read) = walk(&guest, 0);
        assert_eq!((all.len(), read), (usize::from(QUEUE), u32::from(QUEUE)));
        assert!(all.last().unwrap().has_next());
    }

    /// Of two descriptors of 16 bytes each, in the buffer of the first of the ring.
    fn indirect(guest: &FakeGuest, words: [u64; 4], len: u32) -> (Vec<Descriptor>, u32) {
        let table = guest.tx.buffer(0);
        guest.memory.write_obj(words, GuestAddress(table)).unwrap();
        guest.tx.set_descriptor(0, table, len, flag::INDIRECT, 0);
        walk(guest, 0)
    }

    #[test]
    fn an_indirect_table_holds_whole_descriptors_and_no_table() {
        let guest = FakeGuest::new();
        let two = [5, 12 | 1 << 32 | 1 << 48, 6, 80];
        let (all, read) = indirect(&guest, two, 32);
        assert_eq!(all.iter().map(|it| it.address).collect::<Vec<_>>(), [5, 6]);
        assert_eq!(read, 3);
        assert_eq!(indirect(&guest, two, 33).0, []);
        assert_eq!(indirect(&guest, two, 16).0.len(), 1, "the next lies behind the table");
        assert_eq!(indirect(&guest, two, 16 * 0x1_0000).0, []);
        let nested = [guest.tx.buffer(0), 32 | 4 << 32, 0, 0];
        assert_eq!(indirect(&guest, nested, 32).0, []);
    }

    #[test]
    fn a_table_that_is_no_memory_or_wraps_around_has_no_descriptors() {
        let guest = FakeGuest::new();
        let memory = guest.shared();
        for table in [0, u64::MAX - 8] {
            assert_eq!(Chain::new(&memory, table, QUEUE, 1).next(), None);
        }
    }
}

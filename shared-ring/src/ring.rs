//! A ring with one producer and one consumer, on either side of the isolation boundary.
//!
//! Each end owns one free-running 32-bit cursor and reads the other's:
//!
//! ```text
//!    consumed            published
//!        |  entries in flight |
//! ...----+--------------------+-----... (modulo RING_ENTRIES)
//! ```
//!
//! The producer writes entries, then stores `published` with Release; the consumer loads it with
//! Acquire, reads entries, then stores `consumed` with Release, which gives the slots back. Neither
//! end ever reads its own cursor back from memory: it keeps the truth in a local, because the page
//! may be writable for a side that is not trusted. The other side's cursor is checked: more than a
//! ring's worth in flight is a [`CursorViolation`].
//!
//! The other's cursor is a cache line that the other's processor writes. So each end keeps a copy
//! of what it read last, works on that, and reads again when the copy says full, or empty. The
//! other only ever adds to its cursor, so an old copy promises too little and never too much; and
//! what is acquired with the copy holds for all entries that the copy counts.

use core::ptr::NonNull;

use crate::atomic::{AtomicU32, Ordering};
use crate::entry::{Entry, Slot};
use crate::layout::RING_ENTRIES;

/// The other end's cursor claims more entries than a ring holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CursorViolation {
    /// The cursor that this end owns.
    pub own: u32,
    /// What was read from the other end.
    pub other: u32,
}

/// Why an entry could not be pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushError {
    /// No free slot now.
    Full,
    /// The consumer's cursor is impossible.
    Violation(CursorViolation),
}

/// Where a ring lies in memory.
#[derive(Clone, Copy, Debug)]
pub struct RingMemory {
    /// First of [`RING_ENTRIES`] slots.
    pub slots: NonNull<Slot>,
    /// The producer's cursor.
    pub published: NonNull<AtomicU32>,
    /// The consumer's cursor.
    pub consumed: NonNull<AtomicU32>,
}

impl RingMemory {
    #[inline]
    fn slot(&self, cursor: u32) -> &Slot {
        let index = cursor as usize & (RING_ENTRIES - 1);
        // SAFETY: `index` is below RING_ENTRIES, and whoever built an end promised that many slots
        // for as long as the end lives.
        unsafe { self.slots.add(index).as_ref() }
    }

    #[inline]
    fn published(&self) -> &AtomicU32 {
        // SAFETY: promised to be valid by whoever built an end.
        unsafe { self.published.as_ref() }
    }

    #[inline]
    fn consumed(&self) -> &AtomicU32 {
        // SAFETY: promised to be valid by whoever built an end.
        unsafe { self.consumed.as_ref() }
    }
}

/// How many entries lie between `consumed` and `published`, if that is possible at all.
#[inline]
fn in_flight(published: u32, consumed: u32) -> Option<u32> {
    let count = published.wrapping_sub(consumed);
    (count <= RING_ENTRIES as u32).then_some(count)
}

/// The writing end.
#[derive(Debug)]
pub struct Producer {
    memory: RingMemory,
    next: u32,
    /// The consumer's cursor when it was last read and checked; at most a ring behind `next`.
    consumed: u32,
}

// SAFETY: the pointers lead to atomics in memory that the builder keeps alive; an end is used by
// one thread at a time because pushing takes `&mut self`.
unsafe impl Send for Producer {}

impl Producer {
    /// Starts at cursor 0 on zeroed memory.
    ///
    /// # Safety
    /// The memory must stay mapped and readable, `slots` and `published` writable, for the life of
    /// this value, and there may be no other producer on it.
    pub unsafe fn new(memory: RingMemory) -> Self {
        Self { memory, next: 0, consumed: 0 }
    }

    /// Free slots, as the consumer's cursor says now.
    ///
    /// # Errors
    /// The consumer's cursor is impossible.
    #[inline]
    pub fn free(&mut self) -> Result<u32, CursorViolation> {
        self.consumed = self.consumed()?;
        Ok(self.known_free())
    }

    /// Returns true if there are so many free slots. The consumer's cursor is read only if there
    /// were fewer when it was read last.
    ///
    /// # Errors
    /// It was read, and is impossible.
    #[inline]
    pub fn has_room(&mut self, slots: u32) -> Result<bool, CursorViolation> {
        Ok(self.known_free() >= slots || self.free()? >= slots)
    }

    /// Free slots when the consumer's cursor was last read.
    #[inline]
    fn known_free(&self) -> u32 {
        RING_ENTRIES as u32 - self.next.wrapping_sub(self.consumed)
    }

    /// Writes one entry; the consumer sees it after [`Self::publish`].
    ///
    /// # Errors
    /// No free slot, or the consumer's cursor was read and is impossible.
    #[inline]
    pub fn push(&mut self, entry: Entry) -> Result<(), PushError> {
        match self.has_room(1) {
            Err(violation) => Err(PushError::Violation(violation)),
            Ok(false) => Err(PushError::Full),
            Ok(true) => {
                self.memory.slot(self.next).store(entry);
                self.next = self.next.wrapping_add(1);
                Ok(())
            }
        }
    }

    /// Makes all pushed entries visible to the consumer.
    #[inline]
    pub fn publish(&self) {
        self.memory.published().store(self.next, Ordering::Release);
    }

    /// Entries ever pushed, modulo 2^32.
    #[inline]
    pub fn cursor(&self) -> u32 {
        self.next
    }

    /// Entries ever taken by the consumer, as it says now, modulo 2^32.
    ///
    /// # Errors
    /// The consumer's cursor is impossible.
    #[inline]
    pub fn consumed(&self) -> Result<u32, CursorViolation> {
        let other = self.memory.consumed().load(Ordering::Acquire);
        match in_flight(self.next, other) {
            Some(_) => Ok(other),
            None => Err(CursorViolation { own: self.next, other }),
        }
    }
}

/// The reading end.
#[derive(Debug)]
pub struct Consumer {
    memory: RingMemory,
    next: u32,
    /// The producer's cursor when it was last read and checked; at most a ring before `next`.
    published: u32,
}

// SAFETY: as for `Producer`.
unsafe impl Send for Consumer {}

impl Consumer {
    /// Starts at cursor 0 on zeroed memory.
    ///
    /// # Safety
    /// The memory must stay mapped and readable, `consumed` writable, for the life of this value,
    /// and there may be no other consumer on it.
    pub unsafe fn new(memory: RingMemory) -> Self {
        Self { memory, next: 0, published: 0 }
    }

    /// Entries that can be popped, as the producer's cursor says now.
    ///
    /// # Errors
    /// The producer's cursor is impossible.
    #[inline]
    pub fn available(&self) -> Result<u32, CursorViolation> {
        let other = self.memory.published().load(Ordering::Acquire);
        in_flight(other, self.next).ok_or(CursorViolation { own: self.next, other })
    }

    /// Returns true if an entry can be popped. The producer's cursor is read only if all entries
    /// were popped that it counted when it was read last.
    ///
    /// # Errors
    /// It was read, and is impossible.
    #[inline]
    pub fn has_entry(&mut self) -> Result<bool, CursorViolation> {
        if self.published == self.next {
            self.published = self.next.wrapping_add(self.available()?);
        }
        Ok(self.published != self.next)
    }

    /// Takes the next entry, read once into a local. The slot goes back with [`Self::release`].
    ///
    /// # Errors
    /// The producer's cursor was read, and is impossible.
    #[inline]
    pub fn pop(&mut self) -> Result<Option<Entry>, CursorViolation> {
        if !self.has_entry()? {
            return Ok(None);
        }
        let entry = self.memory.slot(self.next).load();
        self.next = self.next.wrapping_add(1);
        Ok(Some(entry))
    }

    /// Gives the slots of all popped entries back to the producer.
    #[inline]
    pub fn release(&self) {
        self.memory.consumed().store(self.next, Ordering::Release);
    }

    /// Entries ever popped, modulo 2^32.
    #[inline]
    pub fn cursor(&self) -> u32 {
        self.next
    }
}

#[cfg(test)]
mod tests;

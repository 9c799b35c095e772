//! The receive queue: empty buffers in, filled buffers out.
//!
//! ```text
//!     settled      next            rung       filled      (free-running, modulo the ring)
//!        | published | with the NIC  | no bell  |
//! ```
//! `settled` trails `next` by the frames that are taken but not yet published: their entries in
//! the table of buffers stay, so that after a crash the VMM finds what the domain had not told.

use core::sync::atomic::{AtomicU16, Ordering};

use shared_ring::frame::MAX_RX_PARTS;
use shared_ring::layout::{NIC_RX_DESCRIPTORS, RX_SLOT_EMPTY};

use super::descriptor::{Descriptor, rx};
use crate::budget::{RX_DOORBELL_BATCH, RX_LOW_WATER};

const SIZE: u32 = NIC_RX_DESCRIPTORS as u32;
const _: () = assert!(SIZE.is_power_of_two());
/// A filled buffer in which a frame ends.
const WHOLE: u64 = rx::DONE | rx::END;

/// A buffer that the NIC has filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Number of the buffer.
    pub buffer: u16,
    /// Bytes in it, without frame check sequence.
    pub len: u16,
    /// The frame goes on in the next buffer.
    pub more: bool,
    /// The MAC reported an error.
    pub error: bool,
}

/// The NIC's receive ring and what the driver knows of it.
#[derive(Debug)]
pub struct ReceiveQueue<'m> {
    ring: &'m [Descriptor; NIC_RX_DESCRIPTORS],
    slots: &'m [AtomicU16; NIC_RX_DESCRIPTORS],
    settled: u32,
    next: u32,
    rung: u32,
    filled: u32,
    /// Parts of a frame were taken, and the rest was not.
    open: bool,
}

fn index(cursor: u32) -> usize {
    (cursor & (SIZE - 1)) as usize
}

impl<'m> ReceiveQueue<'m> {
    /// An empty queue; marks every descriptor as without a buffer.
    pub fn new(
        ring: &'m [Descriptor; NIC_RX_DESCRIPTORS],
        slots: &'m [AtomicU16; NIC_RX_DESCRIPTORS],
    ) -> Self {
        for (descriptor, slot) in ring.iter().zip(slots) {
            descriptor.store(0, 0);
            slot.store(RX_SLOT_EMPTY, Ordering::Relaxed);
        }
        Self { ring, slots, settled: 0, next: 0, rung: 0, filled: 0, open: false }
    }

    /// How many empty buffers can be given. One descriptor stays free: to the NIC, a full ring
    /// would look empty.
    pub fn room(&self) -> u32 {
        SIZE - 1 - self.filled.wrapping_sub(self.settled)
    }

    /// Gives the NIC an empty buffer; the NIC sees it after the doorbell. There must be room.
    pub fn provide(&mut self, iova: u64, buffer: u16) {
        let at = index(self.filled);
        self.slots[at].store(buffer, Ordering::Relaxed);
        // The second word holds the write-back status: zero it, or an old one looks done.
        self.ring[at].store(iova, 0);
        self.filled = self.filled.wrapping_add(1);
    }

    /// The value for the tail register, if ringing is worth a register write now.
    pub fn doorbell(&mut self) -> Option<u32> {
        let waiting = self.filled.wrapping_sub(self.rung);
        let with_nic = self.rung.wrapping_sub(self.next);
        let due = waiting >= RX_DOORBELL_BATCH || (waiting > 0 && with_nic < RX_LOW_WATER);
        due.then(|| {
            self.rung = self.filled;
            self.tail()
        })
    }

    /// What the tail register holds.
    pub fn tail(&self) -> u32 {
        index(self.rung) as u32
    }

    /// Returns true if the NIC has filled the buffers of the next frame.
    #[inline(always)]
    pub fn is_completed(&self) -> bool {
        self.completed().is_some()
    }

    /// What the NIC has written to the next descriptor, if the frame that it belongs to is whole.
    #[inline(always)]
    fn completed(&self) -> Option<u64> {
        if self.next == self.rung {
            return None;
        }
        let status = self.ring[index(self.next)].status();
        let is_whole = match status & (rx::DONE | rx::END) {
            WHOLE => true,
            // The rest of a frame that is being taken was seen with its first part.
            rx::DONE => self.open || self.is_whole(),
            _ => false,
        };
        is_whole.then_some(status)
    }

    /// Looks for the end of a frame that does not end in the next buffer. The NIC writes descriptors
    /// in order, and raises its interrupt for the last one of a frame.
    #[inline(never)]
    fn is_whole(&self) -> bool {
        let with_nic = self.rung.wrapping_sub(self.next);
        let statuses = (1..with_nic.min(MAX_RX_PARTS as u32))
            .map(|part| self.ring[index(self.next.wrapping_add(part))].status());
        statuses.take_while(|status| status & rx::DONE != 0).any(|status| status & rx::END != 0)
    }

    /// Takes the next filled buffer, if there is one and its frame is whole: after one that says
    /// that the frame goes on comes the one in which it does.
    #[inline(always)]
    pub fn take(&mut self) -> Option<Received> {
        let status = self.completed()?;
        let at = index(self.next);
        let buffer = self.slots[at].load(Ordering::Relaxed);
        self.next = self.next.wrapping_add(1);
        self.open = status & rx::END == 0;
        Some(Received {
            buffer,
            len: (status >> 32) as u16,
            more: status & rx::END == 0,
            error: status & rx::ERROR != 0,
        })
    }

    /// All that was taken has been published: forgets it, and returns the index of the next
    /// descriptor to look at.
    pub fn settle(&mut self) -> u32 {
        while self.settled != self.next {
            self.slots[index(self.settled)].store(RX_SLOT_EMPTY, Ordering::Relaxed);
            self.settled = self.settled.wrapping_add(1);
        }
        index(self.next) as u32
    }
}

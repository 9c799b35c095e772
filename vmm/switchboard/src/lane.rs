//! The switchboard's side of one life of a domain: its rings, and which receive buffers it owns.
//!
//! A receive buffer is either the switchboard's or the domain's. Providing it clears its header and
//! sets its ownership bit; returning it, in an entry that checks, clears the bit:
//!
//! ```text
//!             provide: header cleared, bit set
//! switchboard ---------------------------------> domain, NIC
//!      ^                                             |
//!      +---------------------------------------------+
//!             RX_DONE: every field checked, bit cleared
//! ```

use std::sync::atomic::{Ordering, fence};

use shared_ring::layout::{BUFFER_BYTES, CLEARED_HEADER_BYTES, RX_BUFFERS, RX_POOL_BASE};
use shared_ring::{Entry, EntryFlags, PushError};
use vm_memory::VolatileSlice;

use super::backlog::Backlog;
use super::violation::{RingName, Violation};
use microvm::domain::{DomainSlot, HostRings};

/// Bytes of an Ethernet header, the least a frame has.
pub(crate) const ETHERNET_HEADER_BYTES: usize = 14;

/// A received frame that checked. The switchboard owns its buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RxFrame {
    pub(crate) buffer: u16,
    /// Bytes of the frame.
    pub(crate) len: usize,
    /// The frame's first bytes, read once: what was checked is what is handed on.
    pub(crate) head: [u8; CLEARED_HEADER_BYTES],
    /// The NIC reported an error with it.
    pub(crate) damaged: bool,
}

impl RxFrame {
    /// The part of the frame that `head` holds.
    pub(crate) fn head(&self) -> &[u8] {
        &self.head[..self.len.min(CLEARED_HEADER_BYTES)]
    }

    /// Source MAC address.
    pub(crate) fn source(&self) -> &[u8] {
        &self.head[6..12]
    }
}

/// Where a receive buffer lies in a domain's RAM.
fn buffer_offset(buffer: u16) -> u64 {
    RX_POOL_BASE + u64::from(buffer) * BUFFER_BYTES as u64
}

fn buffer_slice(slot: &DomainSlot, buffer: u16, from: usize, len: usize) -> VolatileSlice<'_> {
    match slot.ram.slice(buffer_offset(buffer) + from as u64, len) {
        Ok(slice) => slice,
        // Callers checked `buffer` against the pool and `from + len` against the buffer.
        Err(_) => unreachable!("a receive buffer lies within the pool"),
    }
}

/// What follows the head of a frame, where it was received.
pub(crate) fn body<'a>(slot: &'a DomainSlot, frame: &RxFrame) -> VolatileSlice<'a> {
    let head = frame.head().len();
    buffer_slice(slot, frame.buffer, head, frame.len - head)
}

/// One ownership bit for each receive buffer.
struct Owned([u64; RX_BUFFERS / 64]);

impl Owned {
    fn set(&mut self, buffer: u16) {
        self.0[usize::from(buffer) / 64] |= 1 << (buffer % 64);
    }

    /// Clears the bit and says whether it was set.
    fn take(&mut self, buffer: u16) -> bool {
        let (word, bit) = (&mut self.0[usize::from(buffer) / 64], 1 << (buffer % 64));
        let was = *word & bit != 0;
        *word &= !bit;
        was
    }
}

/// One life of a domain, from install to its end.
pub(crate) struct LaneLife {
    pub(crate) epoch: u32,
    pub(crate) rings: HostRings,
    owned: Owned,
    /// Checked frames that wait for room in guests' rings.
    pub(crate) backlog: Backlog,
    /// Cleared at the first violation: the rings are not looked at any more.
    pub(crate) trusted: bool,
    /// TX_POST as far as it is published.
    posted: u32,
    /// RX_PROVIDE as far as it is published.
    provided: u32,
}

impl LaneLife {
    /// Makes the ends of the rings, which must be zeroed, and provides all receive buffers. Takes
    /// some hundred microseconds: called on the thread that builds the domain.
    ///
    /// # Errors
    /// The rings were not zeroed.
    pub(crate) fn new(slot: &DomainSlot, epoch: u32, guests: usize) -> Result<Self, Violation> {
        // SAFETY: a lane has one life at a time, and drops the one before first.
        let rings = unsafe { slot.host_rings() };
        let owned = Owned([0; RX_BUFFERS / 64]);
        let backlog = Backlog::new(guests);
        let mut life = Self { epoch, rings, owned, backlog, trusted: true, posted: 0, provided: 0 };
        for buffer in 0..RX_BUFFERS as u16 {
            life.give_back(slot, buffer)?;
        }
        life.rings.rx_provide.publish();
        life.provided = life.rings.rx_provide.cursor();
        Ok(life)
    }

    /// Provides a buffer; the domain sees it after [`Self::publish`].
    ///
    /// # Errors
    /// The domain's cursor is impossible, or the ring is full, which no domain that takes a buffer
    /// before it returns it can bring about.
    pub(crate) fn give_back(&mut self, slot: &DomainSlot, buffer: u16) -> Result<(), Violation> {
        buffer_slice(slot, buffer, 0, CLEARED_HEADER_BYTES).copy_from(&[0; CLEARED_HEADER_BYTES]);
        let entry = Entry {
            iova: slot.rx_pool_iova() + u64::from(buffer) * BUFFER_BYTES as u64,
            buffer,
            len: BUFFER_BYTES as u16,
            epoch: self.epoch as u16,
            ..Entry::default()
        };
        match self.rings.rx_provide.push(entry) {
            Ok(()) => {}
            Err(PushError::Full) => return Err(Violation::ReturnedUntaken { buffer }),
            Err(PushError::Violation(v)) => {
                return Err(Violation::cursor(RingName::RxProvide, v));
            }
        }
        self.owned.set(buffer);
        Ok(())
    }

    /// Publishes what was pushed, and wakes the domain if it is parked and would otherwise not
    /// notice: for frames to send, and for buffers if it had none left.
    ///
    /// The domain sets `parked`, fences, looks at its rings once more and waits; here the order is
    /// publish, fence, look at `parked`. So either the domain sees what was published or its kick
    /// is written, or both: no wakeup is lost.
    ///
    /// # Errors
    /// A cursor of the domain is impossible.
    pub(crate) fn publish(&mut self, slot: &DomainSlot) -> Result<bool, Violation> {
        let mut wake = false;
        if self.posted != self.rings.tx_post.cursor() {
            self.rings.tx_post.publish();
            self.posted = self.rings.tx_post.cursor();
            wake = true;
        }
        if self.provided != self.rings.rx_provide.cursor() {
            let taken = self.rings.rx_provide.consumed();
            let taken = taken.map_err(|v| Violation::cursor(RingName::RxProvide, v))?;
            wake |= taken == self.provided;
            self.rings.rx_provide.publish();
            self.provided = self.rings.rx_provide.cursor();
        }
        if !wake {
            return Ok(false);
        }
        fence(Ordering::SeqCst);
        let parked = slot.status().parked.load(Ordering::Relaxed) != 0;
        if parked {
            // An eventfd that cannot take more is readable already: nothing is lost.
            let _ = slot.kick.write(1);
        }
        Ok(parked)
    }

    /// The next frame that the domain received.
    ///
    /// # Errors
    /// The entry does not check.
    pub(crate) fn next_received(
        &mut self,
        slot: &DomainSlot,
    ) -> Result<Option<RxFrame>, Violation> {
        let ring = RingName::RxDone;
        let popped = self.rings.rx_done.pop().map_err(|v| Violation::cursor(ring, v))?;
        let Some(entry) = popped else { return Ok(None) };
        self.check_epoch(ring, &entry)?;
        if entry.flags != EntryFlags::NONE && entry.flags != EntryFlags::ERROR {
            return Err(Violation::UnknownFlags { ring, flags: entry.flags.0 });
        }
        let damaged = entry.flags == EntryFlags::ERROR;
        self.take_buffer(slot, entry.buffer, entry.len, damaged).map(Some)
    }

    /// Takes a buffer back from the domain, with what was received into it.
    ///
    /// # Errors
    /// It is not the domain's, the length is impossible, or nothing was received.
    pub(crate) fn take_buffer(
        &mut self,
        slot: &DomainSlot,
        buffer: u16,
        len: u16,
        damaged: bool,
    ) -> Result<RxFrame, Violation> {
        if usize::from(buffer) >= RX_BUFFERS {
            return Err(Violation::UnknownBuffer { ring: RingName::RxDone, buffer });
        }
        if !self.owned.take(buffer) {
            return Err(Violation::NotOwned { buffer });
        }
        let bytes = usize::from(len);
        if !(ETHERNET_HEADER_BYTES..=BUFFER_BYTES).contains(&bytes) {
            return Err(Violation::BadLength { buffer, len });
        }
        let mut frame = RxFrame { buffer, len: bytes, head: [0; CLEARED_HEADER_BYTES], damaged };
        let head = bytes.min(CLEARED_HEADER_BYTES);
        buffer_slice(slot, buffer, 0, head).copy_to(&mut frame.head[..head]);
        if frame.head == [0; CLEARED_HEADER_BYTES] {
            return Err(Violation::StaleHeader { buffer });
        }
        Ok(frame)
    }

    /// The next transmit buffer that the domain claims sent. Whether it was posted is the pool's
    /// to say.
    ///
    /// # Errors
    /// The entry does not check.
    pub(crate) fn next_claim(&mut self) -> Result<Option<u16>, Violation> {
        let ring = RingName::TxDone;
        let popped = self.rings.tx_done.pop().map_err(|v| Violation::cursor(ring, v))?;
        let Some(entry) = popped else { return Ok(None) };
        self.check_epoch(ring, &entry)?;
        if !entry.flags.is_known() {
            return Err(Violation::UnknownFlags { ring, flags: entry.flags.0 });
        }
        Ok(Some(entry.buffer))
    }

    fn check_epoch(&self, ring: RingName, entry: &Entry) -> Result<(), Violation> {
        let (found, expected) = (entry.epoch, self.epoch as u16);
        if found == expected {
            Ok(())
        } else {
            Err(Violation::WrongEpoch { ring, found, expected })
        }
    }

    /// That a domain has published nothing on these of its rings.
    ///
    /// # Errors
    /// It has.
    pub(crate) fn check_silent(&self, silent: &[RingName]) -> Result<(), Violation> {
        let rings =
            [(RingName::RxDone, &self.rings.rx_done), (RingName::TxDone, &self.rings.tx_done)];
        for (ring, end) in rings.into_iter().filter(|(ring, _)| silent.contains(ring)) {
            let entries = end.available().map_err(|v| Violation::cursor(ring, v))?;
            if entries != 0 {
                return Err(Violation::NotActive { ring, entries });
            }
        }
        Ok(())
    }

    /// Whether the domain has published a received frame, as far as one can see without taking it.
    pub(crate) fn has_received(&self) -> bool {
        self.rings.rx_done.available() != Ok(0)
    }

    /// Whether the domain has published a claim.
    pub(crate) fn has_claims(&self) -> bool {
        self.rings.tx_done.available() != Ok(0)
    }
}

/// A domain's place: permanent, with a life or without.
pub(crate) struct Lane {
    pub(crate) slot: std::sync::Arc<DomainSlot>,
    pub(crate) life: Option<Box<LaneLife>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::{FakeDomain, frame, slots};

    #[test]
    fn a_buffer_is_returned_once_for_each_time_it_is_provided() {
        let (slots, _) = slots();
        let mut life = LaneLife::new(&slots[0], 1, 1).unwrap();
        let mut domain = FakeDomain::new(&slots[0], 1);
        let buffer = domain.dma(&frame(false, 1, 100));
        assert_eq!(life.take_buffer(&slots[0], buffer, 100, false).unwrap().len, 100);
        let again = life.take_buffer(&slots[0], buffer, 100, false);
        assert_eq!(again.unwrap_err(), Violation::NotOwned { buffer });
        life.give_back(&slots[0], buffer).unwrap();
        domain.slot.ram.write(buffer_offset(buffer), &frame(false, 2, 100)).unwrap();
        assert!(life.take_buffer(&slots[0], buffer, 100, false).is_ok());
    }

    #[test]
    fn a_buffer_that_was_not_taken_cannot_come_back() {
        let (slots, _) = slots();
        let mut life = LaneLife::new(&slots[0], 1, 1).unwrap();
        let _domain = FakeDomain::new(&slots[0], 1);
        slots[0].ram.write(buffer_offset(5), &frame(false, 1, 100)).unwrap();
        life.take_buffer(&slots[0], 5, 100, false).unwrap();
        let refused = life.give_back(&slots[0], 5);
        assert_eq!(refused, Err(Violation::ReturnedUntaken { buffer: 5 }));
    }

    #[test]
    fn a_domain_that_ran_out_of_buffers_is_woken_by_new_ones() {
        let (slots, _) = slots();
        let mut life = LaneLife::new(&slots[0], 1, 1).unwrap();
        let mut domain = FakeDomain::new(&slots[0], 1);
        slots[0].status().parked.store(1, Ordering::SeqCst);
        let buffer = domain.dma(&frame(false, 1, 100)); // all are taken out of the ring here
        life.take_buffer(&slots[0], buffer, 100, false).unwrap();
        life.give_back(&slots[0], buffer).unwrap();
        assert_eq!(life.publish(&slots[0]), Ok(true));
        let second = domain.buffers.pop_front().unwrap().buffer;
        slots[0].ram.write(buffer_offset(second), &frame(false, 1, 100)).unwrap();
        life.take_buffer(&slots[0], second, 100, false).unwrap();
        life.give_back(&slots[0], second).unwrap();
        assert_eq!(life.publish(&slots[0]), Ok(false), "one is still waiting for it");
    }
}

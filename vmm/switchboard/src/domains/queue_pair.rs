//! The switchboard's side of one life of a domain: its rings, and which receive buffers it owns.
//!
//! This is all that the switchboard asks of a domain's queues: post a frame and hear that it is
//! done, provide a buffer and hear what was received into it. What a domain publishes is checked
//! here.
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
//!
//! Invariants: a buffer's bit is set exactly while the domain may return it; slots of RX_DONE and
//! TX_DONE go back only after their entries were dealt with; after [`QueuePair::distrust`] nothing
//! is believed any more.

use std::sync::atomic::{Ordering, fence};

use microvm::domain::{DomainSlot, HostRings};
use shared_ring::layout::{BUFFER_BYTES, CLEARED_HEADER_BYTES, RX_BUFFERS};
use shared_ring::{Entry, EntryFlags, PushError};

use super::backlog::Backlog;
use super::rx_frame::{RxFrame, RxPart, buffer_slice};
use crate::limits::ETHERNET_HEADER_BYTES;
use crate::violation::{RingName, Violation};

/// One ownership bit for each receive buffer.
#[derive(Debug)]
struct Owned([u64; RX_BUFFERS / 64]);

impl Owned {
    fn set(&mut self, buffer: u16) {
        self.0[usize::from(buffer) / 64] |= 1 << (buffer % 64);
    }

    /// Clears the bit, and returns true if it was set.
    fn take(&mut self, buffer: u16) -> bool {
        let (word, bit) = (&mut self.0[usize::from(buffer) / 64], 1 << (buffer % 64));
        let was = *word & bit != 0;
        *word &= !bit;
        was
    }
}

/// What must be known of a life to go on with its queues. Plain data, apart from the rings' memory;
/// its one writer is the [`QueuePair`] that holds it.
#[derive(Debug)]
struct QueueRecord {
    epoch: u32,
    /// Cleared at the first violation: the rings are not looked at any more.
    trusted: bool,
    /// TX_POST as far as it is published.
    posted: u32,
    /// RX_PROVIDE as far as it is published.
    provided: u32,
    /// RX_DONE as far as its slots went back.
    released: u32,
    /// Frames that were taken from RX_DONE, modulo 2^32.
    received: u32,
    owned: Owned,
}

/// One life's queues, from install to its end.
pub(crate) struct QueuePair {
    record: QueueRecord,
    rings: HostRings,
    /// Checked frames that wait for room in guests' rings.
    pub(crate) backlog: Backlog,
}

impl QueuePair {
    /// Makes the ends of the rings, which must be zeroed, and provides all receive buffers. Takes
    /// some hundred microseconds: called on the thread that builds the domain.
    ///
    /// # Errors
    /// The rings were not zeroed.
    pub(crate) fn new(slot: &DomainSlot, epoch: u32, guests: usize) -> Result<Self, Violation> {
        // SAFETY: a domain has one life at a time, and the one before is dropped first.
        let rings = unsafe { slot.host_rings() };
        let owned = Owned([0; RX_BUFFERS / 64]);
        let [posted, provided, released, received] = [0; 4];
        let record =
            QueueRecord { epoch, trusted: true, posted, provided, released, received, owned };
        let mut pair = Self { record, rings, backlog: Backlog::new(guests) };
        let ends = [
            (RingName::TxPost, &mut pair.rings.tx_post),
            (RingName::RxProvide, &mut pair.rings.rx_provide),
        ];
        for (ring, end) in ends {
            end.free().map_err(|v| Violation::cursor(ring, v))?;
        }
        for buffer in 0..RX_BUFFERS as u16 {
            pair.provide(slot, buffer)?;
        }
        pair.rings.rx_provide.publish();
        pair.record.provided = pair.rings.rx_provide.cursor();
        Ok(pair)
    }

    /// The life's number.
    #[inline]
    pub(crate) fn epoch(&self) -> u32 {
        self.record.epoch
    }

    /// Returns true if the domain has kept to the protocol so far.
    #[inline]
    pub(crate) fn is_trusted(&self) -> bool {
        self.record.trusted
    }

    /// The domain broke the protocol: its rings are to be ignored.
    pub(super) fn distrust(&mut self) {
        self.record.trusted = false;
    }

    /// Pushes an entry of a frame to be sent, and returns its cursor; `None` if the ring is full.
    /// The domain sees it after [`Self::publish`].
    ///
    /// # Errors
    /// The domain's cursor was read, because the ring seemed full, and is impossible.
    #[inline]
    pub(crate) fn post(&mut self, entry: Entry) -> Result<Option<u32>, Violation> {
        let ring = &mut self.rings.tx_post;
        let cursor = ring.cursor();
        match ring.push(Entry { epoch: self.record.epoch as u16, ..entry }) {
            Ok(()) => Ok(Some(cursor)),
            Err(PushError::Full) => Ok(None),
            Err(PushError::Violation(v)) => Err(Violation::cursor(RingName::TxPost, v)),
        }
    }

    /// Entries of TX_POST that the domain says it took, modulo 2^32; `None` if that is impossible.
    pub(crate) fn taken(&self) -> Option<u32> {
        self.rings.tx_post.consumed().ok()
    }

    /// Provides a buffer; the domain sees it after [`Self::publish`].
    ///
    /// # Errors
    /// The domain's cursor is impossible, or the ring is full, which no domain that takes a buffer
    /// before it returns it can bring about.
    pub(crate) fn provide(&mut self, slot: &DomainSlot, buffer: u16) -> Result<(), Violation> {
        buffer_slice(slot, buffer, 0, CLEARED_HEADER_BYTES).copy_from(&[0; CLEARED_HEADER_BYTES]);
        let entry = Entry {
            iova: slot.rx_pool_iova() + u64::from(buffer) * BUFFER_BYTES as u64,
            buffer,
            len: BUFFER_BYTES as u16,
            epoch: self.record.epoch as u16,
            ..Entry::default()
        };
        match self.rings.rx_provide.push(entry) {
            Ok(()) => {}
            Err(PushError::Full) => return Err(Violation::ReturnedUntaken { buffer }),
            Err(PushError::Violation(v)) => {
                return Err(Violation::cursor(RingName::RxProvide, v));
            }
        }
        self.record.owned.set(buffer);
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
        if self.record.posted != self.rings.tx_post.cursor() {
            // Once for each batch, whether or not the room is needed: nonsense is found at once.
            self.rings.tx_post.free().map_err(|v| Violation::cursor(RingName::TxPost, v))?;
            self.rings.tx_post.publish();
            self.record.posted = self.rings.tx_post.cursor();
            wake = true;
        }
        if self.record.provided != self.rings.rx_provide.cursor() {
            let taken = self.rings.rx_provide.consumed();
            let taken = taken.map_err(|v| Violation::cursor(RingName::RxProvide, v))?;
            wake |= taken == self.record.provided;
            self.rings.rx_provide.publish();
            self.record.provided = self.rings.rx_provide.cursor();
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

    /// The next frame that the domain received. The ring's slots go back with
    /// [`Self::release_received`].
    ///
    /// # Errors
    /// An entry does not check, or those of a frame do not make a whole one: a domain publishes
    /// them together.
    pub(crate) fn next_received(
        &mut self,
        slot: &DomainSlot,
    ) -> Result<Option<RxFrame>, Violation> {
        let Some(part) = self.next_part()? else { return Ok(None) };
        self.record.received = self.record.received.wrapping_add(1);
        match part.more {
            false => self.begin_frame(slot, part).map(Some),
            true => self.long_frame(slot, part).map(Some),
        }
    }

    /// A frame of several buffers, which begins with this part.
    #[inline(never)]
    fn long_frame(&mut self, slot: &DomainSlot, mut part: RxPart) -> Result<RxFrame, Violation> {
        let mut frame = self.begin_frame(slot, part)?;
        while part.more {
            let buffer = part.buffer;
            part = self.next_part()?.ok_or(Violation::HalfFrame { buffer })?;
            self.extend_frame(&mut frame, part)?;
        }
        Ok(frame)
    }

    /// The next entry of RX_DONE.
    #[inline]
    fn next_part(&mut self) -> Result<Option<RxPart>, Violation> {
        const MEANT: u16 = EntryFlags::MORE.0 | EntryFlags::ERROR.0;
        let ring = RingName::RxDone;
        let popped = self.rings.rx_done.pop().map_err(|v| Violation::cursor(ring, v))?;
        let Some(entry) = popped else { return Ok(None) };
        self.check_epoch(ring, &entry)?;
        if entry.flags.0 & !MEANT != 0 {
            return Err(Violation::UnknownFlags { ring, flags: entry.flags.0 });
        }
        Ok(Some(RxPart {
            buffer: entry.buffer,
            len: entry.len,
            more: entry.flags.contains(EntryFlags::MORE),
            damaged: entry.flags.contains(EntryFlags::ERROR),
        }))
    }

    /// Gives the ring slots of all frames that were taken back to the domain.
    pub(crate) fn release_received(&mut self) {
        // The domain's processor has this cache line: it must not be written for nothing.
        let cursor = self.rings.rx_done.cursor();
        if std::mem::replace(&mut self.record.released, cursor) != cursor {
            self.rings.rx_done.release();
        }
    }

    /// Frames that the domain has published and the switchboard has taken, modulo 2^32.
    pub(crate) fn received(&self) -> u32 {
        self.record.received
    }

    /// Takes the buffer that a frame begins in back from the domain.
    ///
    /// # Errors
    /// The buffer is not the domain's, the length is impossible, or nothing was received.
    #[inline]
    pub(crate) fn begin_frame(
        &mut self,
        slot: &DomainSlot,
        part: RxPart,
    ) -> Result<RxFrame, Violation> {
        self.take_buffer(part, ETHERNET_HEADER_BYTES)?;
        let mut head = [0; CLEARED_HEADER_BYTES];
        let len = usize::from(part.len).min(CLEARED_HEADER_BYTES);
        buffer_slice(slot, part.buffer, 0, len).copy_to(&mut head[..len]);
        if head == [0; CLEARED_HEADER_BYTES] {
            return Err(Violation::StaleHeader { buffer: part.buffer });
        }
        Ok(RxFrame::new(part, head))
    }

    /// Takes the next buffer of a frame back, after one that said that there are more. What a frame
    /// goes on with may well be zeroes, so its head tells nothing.
    ///
    /// # Errors
    /// The buffer is not the domain's, the length is impossible, or the frame has more buffers than
    /// the longest one.
    pub(crate) fn extend_frame(
        &mut self,
        frame: &mut RxFrame,
        part: RxPart,
    ) -> Result<(), Violation> {
        self.take_buffer(part, 1)?;
        match frame.append(part) {
            true => Ok(()),
            false => Err(Violation::EndlessFrame { buffer: part.buffer }),
        }
    }

    /// Takes a buffer back from the domain. It has a part of a frame, of at least so many bytes; one
    /// behind which the frame goes on is full.
    #[inline]
    fn take_buffer(&mut self, part: RxPart, least_bytes: usize) -> Result<(), Violation> {
        let RxPart { buffer, len, .. } = part;
        if usize::from(buffer) >= RX_BUFFERS {
            return Err(Violation::UnknownBuffer { ring: RingName::RxDone, buffer });
        }
        if !self.record.owned.take(buffer) {
            return Err(Violation::NotOwned { buffer });
        }
        let least_bytes = if part.more { BUFFER_BYTES } else { least_bytes };
        match (least_bytes..=BUFFER_BYTES).contains(&usize::from(len)) {
            true => Ok(()),
            false => Err(Violation::BadLength { buffer, len }),
        }
    }

    /// Provides the buffers of a frame that was disposed of, as [`Self::provide`] does.
    ///
    /// # Errors
    /// As for [`Self::provide`].
    pub(crate) fn give_back(
        &mut self,
        slot: &DomainSlot,
        frame: &RxFrame,
    ) -> Result<(), Violation> {
        self.provide(slot, frame.first_buffer())?;
        frame.further_buffers().iter().try_for_each(|buffer| self.provide(slot, *buffer))
    }

    /// The next transmit buffer that the domain claims sent; the transmit pool knows whether it was
    /// posted. The ring's slot goes back with [`Self::release_claims`].
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

    /// Gives the ring slots of all claims that were read back to the domain.
    pub(crate) fn release_claims(&mut self) {
        self.rings.tx_done.release();
    }

    fn check_epoch(&self, ring: RingName, entry: &Entry) -> Result<(), Violation> {
        let (found, expected) = (entry.epoch, self.record.epoch as u16);
        if found == expected {
            Ok(())
        } else {
            Err(Violation::WrongEpoch { ring, found, expected })
        }
    }

    /// Checks that the domain has published nothing on these of its rings.
    ///
    /// # Errors
    /// It has published something.
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

    /// Returns true if the domain has published a received frame by now, as far as that shows
    /// without taking it.
    #[inline]
    pub(crate) fn has_received(&self) -> bool {
        self.rings.rx_done.available() != Ok(0)
    }

    /// Returns true if the domain has published a claim.
    #[inline]
    pub(crate) fn has_claims(&self) -> bool {
        self.rings.tx_done.available() != Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::rx_frame::buffer_offset;
    use super::*;
    use crate::fakes::{FakeDomain, frame, slots};

    fn part(buffer: u16) -> RxPart {
        RxPart { buffer, len: 100, ..RxPart::default() }
    }

    #[test]
    fn a_buffer_is_returned_once_for_each_time_it_is_provided() {
        let (slots, _) = slots();
        let mut pair = QueuePair::new(&slots[0], 1, 1).unwrap();
        let mut domain = FakeDomain::new(&slots[0], 1);
        let buffer = domain.dma(&frame(false, 1, 100));
        assert_eq!(pair.begin_frame(&slots[0], part(buffer)).unwrap().len, 100);
        let again = pair.begin_frame(&slots[0], part(buffer));
        assert_eq!(again.unwrap_err(), Violation::NotOwned { buffer });
        pair.provide(&slots[0], buffer).unwrap();
        domain.slot.ram.write(buffer_offset(buffer), &frame(false, 2, 100)).unwrap();
        assert!(pair.begin_frame(&slots[0], part(buffer)).is_ok());
    }

    #[test]
    fn a_buffer_that_was_not_taken_cannot_come_back() {
        let (slots, _) = slots();
        let mut pair = QueuePair::new(&slots[0], 1, 1).unwrap();
        let _domain = FakeDomain::new(&slots[0], 1);
        slots[0].ram.write(buffer_offset(5), &frame(false, 1, 100)).unwrap();
        pair.begin_frame(&slots[0], part(5)).unwrap();
        let refused = pair.provide(&slots[0], 5);
        assert_eq!(refused, Err(Violation::ReturnedUntaken { buffer: 5 }));
    }

    #[test]
    fn a_domain_that_ran_out_of_buffers_is_woken_by_new_ones() {
        let (slots, _) = slots();
        let mut pair = QueuePair::new(&slots[0], 1, 1).unwrap();
        let mut domain = FakeDomain::new(&slots[0], 1);
        slots[0].status().parked.store(1, Ordering::SeqCst);
        let buffer = domain.dma(&frame(false, 1, 100)); // all are taken out of the ring here
        pair.begin_frame(&slots[0], part(buffer)).unwrap();
        pair.provide(&slots[0], buffer).unwrap();
        assert_eq!(pair.publish(&slots[0]), Ok(true));
        let second = domain.buffers.pop_front().unwrap().buffer;
        slots[0].ram.write(buffer_offset(second), &frame(false, 1, 100)).unwrap();
        pair.begin_frame(&slots[0], part(second)).unwrap();
        pair.provide(&slots[0], second).unwrap();
        assert_eq!(pair.publish(&slots[0]), Ok(false), "one is still waiting for it");
    }
}

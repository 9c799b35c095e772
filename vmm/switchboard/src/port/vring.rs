//! One virtqueue of a guest.
//!
//! The addresses are `virtio-queue`'s, which knows how they may lie. Both sides of the ring are
//! served here: a frame that is merged from several chains must become visible whole
//! (`virtio-queue` publishes each chain), and a batch needs one store of the used index and one
//! look at the available index, not one for each frame.
//!
//! Chains are used when they are copied, so between two turns of the loop `next_avail` and the used
//! index agree, and nothing of the guest's is in flight.
//!
//! What a guest can cost is bounded: a ring of which [`TURN_DESCRIPTORS`] were read in a turn is
//! looked at again in the next, chains that were too few for a frame are not walked again until
//! there are more, and a ring that gives [`MOST_MALFORMED`] malformed chains in a row is stopped.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress};

use super::chain::Chain;
use super::dirty::Marks;
use super::doorbell::{Call, Kick};
use super::memory::GuestMemory;
use super::offloads::Offloads;
use super::scatter::{MalformedChain, Segments, load_u16};
use crate::limits::TURN_DESCRIPTORS;

/// Largest virtqueue, in descriptors (virtio 1.3, 2.7).
pub(crate) const MAX_QUEUE_SIZE: u16 = 32768;

/// Malformed chains in a row at which a ring is stopped: no driver makes one. Frames that are too
/// long, or ask for what was not offered, are not meant; a user of the guest may send those.
const MOST_MALFORMED: u16 = 256;

/// `VIRTQ_AVAIL_F_NO_INTERRUPT` (virtio 1.3, 2.7.6).
const AVAIL_NO_INTERRUPT: u16 = 1;

/// Why a virtqueue cannot be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum VringError {
    /// Not a power of two, zero, or too large.
    #[error("{0} is no size for a virtqueue")]
    Size(u32),
    /// Misaligned, or not in the guest's memory.
    #[error("a part of the virtqueue lies outside the guest's memory, or askew")]
    Address,
}

/// Where a virtqueue lies and how it is to be served.
#[derive(Clone, Debug)]
pub(crate) struct VringConfig {
    /// Descriptors.
    pub(crate) size: u32,
    /// Guest-physical address of the descriptor table.
    pub(crate) descriptors: u64,
    /// Guest-physical address of the available ring.
    pub(crate) available: u64,
    /// Guest-physical address of the used ring.
    pub(crate) used: u64,
    /// The guest's memory.
    pub(crate) memory: Arc<GuestMemory>,
    /// How the guest wakes the switchboard.
    pub(crate) kick: Kick,
    /// How the switchboard wakes the guest.
    pub(crate) call: Call,
    /// Signalled when the ring is corrupt.
    pub(crate) error: Call,
    /// A disabled receive ring gets nothing; what is in a disabled transmit ring is thrown away.
    pub(crate) enabled: bool,
    /// `VIRTIO_F_RING_EVENT_IDX` was negotiated.
    pub(crate) event_idx: bool,
    /// `VIRTIO_NET_F_MRG_RXBUF` was negotiated.
    pub(crate) mergeable: bool,
    /// Bytes of the header before each frame (virtio 1.3, 5.1.6).
    pub(crate) header_bytes: usize,
    /// What the guest may leave to be done, as negotiated.
    pub(crate) offloads: Offloads,
    /// Which writes to the guest's memory are marked.
    pub(crate) marks: Marks,
}

/// What [`Vring::pop`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Popped {
    /// No chain.
    Empty,
    /// A chain; its buffers are in the list.
    Chain { head: u16, bytes: usize },
    /// A chain without sense; nothing was added to the list.
    Malformed { head: u16 },
}

/// A started virtqueue.
#[derive(Debug)]
pub(crate) struct Vring {
    queue: Queue,
    pub(crate) memory: Arc<GuestMemory>,
    pub(crate) kick: Kick,
    call: Call,
    error: Call,
    pub(crate) enabled: bool,
    pub(crate) mergeable: bool,
    pub(crate) header_bytes: usize,
    pub(crate) offloads: Offloads,
    pub(super) marks: Marks,
    /// Cleared when the guest's indices make no sense, until the ring is started anew.
    intact: bool,
    /// [`Self::newly_broken`] has told of it.
    told: bool,
    /// Available index as it was read last; chains up to there can be taken.
    available: u16,
    /// Available index up to which chains were looked at, whether or not they were taken.
    looked: u16,
    /// Used index after all chains that were given back.
    used: u16,
    /// Used index as it stands in the guest's memory.
    published: u16,
    /// Descriptors read since the last [`Self::publish`].
    read: u32,
    /// Malformed chains since the last good one.
    malformed: u16,
    /// Bytes for which the chains up to `looked` were too few; 0 if that is not known.
    short_of: usize,
}

impl Vring {
    /// Makes a virtqueue, positioned at the used index that stands in the guest's memory: chains
    /// that an earlier back-end had not used will be looked at.
    ///
    /// # Errors
    /// The size or an address is impossible.
    pub(crate) fn new(config: VringConfig) -> Result<Self, VringError> {
        let size = u16::try_from(config.size).map_err(|_| VringError::Size(config.size))?;
        let mut queue = Queue::new(MAX_QUEUE_SIZE).map_err(|_| VringError::Size(config.size))?;
        queue.try_set_size(size).map_err(|_| VringError::Size(config.size))?;
        queue
            .try_set_desc_table_address(GuestAddress(config.descriptors))
            .and_then(|()| queue.try_set_avail_ring_address(GuestAddress(config.available)))
            .and_then(|()| queue.try_set_used_ring_address(GuestAddress(config.used)))
            .map_err(|_| VringError::Address)?;
        queue.set_event_idx(config.event_idx);
        queue.set_ready(true);
        if config.available == 0 || !queue.is_valid(&*config.memory) {
            return Err(VringError::Address);
        }
        let mut vring = Self {
            queue,
            memory: config.memory,
            kick: config.kick,
            call: config.call,
            error: config.error,
            enabled: config.enabled,
            mergeable: config.mergeable,
            header_bytes: config.header_bytes,
            offloads: config.offloads,
            marks: config.marks,
            intact: true,
            told: false,
            available: 0,
            looked: 0,
            used: 0,
            published: 0,
            read: 0,
            malformed: 0,
            short_of: 0,
        };
        vring.find_position();
        Ok(vring)
    }

    /// Index of the next chain, which is also the used index: nothing is in flight.
    pub(crate) fn position(&self) -> u16 {
        self.queue.next_avail()
    }

    /// Continues at the used index that stands in the guest's memory.
    pub(crate) fn find_position(&mut self) {
        match self.queue.used_idx(&*self.memory, Ordering::Acquire) {
            Ok(position) => {
                self.queue.set_next_avail(position.0);
                self.queue.set_next_used(position.0);
                self.available = position.0;
                self.looked = position.0;
                self.used = position.0;
                self.published = position.0;
                self.short_of = 0;
            }
            Err(_) => self.break_off(),
        }
    }

    /// Returns true if the guest's indices have made sense so far.
    pub(crate) fn is_intact(&self) -> bool {
        self.intact
    }

    /// Descriptors, which is also the most chains that can be available at once.
    pub(crate) fn size(&self) -> u16 {
        self.queue.size()
    }

    /// Stops looking at a corrupt ring, and tells the front-end.
    pub(crate) fn break_off(&mut self) {
        if std::mem::replace(&mut self.intact, false) {
            self.error.signal();
        }
    }

    /// Returns true if a file of the front-end's was truncated under it.
    pub(super) fn is_truncated(&self) -> bool {
        self.memory.is_truncated() || self.marks.is_truncated()
    }

    /// Returns true if the ring is corrupt, but only once.
    pub(crate) fn newly_broken(&mut self) -> bool {
        !self.intact && !std::mem::replace(&mut self.told, true)
    }

    /// Returns true if the ring has cost so much in this turn that it is looked at in the next.
    #[inline]
    pub(super) fn is_spent(&self) -> bool {
        self.read >= TURN_DESCRIPTORS
    }

    /// Returns true if the chains that there are were too few for a frame of no more bytes.
    #[inline]
    pub(super) fn is_short_of(&mut self, bytes: usize) -> bool {
        self.short_of != 0 && bytes >= self.short_of && !self.has_new_chains()
    }

    /// Notes that all chains together are too few for so many bytes.
    pub(super) fn note_short_of(&mut self, bytes: usize) {
        self.short_of = bytes;
    }

    /// Returns true if there are chains that were not looked at.
    fn has_new_chains(&mut self) -> bool {
        // The index is read again, because all that it counted was looked at.
        self.read_available() && self.available != self.looked
    }

    /// Returns true if the guest has made chains available, and this turn may look at them. The
    /// guest's index is read only if there were none when it was read last.
    #[inline]
    pub(crate) fn has_chains(&mut self) -> bool {
        let next = self.queue.next_avail();
        let any = self.intact && (self.available != next || self.read_available());
        any && self.available != next && !self.is_spent()
    }

    /// Reads the guest's available index, if the ring is intact. Returns false if it is impossible:
    /// more chains than the ring has.
    fn read_available(&mut self) -> bool {
        let address = self.queue.avail_ring() + 2;
        match load_u16(&self.memory, address) {
            Ok(index) if index.wrapping_sub(self.queue.next_avail()) <= self.queue.size() => {
                self.available = index;
                true
            }
            Ok(_) | Err(MalformedChain) => {
                self.break_off();
                false
            }
        }
    }

    /// Takes the next chain and appends its buffers to `segments`.
    pub(crate) fn pop(&mut self, segments: &mut Segments, writable: bool) -> Popped {
        let next = self.queue.next_avail();
        if !self.intact || (self.available == next && !self.read_available()) {
            return Popped::Empty;
        }
        if self.available == next {
            self.looked = next;
            return Popped::Empty;
        }
        // The size is a power of two.
        let place = u64::from(next & (self.queue.size() - 1));
        let head = load_u16(&self.memory, self.queue.avail_ring() + 4 + 2 * place);
        let Some(head) = head.ok().filter(|head| *head < self.queue.size()) else {
            self.break_off();
            return Popped::Empty;
        };
        self.queue.set_next_avail(next.wrapping_add(1));
        self.looked = next.wrapping_add(1);
        self.short_of = 0;
        self.walk(segments, head, writable)
    }

    /// Walks the chain that begins at a descriptor.
    fn walk(&mut self, segments: &mut Segments, head: u16, writable: bool) -> Popped {
        let (table, size) = (self.queue.desc_table(), self.queue.size());
        let mut chain = Chain::new(&self.memory, table, size, head);
        let added = segments.add(&self.memory, &mut chain, writable, size);
        self.read = self.read.saturating_add(chain.read());
        match added {
            Ok(bytes) => {
                self.malformed = 0;
                Popped::Chain { head, bytes }
            }
            Err(MalformedChain) => {
                self.malformed = self.malformed.saturating_add(1);
                if self.malformed >= MOST_MALFORMED {
                    self.break_off();
                }
                Popped::Malformed { head }
            }
        }
    }

    /// Leaves the last `chains` popped chains in the guest's ring after all.
    pub(crate) fn unpop(&mut self, chains: usize) {
        let next = self.queue.next_avail().wrapping_sub(chains as u16);
        self.queue.set_next_avail(next);
        // Read again, and checked against this place.
        self.available = next;
    }

    /// Gives a chain back with `bytes` written to it; the guest sees it after [`Self::publish`].
    pub(crate) fn push_used(&mut self, head: u16, bytes: usize) {
        let element = u64::from(head) | (bytes as u64) << 32;
        let offset = 4 + 8 * u64::from(self.used & (self.queue.size() - 1));
        let address = GuestAddress(self.queue.used_ring() + offset);
        // Not one store, for it need not be aligned: the index makes it visible.
        match self.memory.piece(address.0, 8) {
            Some(piece) if piece.len() == 8 => piece.copy_from(&element.to_le_bytes()),
            // Across two regions, or nowhere.
            _ => {
                if self.memory.write_obj(element.to_le(), address).is_err() {
                    self.break_off();
                }
            }
        }
        self.marks.used(offset, 8);
        self.used = self.used.wrapping_add(1);
    }

    /// Shows the guest all chains that were given back. Returns true if it was interrupted.
    pub(crate) fn publish(&mut self) -> bool {
        self.read = 0;
        if self.used == self.published || !self.intact {
            return false;
        }
        let old = std::mem::replace(&mut self.published, self.used);
        let index = GuestAddress(self.queue.used_ring() + 2);
        let stored = self.memory.store(self.used.to_le(), index, Ordering::Release);
        self.queue.set_next_used(self.used);
        self.marks.used(2, 2);
        self.marks.tell();
        // The guest publishes how it wants to be interrupted, then looks at the index; here the
        // other way round. One of the two sees the other (virtio 1.3, 2.7.10).
        fence(Ordering::SeqCst);
        match stored.map_err(|_| MalformedChain).and_then(|()| self.wants_call(old)) {
            Ok(true) => {
                self.call.signal();
                self.call.is_present()
            }
            Ok(false) => false,
            Err(MalformedChain) => {
                self.break_off();
                false
            }
        }
    }

    /// Returns true if the guest wants to hear that the used index went from `old` to where it is.
    fn wants_call(&self, old: u16) -> Result<bool, MalformedChain> {
        let (memory, available) = (&*self.memory, self.queue.avail_ring());
        if self.queue.event_idx_enabled() {
            let event = load_u16(memory, available + 4 + 2 * u64::from(self.queue.size()))?;
            let passed = self.used.wrapping_sub(event).wrapping_sub(1);
            return Ok(passed < self.used.wrapping_sub(old));
        }
        Ok(load_u16(memory, available)? & AVAIL_NO_INTERRUPT == 0)
    }

    /// Asks for a kick at the next chain that was not looked at. Returns true if there is one
    /// already.
    ///
    /// (`virtio-queue` would ask from the next chain that was not *taken*: where a frame waits for
    /// more chains than there are, that one never comes anew.)
    pub(crate) fn arm(&mut self) -> bool {
        if !self.intact {
            return false;
        }
        match self.try_arm() {
            Ok(more) => more,
            Err(MalformedChain) => {
                self.break_off();
                false
            }
        }
    }

    fn try_arm(&self) -> Result<bool, MalformedChain> {
        let memory = &*self.memory;
        let (offset, value) = if self.queue.event_idx_enabled() {
            (4 + 8 * u64::from(self.queue.size()), self.looked)
        } else {
            (0, 0)
        };
        let address = GuestAddress(self.queue.used_ring() + offset);
        memory.store(value.to_le(), address, Ordering::Relaxed).map_err(|_| MalformedChain)?;
        self.marks.used(offset, 2);
        self.marks.tell();
        // The guest stores its index, then looks whether it should kick; here the other way round.
        fence(Ordering::SeqCst);
        Ok(load_u16(memory, self.queue.avail_ring() + 2)? != self.looked)
    }

    /// Asks for no kicks while the loop runs anyway.
    pub(crate) fn disarm(&mut self) {
        if !self.intact {
            return;
        }
        if self.queue.disable_notification(&*self.memory).is_err() {
            self.break_off();
        }
        // With event indices there is nothing to write: they ask for one kick each.
        if !self.queue.event_idx_enabled() {
            self.marks.used(0, 2);
            self.marks.tell();
        }
    }
}

#[cfg(test)]
mod tests;

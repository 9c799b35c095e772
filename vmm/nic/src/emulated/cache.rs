//! Descriptors on the chip: fetched ahead, and from then on blind to what the driver writes in
//! memory (i210 datasheet §7.1.4.3, §7.2.2.5: 16 of receive, 24 of transmit).

use super::dma::{Descriptor, DmaView};
use super::queue::{Position, Ring};

/// Up to `N` fetched descriptors of a queue, from its head on.
pub(super) struct DescriptorCache<const N: usize> {
    generation: u32,
    descriptors: [Descriptor; N],
    first: usize,
    count: usize,
    /// Index in the ring of the first.
    head: u32,
    /// A fetch failed: nothing more comes of this queue until it starts anew.
    stuck: bool,
}

impl<const N: usize> DescriptorCache<N> {
    pub(super) fn new() -> Self {
        Self { generation: 0, descriptors: [[0; 2]; N], first: 0, count: 0, head: 0, stuck: false }
    }

    /// Forgets everything if the queue started anew, and says so.
    pub(super) fn follow(&mut self, position: Position) -> bool {
        if position.generation == self.generation {
            return false;
        }
        self.generation = position.generation;
        self.head = u32::from(position.head);
        self.stuck = false;
        self.clear();
        true
    }

    pub(super) fn generation(&self) -> u32 {
        self.generation
    }

    /// Index of the descriptor that is used next.
    pub(super) fn head(&self) -> u32 {
        self.head
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn clear(&mut self) {
        self.count = 0;
    }

    /// Fetches what the tail has released, as far as there is room.
    pub(super) fn refill(&mut self, ring: &Ring, dma: &DmaView<'_>) {
        while self.count < N && !self.stuck && ring.entries != 0 {
            let index = (self.head + self.count as u32) % ring.entries;
            // Cached descriptors count as long as the head has not passed them, so a full lap of
            // the ring never looks like an empty one.
            let released = ring.available(self.head) as usize;
            if self.count >= released {
                return;
            }
            match dma.read_descriptor(ring.address(index)) {
                Ok(descriptor) => {
                    self.descriptors[(self.first + self.count) % N] = descriptor;
                    self.count += 1;
                }
                Err(_) => self.stuck = true,
            }
        }
    }

    /// Returns true if a ring is out of reach.
    pub(super) fn is_stuck(&self) -> bool {
        self.stuck
    }

    /// The descriptor that is used next, if it was fetched.
    pub(super) fn first(&self) -> Option<Descriptor> {
        (self.count != 0).then(|| self.descriptors[self.first])
    }

    /// Goes on to the next.
    pub(super) fn pop(&mut self, ring: &Ring) {
        if self.count != 0 {
            self.first = (self.first + 1) % N;
            self.count -= 1;
            self.head = if self.head + 1 < ring.entries { self.head + 1 } else { 0 };
        }
    }
}

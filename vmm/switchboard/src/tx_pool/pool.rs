//! The transmit pool: its ledger and its memory.
//!
//! Frames on their way in are copied, looked at, and only then taken in.
//!
//! Invariant: a frame's bytes are in its buffers before the ledger takes it in, and a buffer that
//! is in line is not written.

use std::sync::Arc;

use platform::memory::SharedMemory;
use shared_ring::layout::BUFFER_BYTES;
use vm_memory::VolatileSlice;

use super::checksum;
use super::ledger::TxLedger;
use super::memory::PoolMemory;
use crate::limits::{MAX_FRAME_BUFFERS, MIN_FRAME_BYTES};
use crate::port::Checksum;
use crate::tx_buffers::is_for_guests;

/// A frame in the buffers that are taken next.
#[derive(Debug)]
pub(crate) struct Staged {
    /// Of the frame, padded.
    bytes: usize,
    /// What is left to the NIC.
    checksum: Option<Checksum>,
}

/// The pool.
pub(crate) struct TxPool {
    memory: PoolMemory,
    /// Whose each buffer is.
    pub(crate) ledger: TxLedger,
}

impl TxPool {
    pub(crate) fn new(memory: Arc<SharedMemory>, guests: usize) -> Self {
        Self { memory: PoolMemory::new(memory), ledger: TxLedger::new(guests) }
    }

    /// Copies a frame of `bytes` (at most [`MAX_FRAME_BYTES`](nic::wire::MAX_FRAME_BYTES), and
    /// [`TxLedger::has_room`]) into buffers that stay free: `copy` fills one after the other. A
    /// `checksum` must lie within it. Then comes [`Self::queue`], or the next frame in its place.
    ///
    /// # Errors
    /// As `copy` says.
    pub(crate) fn stage<E>(
        &mut self,
        bytes: usize,
        checksum: Option<Checksum>,
        mut copy: impl FnMut(VolatileSlice<'_>) -> Result<(), E>,
    ) -> Result<Staged, E> {
        let padded = bytes.max(MIN_FRAME_BYTES);
        debug_assert!(padded.div_ceil(BUFFER_BYTES) <= MAX_FRAME_BUFFERS);
        for (n, buffer) in self.ledger.next_free(padded).iter().enumerate() {
            let here = bytes.saturating_sub(n * BUFFER_BYTES).min(BUFFER_BYTES);
            copy(self.memory.slice(*buffer, 0, here))?;
            if bytes < MIN_FRAME_BYTES {
                self.memory
                    .slice(*buffer, bytes, MIN_FRAME_BYTES - bytes)
                    .copy_from(&[0u8; MIN_FRAME_BYTES][bytes..]);
            }
        }
        let mut staged = Staged { bytes: padded, checksum };
        if checksum.is_some_and(|checksum| !checksum.suits_nic()) {
            self.complete(&mut staged);
        }
        Ok(staged)
    }

    /// Computes the checksum that the NIC would compute, for guests that get the frame without it.
    pub(crate) fn complete(&self, staged: &mut Staged) {
        if let Some(wanted) = staged.checksum.take() {
            checksum::insert(&self.memory, self.staged_buffers(staged), staged.bytes, wanted);
        }
    }

    fn staged_buffers(&self, staged: &Staged) -> &[u16] {
        self.ledger.next_free(staged.bytes)
    }

    /// The head of a staged frame, zero-padded; at most a buffer's.
    #[inline]
    pub(crate) fn staged_head<const N: usize>(&self, staged: &Staged) -> [u8; N] {
        let mut head = [0; N];
        let len = staged.bytes.min(N);
        self.memory.slice(self.staged_buffers(staged)[0], 0, len).copy_to(&mut head[..len]);
        head
    }

    /// Copies as much of the head of a staged frame as there is room for, at most a buffer's.
    /// Returns how much that was.
    pub(crate) fn copy_head(&self, staged: &Staged, head: &mut [u8]) -> usize {
        let len = staged.bytes.min(head.len()).min(BUFFER_BYTES);
        self.memory.slice(self.staged_buffers(staged)[0], 0, len).copy_to(&mut head[..len]);
        len
    }

    /// All of a staged frame, in as many parts as it has buffers.
    pub(crate) fn staged_parts(
        &self,
        staged: &Staged,
    ) -> ([VolatileSlice<'_>; MAX_FRAME_BUFFERS], usize) {
        let buffers = self.staged_buffers(staged);
        let parts = std::array::from_fn(|n| {
            let left = staged.bytes.saturating_sub(n * BUFFER_BYTES).min(BUFFER_BYTES);
            // Places behind the last buffer are empty.
            self.memory.slice(buffers[n.min(buffers.len() - 1)], 0, left)
        });
        (parts, buffers.len())
    }

    /// Takes the staged frame in; it waits to be posted.
    pub(crate) fn queue(&mut self, guest: usize, staged: &Staged) {
        self.ledger.queue(guest, staged.bytes, staged.checksum);
    }

    /// The reserved buffers, for frames of the switchboard's own.
    pub(crate) fn reserved(&mut self) -> Reserved<'_> {
        Reserved(self)
    }

    /// Hands poison on, buffer by buffer, and frees it. `keep` is told whether a frame begins.
    pub(crate) fn drain_poison(&mut self, mut keep: impl FnMut(bool, VolatileSlice<'_>)) {
        for (number, buffer) in self.ledger.poison() {
            keep(buffer.first, self.memory.slice(number, 0, usize::from(buffer.len)));
        }
        self.ledger.free_poison();
    }
}

/// The buffers that are not for guests' frames: all that announcements and drills may do with the
/// pool.
pub(crate) struct Reserved<'a>(&'a mut TxPool);

impl Reserved<'_> {
    /// Returns true if a buffer is neither in line nor in a domain's hand.
    pub(crate) fn is_free(&self, number: u16) -> bool {
        self.0.ledger.is_free(number)
    }

    /// Writes a frame into a buffer that is free; at most [`BUFFER_BYTES`].
    pub(crate) fn write(&mut self, number: u16, frame: &[u8]) {
        debug_assert!(!is_for_guests(number) && self.is_free(number));
        self.0.memory.slice(number, 0, frame.len()).copy_from(frame);
    }

    /// Puts a buffer in line: before everything else, which must all be waiting, or last.
    pub(crate) fn queue(&mut self, number: u16, bytes: usize, first: bool) {
        self.0.ledger.queue_reserved(number, bytes, first);
    }
}

//! Frames on their way into the pool: copied, looked at, and only then taken in.

use shared_ring::layout::BUFFER_BYTES;
use vm_memory::VolatileSlice;

use super::{MAX_FRAME_BUFFERS, MIN_FRAME_BYTES, TxPool};
use crate::port::header::Checksum;

/// A frame in the buffers that are taken next.
#[derive(Debug)]
pub(crate) struct Staged {
    /// Of the frame, padded.
    pub(crate) bytes: usize,
    /// What is left to the NIC.
    pub(super) checksum: Option<Checksum>,
}

impl TxPool {
    /// Copies a frame of `bytes` (at most [`MAX_FRAME_BYTES`], [`Self::has_room`]) into buffers that
    /// stay free: `copy` fills one after the other. A `checksum` must lie within it. Then comes
    /// [`Self::queue`], or the next frame in its place.
    ///
    /// # Errors
    /// What `copy` says.
    pub(crate) fn stage<E>(
        &mut self,
        bytes: usize,
        checksum: Option<Checksum>,
        mut copy: impl FnMut(VolatileSlice<'_>) -> Result<(), E>,
    ) -> Result<Staged, E> {
        let padded = bytes.max(MIN_FRAME_BYTES);
        let count = padded.div_ceil(BUFFER_BYTES);
        debug_assert!(count <= self.free.len() && count <= MAX_FRAME_BUFFERS);
        let start = self.free.len() - count;
        for n in 0..count {
            let buffer = self.free[start + n];
            let here = bytes.saturating_sub(n * BUFFER_BYTES).min(BUFFER_BYTES);
            copy(self.slice(buffer, 0, here))?;
            if bytes < MIN_FRAME_BYTES {
                self.slice(buffer, bytes, MIN_FRAME_BYTES - bytes)
                    .copy_from(&[0u8; MIN_FRAME_BYTES][bytes..]);
            }
        }
        let mut staged = Staged { bytes: padded, checksum };
        if checksum.is_some_and(|checksum| !checksum.suits_nic()) {
            self.complete(&mut staged);
        }
        Ok(staged)
    }

    /// Computes what the NIC would compute, for those who get the frame without it.
    pub(crate) fn complete(&self, staged: &mut Staged) {
        if let Some(checksum) = staged.checksum.take() {
            self.insert_checksum(self.staged_buffers(staged), staged.bytes, checksum);
        }
    }

    fn staged_buffers(&self, staged: &Staged) -> &[u16] {
        &self.free[self.free.len() - staged.bytes.div_ceil(BUFFER_BYTES)..]
    }

    /// The head of a staged frame, zero-padded; at most a buffer's.
    pub(crate) fn staged_head<const N: usize>(&self, staged: &Staged) -> [u8; N] {
        let mut head = [0; N];
        let len = staged.bytes.min(N);
        self.slice(self.staged_buffers(staged)[0], 0, len).copy_to(&mut head[..len]);
        head
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
            self.slice(buffers[n.min(buffers.len() - 1)], 0, left)
        });
        (parts, buffers.len())
    }
}

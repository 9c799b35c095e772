//! The bytes of the transmit buffers.

use std::sync::Arc;

use platform::memory::SharedMemory;
use shared_ring::layout::BUFFER_BYTES;
use vm_memory::VolatileSlice;

/// The pool's memory, which every NIC may read and no domain has mapped.
pub(super) struct PoolMemory(Arc<SharedMemory>);

impl PoolMemory {
    pub(super) fn new(memory: Arc<SharedMemory>) -> Self {
        Self(memory)
    }

    /// Bytes of a buffer, for volatile copies.
    #[inline]
    pub(super) fn slice(&self, buffer: u16, from: usize, len: usize) -> VolatileSlice<'_> {
        match self.0.slice((usize::from(buffer) * BUFFER_BYTES + from) as u64, len) {
            Ok(slice) => slice,
            // Numbers come from the ledger, never from outside; the pool has a constant size.
            Err(_) => unreachable!("a transmit buffer lies within the pool"),
        }
    }
}

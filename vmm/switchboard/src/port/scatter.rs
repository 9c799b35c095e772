//! The buffers of a descriptor chain, checked once, and a cursor that copies through them.

use std::sync::atomic::Ordering;

use vm_memory::{Bytes, VolatileSlice};

use super::chain::Chain;
use super::memory::GuestMemory;
use super::vring::MAX_QUEUE_SIZE;

/// Descriptors that a chain may have however short its ring is: Linux makes indirect chains that are
/// longer than their ring, of 19 buffers at most.
const LEAST_DESCRIPTORS: usize = 128;
/// Descriptors that a frame in many chains may take, unless its ring has more.
const FRAME_DESCRIPTORS: usize = 64 * LEAST_DESCRIPTORS;

/// A part of a chain that lies in the guest's memory.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Segment {
    pub(crate) address: u64,
    pub(crate) len: usize,
}

/// A chain that no driver makes: descriptors outside memory, a loop, too many, the wrong direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MalformedChain;

/// The segments of one frame, in a list that is reused for every frame.
///
/// A chain may have as many descriptors as its ring (virtio 1.3, 2.7.5.3.1): Windows hands its
/// packets over in hundreds of pieces. Empty ones count too, so that a frame costs a bounded time.
pub(crate) struct Segments {
    /// Never longer than the capacity that it was made with.
    list: Vec<Segment>,
    /// Descriptors of the frame's chains.
    descriptors: usize,
}

impl Segments {
    /// Room for the longest chain of the largest ring. Pages of it that no frame needs stay unused.
    pub(crate) fn new() -> Self {
        Self { list: Vec::with_capacity(usize::from(MAX_QUEUE_SIZE)), descriptors: 0 }
    }

    pub(crate) fn clear(&mut self) {
        self.list.clear();
        self.descriptors = 0;
    }

    pub(crate) fn all(&self) -> &[Segment] {
        &self.list
    }

    /// Appends the buffers of a chain, all of which must be `writable` or none, of a ring of so many
    /// descriptors. Returns how many bytes they have. On an error the list is as before.
    pub(super) fn add(
        &mut self,
        memory: &GuestMemory,
        chain: &mut Chain<'_>,
        writable: bool,
        ring_size: u16,
    ) -> Result<usize, MalformedChain> {
        let before = self.list.len();
        let most = usize::from(ring_size).max(LEAST_DESCRIPTORS);
        let bytes = self.try_add(memory, chain, writable, most);
        if bytes.is_err() {
            self.list.truncate(before);
        }
        bytes
    }

    #[inline]
    fn try_add(
        &mut self,
        memory: &GuestMemory,
        chain: &mut Chain<'_>,
        writable: bool,
        most: usize,
    ) -> Result<usize, MalformedChain> {
        let mut bytes = 0;
        // The walk ends alike at the end of a chain, at a descriptor that cannot be read and after
        // as many descriptors as the ring has (a loop): only the first has no next.
        let mut ended = false;
        for (n, descriptor) in chain.enumerate() {
            ended = !descriptor.has_next();
            let len = descriptor.len as usize;
            self.descriptors += 1;
            if descriptor.is_write_only() != writable
                || n == most
                || self.descriptors > most.max(FRAME_DESCRIPTORS)
                || !memory.holds(descriptor.address, len)
            {
                return Err(MalformedChain);
            }
            if len > 0 {
                self.list.push(Segment { address: descriptor.address, len });
                bytes += len;
            }
        }
        if ended { Ok(bytes) } else { Err(MalformedChain) }
    }
}

/// Where a [`Scatter`] stands in its list.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Position {
    segment: usize,
    offset: usize,
}

/// A position in a list of segments.
pub(crate) struct Scatter<'a> {
    memory: &'a GuestMemory,
    segments: &'a [Segment],
    offset: usize,
}

impl<'a> Scatter<'a> {
    pub(crate) fn new(memory: &'a GuestMemory, segments: &'a [Segment]) -> Self {
        Self { memory, segments, offset: 0 }
    }

    /// Goes on where another stood in the same list.
    pub(crate) fn resume(memory: &'a GuestMemory, segments: &'a [Segment], at: Position) -> Self {
        let segments = segments.get(at.segment..).unwrap_or_default();
        Self { memory, segments, offset: at.offset }
    }

    /// Where it stands; `all` is the list that it began with.
    pub(crate) fn position(&self, all: &[Segment]) -> Position {
        Position { segment: all.len() - self.segments.len(), offset: self.offset }
    }

    /// Passes over the next bytes, as far as there are any.
    pub(crate) fn skip(&mut self, bytes: usize) {
        self.offset += bytes;
        while let Some((first, rest)) = self.segments.split_first() {
            if self.offset < first.len {
                break;
            }
            self.offset -= first.len;
            self.segments = rest;
        }
    }

    /// Reads the next bytes.
    pub(crate) fn read(&mut self, into: &mut [u8]) -> Result<(), MalformedChain> {
        self.walk(into.len(), |slice, done| {
            slice.copy_to(&mut into[done..done + slice.len()]);
        })
    }

    /// Writes the next bytes.
    pub(crate) fn write(&mut self, from: &[u8]) -> Result<(), MalformedChain> {
        self.walk(from.len(), |slice, done| slice.copy_from(&from[done..done + slice.len()]))
    }

    /// Copies the next bytes out, filling `to`.
    pub(crate) fn copy_to(&mut self, to: VolatileSlice<'_>) -> Result<(), MalformedChain> {
        self.walk(to.len(), |slice, done| {
            if let Ok(to) = to.offset(done) {
                slice.copy_to_volatile_slice(to);
            }
        })
    }

    /// Copies all of `from` in.
    pub(crate) fn copy_from(&mut self, from: &VolatileSlice<'_>) -> Result<(), MalformedChain> {
        self.walk(from.len(), |slice, done| {
            if let Ok(from) = from.subslice(done, slice.len()) {
                from.copy_to_volatile_slice(slice);
            }
        })
    }

    /// Goes through the next `bytes`, giving each piece of guest memory and how much came before.
    fn walk(
        &mut self,
        bytes: usize,
        mut each: impl FnMut(VolatileSlice<'_>, usize),
    ) -> Result<(), MalformedChain> {
        let mut done = 0;
        while done < bytes {
            let segment = self.segments.first().ok_or(MalformedChain)?;
            let here = (segment.len - self.offset).min(bytes - done);
            let address = segment.address + self.offset as u64;
            let piece = self.memory.piece(address, here).ok_or(MalformedChain)?;
            each(piece, done);
            done += piece.len();
            self.offset += piece.len();
            if self.offset == segment.len {
                self.segments = &self.segments[1..];
                self.offset = 0;
            }
        }
        Ok(())
    }
}

/// Reads once a little-endian word that both sides use.
#[inline]
pub(crate) fn load_u16(memory: &GuestMemory, address: u64) -> Result<u16, MalformedChain> {
    let piece = memory.piece(address, size_of::<u16>()).ok_or(MalformedChain)?;
    piece.load(0, Ordering::Acquire).map(u16::from_le).map_err(|_| MalformedChain)
}

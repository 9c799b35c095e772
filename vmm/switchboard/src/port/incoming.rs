//! What a guest receives: frames copied into its chains.

use vm_memory::VolatileSlice;

use super::header::MAX_HEADER_BYTES;
use super::scatter::{MalformedChain, Scatter};
use super::vring::{Popped, Vring};

/// Most chains that one frame is merged from.
const MAX_MERGED: usize = 64;

/// What became of a frame for the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// In the guest's memory.
    Done,
    /// The guest has no chains for it now; try again.
    NoRoom,
    /// No guest, or its ring is not running.
    NoGuest,
    /// The guest's chains are too small for it, and were given back.
    TooLarge,
}

/// One chain of those that a frame is merged from.
#[derive(Clone, Copy, Default)]
struct Span {
    head: u16,
    /// Zero for a malformed chain, which is only given back.
    bytes: usize,
}

/// Copies frames, with memory of its own that is reused for each.
pub(super) struct Incoming {
    spans: [Span; MAX_MERGED],
}

impl Incoming {
    pub(super) fn new() -> Self {
        Self { spans: [Span::default(); MAX_MERGED] }
    }

    /// Copies a frame into chains of a virtqueue that runs: its checked head, then the `rest` from
    /// a pool. Returns what became of it, and counts malformed chains in `malformed`.
    pub(super) fn deliver(
        &mut self,
        vring: &mut Vring,
        head: &[u8],
        rest: &[VolatileSlice<'_>],
        malformed: &mut u64,
    ) -> Delivery {
        let rest_bytes: usize = rest.iter().map(VolatileSlice::len).sum();
        let need = vring.header_bytes + head.len() + rest_bytes;
        vring.begin_frame();
        let (chains, enough) = match gather(vring, &mut self.spans, need) {
            Gathered::Enough(chains) => (chains, true),
            Gathered::TooSmall(chains) => (chains, false),
            Gathered::NotYet if vring.is_intact() => return Delivery::NoRoom,
            Gathered::NotYet => return Delivery::NoGuest,
        };
        let spans = &self.spans[..chains];
        *malformed += spans.iter().filter(|span| span.bytes == 0).count() as u64;
        let buffers = spans.iter().filter(|span| span.bytes != 0).count() as u16;
        let mut scatter = Scatter::new(&vring.memory, vring.segments.all());
        let copied = enough
            && write_header(&mut scatter, vring.header_bytes, buffers)
                .and_then(|()| scatter.write(head))
                .and_then(|()| rest.iter().try_for_each(|part| scatter.copy_from(part)))
                .is_ok();
        if enough {
            // Copied or not: what was begun is written.
            vring.marks.frame(vring.segments.all(), need);
        }
        let mut left = if copied { need } else { 0 };
        for span in spans.iter().filter(|span| span.bytes == 0) {
            vring.push_used(span.head, 0);
        }
        for span in spans.iter().filter(|span| span.bytes != 0) {
            let here = span.bytes.min(left);
            vring.push_used(span.head, here);
            left -= here;
        }
        if copied { Delivery::Done } else { Delivery::TooLarge }
    }
}

enum Gathered {
    /// So many spans hold the frame.
    Enough(usize),
    /// So many spans do not hold it, and no more of them will.
    TooSmall(usize),
    /// All chains were left in the guest's ring, which has too few.
    NotYet,
}

/// Malformed chains that end the search for a frame's place: each costs as much as the longest good
/// one, and a ring full of them must not keep the other guests waiting.
const MALFORMED: usize = 3;

/// Pops chains until they hold `need` bytes.
fn gather(vring: &mut Vring, spans: &mut [Span; MAX_MERGED], need: usize) -> Gathered {
    let most = MAX_MERGED.min(usize::from(vring.size()));
    let (mut count, mut total, mut malformed) = (0, 0, 0);
    loop {
        let (head, bytes) = match vring.pop(true) {
            Popped::Chain { head, bytes } => (head, bytes),
            // It goes back unused, and the frame takes the next chain.
            Popped::Malformed { head } => {
                malformed += 1;
                (head, 0)
            }
            Popped::Empty => {
                vring.unpop(count);
                return Gathered::NotYet;
            }
        };
        spans[count] = Span { head, bytes };
        count += 1;
        total += bytes;
        if total >= need {
            return Gathered::Enough(count);
        }
        if count == most || malformed == MALFORMED || !vring.mergeable && bytes > 0 {
            return Gathered::TooSmall(count);
        }
    }
}

/// Writes the virtio-net header: no offload, and how many chains the frame takes.
fn write_header(
    scatter: &mut Scatter<'_>,
    bytes: usize,
    buffers: u16,
) -> Result<(), MalformedChain> {
    let mut header = [0; MAX_HEADER_BYTES];
    header[10..].copy_from_slice(&buffers.to_le_bytes());
    scatter.write(&header[..bytes.min(MAX_HEADER_BYTES)])
}

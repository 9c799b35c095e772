//! What a guest receives: frames copied into its chains.

use shared_ring::layout::CLEARED_HEADER_BYTES;
use vm_memory::VolatileSlice;

use super::header::MAX_HEADER_BYTES;
use super::scatter::{MalformedChain, Scatter, Segments};
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
    /// Zero for a malformed or an empty chain, which is only given back.
    bytes: usize,
}

/// Copies frames, with memory of its own that is reused for each.
pub(super) struct Incoming {
    segments: Segments,
    spans: [Span; MAX_MERGED],
}

impl Incoming {
    pub(super) fn new() -> Self {
        Self { segments: Segments::new(), spans: [Span::default(); MAX_MERGED] }
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
        if vring.is_spent() || vring.is_short_of(need) {
            return Delivery::NoRoom;
        }
        self.segments.clear();
        let gathered = gather(vring, &mut self.segments, &mut self.spans, need);
        let (chains, spoilt, enough) = match gathered {
            Gathered::Enough(chains, spoilt) => (chains, spoilt, true),
            Gathered::TooSmall(chains, spoilt) => (chains, spoilt, false),
            Gathered::NotYet if vring.is_intact() => {
                vring.note_short_of(need);
                return Delivery::NoRoom;
            }
            Gathered::NotYet => return Delivery::NoGuest,
        };
        *malformed += spoilt as u64;
        let copied = enough && {
            let mut scatter = Scatter::new(&vring.memory, self.segments.all());
            write_heads(&mut scatter, vring.header_bytes, chains - spoilt, head)
                .and_then(|()| rest.iter().try_for_each(|part| scatter.copy_from(part)))
                .is_ok()
        };
        if enough {
            // Copied or not: what was begun is written.
            vring.marks.frame(self.segments.all(), need);
        }
        give_back(vring, &self.spans[..chains], if copied { need } else { 0 });
        if copied { Delivery::Done } else { Delivery::TooLarge }
    }
}

/// Gives all spans back, the malformed ones first, with so many bytes written to the others.
fn give_back(vring: &mut Vring, spans: &[Span], written: usize) {
    if let [span] = spans {
        vring.push_used(span.head, written.min(span.bytes));
        return;
    }
    let mut left = written;
    for span in spans.iter().filter(|span| span.bytes == 0) {
        vring.push_used(span.head, 0);
    }
    for span in spans.iter().filter(|span| span.bytes != 0) {
        let here = span.bytes.min(left);
        vring.push_used(span.head, here);
        left -= here;
    }
}

enum Gathered {
    /// So many spans hold the frame; so many of them are malformed.
    Enough(usize, usize),
    /// So many spans, of which so many are malformed, do not hold it, and no more of them will.
    TooSmall(usize, usize),
    /// All chains were left in the guest's ring, which has too few.
    NotYet,
}

/// Malformed chains that end the search for a frame's place: each costs as much as the longest good
/// one, and a ring full of them must not keep the other guests waiting.
const MALFORMED: usize = 3;

/// Pops chains until they hold `need` bytes.
fn gather(
    vring: &mut Vring,
    segments: &mut Segments,
    spans: &mut [Span; MAX_MERGED],
    need: usize,
) -> Gathered {
    let most = MAX_MERGED.min(usize::from(vring.size()));
    let (mut count, mut total, mut spoilt) = (0, 0, 0);
    loop {
        let (head, bytes) = match vring.pop(segments, true) {
            Popped::Chain { head, bytes } => (head, bytes),
            // It goes back unused, and the frame takes the next chain.
            Popped::Malformed { head } => (head, 0),
            Popped::Empty => {
                vring.unpop(count);
                return Gathered::NotYet;
            }
        };
        spans[count] = Span { head, bytes };
        count += 1;
        spoilt += usize::from(bytes == 0);
        total += bytes;
        if total >= need {
            return Gathered::Enough(count, spoilt);
        }
        if count == most || spoilt == MALFORMED || !vring.mergeable && bytes > 0 {
            return Gathered::TooSmall(count, spoilt);
        }
    }
}

/// Writes what stands before the frame's body: the virtio-net header, which says that there is no
/// offload and how many chains the frame takes, and the frame's checked head.
fn write_heads(
    scatter: &mut Scatter<'_>,
    header_bytes: usize,
    buffers: usize,
    head: &[u8],
) -> Result<(), MalformedChain> {
    let header_bytes = header_bytes.min(MAX_HEADER_BYTES);
    let mut both = [0; MAX_HEADER_BYTES + CLEARED_HEADER_BYTES];
    both[10..MAX_HEADER_BYTES].copy_from_slice(&(buffers as u16).to_le_bytes());
    let end = header_bytes + head.len();
    match both.get_mut(header_bytes..end) {
        Some(place) => {
            place.copy_from_slice(head);
            scatter.write(&both[..end])
        }
        None => {
            scatter.write(&both[..header_bytes])?;
            scatter.write(head)
        }
    }
}

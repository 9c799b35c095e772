//! A guest's port: its two virtqueues, and the frames that go through them.
//!
//! Virtio-net (virtio 1.3, 5.1): queue 0 receives, queue 1 transmits; each frame stands behind a
//! header. A guest may leave TCP's and UDP's checksums to be computed, and long frames of TCP to be
//! cut; what it receives is never vouched for, and never longer than on the wire.

pub mod dirty;
pub mod doorbell;
mod guard;
pub mod header;
pub mod memory;
mod outgoing;
mod scatter;
pub(crate) mod segmentation;
mod signal;
pub mod vring;

use std::sync::atomic::{AtomicBool, Ordering};

use vm_memory::VolatileSlice;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use self::header::MAX_HEADER_BYTES;
use self::outgoing::Current;
pub(crate) use self::outgoing::Taken;
use self::scatter::{MalformedChain, Scatter, Segments};
use self::segmentation::Segmenter;
use self::vring::{Popped, Vring};

/// Index of the virtqueue on which the guest receives.
pub const RX_RING: usize = 0;
/// Index of the virtqueue on which the guest transmits.
pub const TX_RING: usize = 1;
/// Virtqueues of a port.
pub const RINGS: usize = 2;

/// Most chains one frame is merged from.
const MAX_MERGED: usize = 64;

/// What the thread that holds the connection should hear of.
#[derive(Debug)]
pub(crate) struct PortEvents {
    /// Readable when something below changed.
    pub(crate) event: EventFd,
    /// The guest's memory lost pages, or its log did: the connection must end.
    pub(crate) truncated: AtomicBool,
    /// A virtqueue is corrupt and was stopped.
    pub(crate) broken: [AtomicBool; RINGS],
}

impl PortEvents {
    pub(crate) fn new() -> std::io::Result<Self> {
        let event = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?;
        Ok(Self { event, truncated: AtomicBool::new(false), broken: Default::default() })
    }

    /// Forgets everything that was raised.
    pub(crate) fn clear(&self) {
        let _ = self.event.read();
        self.truncated.store(false, Ordering::Relaxed);
        self.broken.iter().for_each(|broken| broken.store(false, Ordering::Relaxed));
    }

    fn raise(&self, flag: &AtomicBool) {
        flag.store(true, Ordering::Release);
        // Full means readable.
        let _ = self.event.write(1);
    }
}

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

/// The switchboard's side of a guest.
pub(crate) struct GuestPort {
    pub(crate) rings: [Option<Box<Vring>>; RINGS],
    segments: Segments,
    spans: [Span; MAX_MERGED],
    current: Option<Current>,
    segmenter: Segmenter,
    faults_seen: u32,
}

impl GuestPort {
    pub(crate) fn new() -> Self {
        Self {
            rings: [None, None],
            segments: Segments::new(),
            spans: [Span::default(); MAX_MERGED],
            current: None,
            segmenter: Segmenter::new(),
            faults_seen: guard::faults(),
        }
    }

    /// The virtqueue, if it is running and not corrupt.
    fn running(&mut self, ring: usize) -> Option<&mut Vring> {
        self.rings[ring].as_deref_mut().filter(|vring| vring.is_intact())
    }

    /// Whether the guest can be given frames at all.
    pub(crate) fn receives(&mut self) -> bool {
        self.running(RX_RING).is_some_and(|vring| vring.enabled)
    }

    /// Whether the guest has chains for received frames.
    pub(crate) fn has_room(&mut self) -> bool {
        self.running(RX_RING).is_some_and(Vring::has_chains)
    }

    /// Whether the guest's transmit ring is running; its frames are thrown away if `Some(false)`.
    pub(crate) fn transmits(&mut self) -> Option<bool> {
        self.running(TX_RING).map(|vring| vring.enabled)
    }

    /// Copies a frame into the guest's memory: its checked head, then the `rest` from a pool. Says
    /// what became of it, and counts malformed chains in `malformed`.
    pub(crate) fn deliver(
        &mut self,
        head: &[u8],
        rest: &[VolatileSlice<'_>],
        malformed: &mut u64,
    ) -> Delivery {
        let Some(vring) = self.rings[RX_RING].as_deref_mut().filter(|v| v.is_intact() && v.enabled)
        else {
            return Delivery::NoGuest;
        };
        let rest_bytes: usize = rest.iter().map(VolatileSlice::len).sum();
        let need = vring.header_bytes + head.len() + rest_bytes;
        self.segments.clear();
        let (chains, enough) = match gather(vring, &mut self.segments, &mut self.spans, need) {
            Gathered::Enough(chains) => (chains, true),
            Gathered::TooSmall(chains) => (chains, false),
            Gathered::NotYet if vring.is_intact() => return Delivery::NoRoom,
            Gathered::NotYet => return Delivery::NoGuest,
        };
        let spans = &self.spans[..chains];
        *malformed += spans.iter().filter(|span| span.bytes == 0).count() as u64;
        let buffers = spans.iter().filter(|span| span.bytes != 0).count() as u16;
        let mut scatter = Scatter::new(&vring.memory, self.segments.all());
        let copied = enough
            && write_header(&mut scatter, vring.header_bytes, buffers)
                .and_then(|()| scatter.write(head))
                .and_then(|()| rest.iter().try_for_each(|part| scatter.copy_from(part)))
                .is_ok();
        if enough {
            // Copied or not: what was begun is written.
            vring.marks.frame(self.segments.all(), need);
        }
        let mut left = if copied { need } else { 0 };
        for span in spans.iter().filter(|span| span.bytes == 0) {
            vring.give_back(span.head, 0);
        }
        for span in spans.iter().filter(|span| span.bytes != 0) {
            let here = span.bytes.min(left);
            vring.give_back(span.head, here);
            left -= here;
        }
        if copied { Delivery::Done } else { Delivery::TooLarge }
    }

    /// Shows the guest what was given back. Says how often it was interrupted.
    pub(crate) fn publish(&mut self) -> u64 {
        self.rings.iter_mut().flatten().map(|vring| u64::from(vring.publish())).sum()
    }

    /// Asks for kicks before a sleep, on the rings that are waited for. `true` if there is
    /// something already.
    pub(crate) fn arm(&mut self, wanted: [bool; RINGS]) -> bool {
        let armed = |(vring, wanted): (&mut Option<Box<Vring>>, bool)| {
            wanted && vring.as_deref_mut().is_some_and(Vring::arm)
        };
        // No short cut: both must be armed.
        self.rings.iter_mut().zip(wanted).map(armed).fold(false, |any, more| any | more)
    }

    /// After a sleep.
    pub(crate) fn disarm(&mut self) {
        self.rings.iter_mut().flatten().for_each(|vring| vring.disarm());
    }

    /// Whether a ring must be looked at without ever being kicked.
    pub(crate) fn has_deaf_ring(&self) -> bool {
        self.rings.iter().flatten().any(|vring| vring.is_intact() && vring.kick.is_deaf())
    }

    /// Looks for damage that a turn has shown: truncated memory, corrupt rings. Stops the rings
    /// concerned, tells the connection's thread, and says how many were stopped.
    pub(crate) fn inspect(&mut self, events: &PortEvents) -> u64 {
        let mut stopped = 0;
        let faults = guard::faults();
        if faults != self.faults_seen {
            self.faults_seen = faults;
            for vring in self.rings.iter_mut().flatten() {
                if vring.is_truncated() {
                    vring.break_off();
                    events.raise(&events.truncated);
                }
            }
        }
        for (vring, broken) in self.rings.iter_mut().zip(&events.broken) {
            if vring.as_deref_mut().is_some_and(Vring::newly_broken) {
                events.raise(broken);
                stopped += 1;
            }
        }
        stopped
    }
}

enum Gathered {
    /// These many spans hold the frame.
    Enough(usize),
    /// These many spans do not, and more will not come.
    TooSmall(usize),
    /// All were left in the guest's ring, which has too few.
    NotYet,
}

/// Malformed chains that end the search for a frame's place: each costs as much as the longest good one, and a ring full
/// of them shall not keep the others waiting.
const MALFORMED: usize = 3;

/// Pops chains until they hold `need` bytes.
fn gather(
    vring: &mut Vring,
    segments: &mut Segments,
    spans: &mut [Span; MAX_MERGED],
    need: usize,
) -> Gathered {
    let most = MAX_MERGED.min(usize::from(vring.size()));
    let (mut count, mut total, mut malformed) = (0, 0, 0);
    loop {
        let (head, bytes) = match vring.pop(segments, true) {
            Popped::Chain { head, bytes } => (head, bytes),
            // It goes back unused, and the frame takes the next.
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

//! What a guest sends: chain by chain, and of each the frames that it becomes.

use nic::wire::MAX_FRAME_BYTES;
use vm_memory::VolatileSlice;

use super::header::{self, Asked, MAX_HEADER_BYTES};
use super::offloads::Checksum;
use super::scatter::{MalformedChain, Scatter};
use super::segmentation::{MAX_HEADERS_BYTES, MAX_UNCUT_BYTES, Segmenter};
use super::vring::{Popped, Vring};
use crate::limits::ETHERNET_HEADER_BYTES;

/// What [`Outgoing::take_chain`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Nothing to send.
    Nothing,
    /// A chain without sense; it was given back.
    Rejected,
    /// A chain. Then come its frames, by [`Outgoing::next_frame`], and [`Outgoing::return_chain`].
    Chain(Frames),
}

/// What a chain becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frames {
    /// How many; more than one if it is cut.
    pub(crate) count: usize,
    /// Bytes of the longest.
    pub(crate) longest_bytes: usize,
}

/// A frame to be sent, still in the guest's memory.
pub(crate) struct GuestFrame<'a> {
    /// Headers that are not as in the guest's memory; then comes what is there.
    headers: &'a [u8],
    scatter: Scatter<'a>,
    /// Bytes without the virtio-net header.
    pub(crate) bytes: usize,
    /// What the guest left to be computed.
    pub(crate) checksum: Option<Checksum>,
}

impl GuestFrame<'_> {
    /// Copies the next bytes out, filling `to`.
    pub(crate) fn copy_to(&mut self, to: VolatileSlice<'_>) -> Result<(), MalformedChain> {
        if self.headers.is_empty() {
            return self.scatter.copy_to(to);
        }
        let (here, later) = self.headers.split_at(self.headers.len().min(to.len()));
        to.copy_from(here);
        self.headers = later;
        self.scatter.copy_to(to.offset(here.len()).map_err(|_| MalformedChain)?)
    }
}

/// The chain whose frames are being sent.
#[derive(Clone, Copy)]
struct Current {
    head: u16,
    checksum: Option<Checksum>,
    /// Where the rest begins, bytes from the chain's start.
    at: usize,
    rest: Rest,
}

/// The part of a chain that was not sent yet.
#[derive(Clone, Copy)]
enum Rest {
    /// All of a frame of so many bytes.
    Frame(usize),
    /// Segments; the segmenter knows.
    Segments,
    Nothing,
}

/// The chain that is being sent, if one is. Every method gets the same virtqueue.
pub(super) struct Outgoing {
    segmenter: Segmenter,
    current: Option<Current>,
}

impl Outgoing {
    pub(super) fn new() -> Self {
        Self { segmenter: Segmenter::new(), current: None }
    }

    /// Takes the next chain that the guest sends.
    pub(super) fn take_chain(&mut self, vring: &mut Vring) -> Taken {
        let Self { segmenter, current } = self;
        vring.begin_frame();
        let (head, bytes) = match vring.pop(false) {
            Popped::Empty => return Taken::Nothing,
            Popped::Chain { head, bytes } => (head, bytes),
            Popped::Malformed { head } => {
                vring.push_used(head, 0);
                return Taken::Rejected;
            }
        };
        let header_bytes = vring.header_bytes.min(MAX_HEADER_BYTES);
        let begun = begin(vring, segmenter, (header_bytes, bytes));
        let Some((checksum, rest, frames)) = begun else {
            vring.push_used(head, 0);
            return Taken::Rejected;
        };
        let at = match rest {
            Rest::Segments => header_bytes + segmenter.headers().len(),
            Rest::Frame(_) | Rest::Nothing => header_bytes,
        };
        *current = Some(Current { head, checksum, at, rest });
        Taken::Chain(frames)
    }

    /// The next frame of the chain that was taken; `None` if that was all.
    pub(super) fn next_frame<'a>(&'a mut self, vring: &'a Vring) -> Option<GuestFrame<'a>> {
        let current = self.current.as_mut()?;
        let (headers, body_bytes) = match current.rest {
            Rest::Nothing => return None,
            Rest::Frame(bytes) => {
                current.rest = Rest::Nothing;
                (&[][..], bytes)
            }
            Rest::Segments => {
                let payload_bytes = self.segmenter.advance()?;
                (self.segmenter.headers(), payload_bytes)
            }
        };
        let mut scatter = Scatter::new(&vring.memory, vring.segments.all());
        scatter.skip(current.at);
        current.at += body_bytes;
        let bytes = headers.len() + body_bytes;
        Some(GuestFrame { headers, scatter, bytes, checksum: current.checksum })
    }

    /// Leaves the chain that was taken in the guest's ring after all; nothing of it was sent.
    pub(super) fn leave_chain(&mut self, vring: &mut Vring) {
        if self.current.take().is_some() {
            vring.unpop(1);
        }
    }

    /// Gives back the chain that was taken.
    pub(super) fn return_chain(&mut self, vring: &mut Vring) {
        if let Some(current) = self.current.take() {
            vring.push_used(current.head, 0);
        }
    }
}

/// Reads the virtio-net header of a chain, `(header_bytes, bytes)` long, and prepares what it asks
/// for; `None` if that makes no sense.
fn begin(
    vring: &Vring,
    segmenter: &mut Segmenter,
    (header_bytes, bytes): (usize, usize),
) -> Option<(Option<Checksum>, Rest, Frames)> {
    let frame_bytes = bytes.checked_sub(header_bytes)?;
    let mut scatter = Scatter::new(&vring.memory, vring.segments.all());
    let mut header = [0; MAX_HEADER_BYTES];
    scatter.read(&mut header[..header_bytes]).ok()?;
    let Asked { checksum, cut } = header::read(&header, frame_bytes, vring.offloads).ok()?;
    let Some(cut) = cut else {
        let sized = (ETHERNET_HEADER_BYTES..=MAX_FRAME_BYTES).contains(&frame_bytes);
        let frames = Frames { count: 1, longest_bytes: frame_bytes };
        return sized.then_some((checksum, Rest::Frame(frame_bytes), frames));
    };
    if frame_bytes > MAX_UNCUT_BYTES {
        return None;
    }
    let mut start = [0; MAX_HEADERS_BYTES];
    let start = &mut start[..frame_bytes.min(MAX_HEADERS_BYTES)];
    scatter.read(start).ok()?;
    segmenter.begin(cut, checksum?, start, frame_bytes).ok()?;
    let frames = Frames { count: segmenter.left(), longest_bytes: segmenter.segment_bytes() };
    Some((checksum, Rest::Segments, frames))
}

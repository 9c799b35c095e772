//! Deduplication: a frame that both NICs received reaches the guest once.
//!
//! While two NICs receive, in a planned switch and in the moment of a takeover, a broadcast reaches
//! both, and so does a unicast frame to an address that the switch does not know. The queues on the
//! way decide when each copy comes: the successor's may come long after the other's, and the
//! other's may have come before the planned switch began. So broadcasts are remembered at all
//! times, and in a planned switch all frames are, by a keyed hash of their bytes and by the domain
//! that received them. For [`DEDUP_WINDOW`] the other NIC's copy is recognised by that and dropped.
//! One record stands for one copy, so a frame that was really sent twice comes twice.
//!
//! Two equal frames that were sent within one such moment, and of which each NIC received one, are
//! taken for copies, and so are two frames that differ only past the bytes that are hashed: here
//! "at most once" goes before "at least once".
//!
//! Invariant: a record is used up by at most one copy, and never by a frame of its own domain.

use std::hash::{BuildHasher, Hasher, RandomState};

use microvm::domain::DomainSlot;
use platform::budget::DEDUP_WINDOW;

use crate::domains::{RxFrame, body};

/// Frames remembered: as many as a gigabit link brings of full size in six milliseconds, twice what
/// a switch takes; the oldest makes room.
const FRAMES: usize = 512;
/// Bytes behind a frame's head that are hashed. They bound the cost of a broadcast.
const HASHED_BYTES: usize = 256;

/// One frame that was handed on.
#[derive(Clone, Copy)]
struct Record {
    hash: u64,
    domain: usize,
    at_ns: u64,
    /// The other copy has come.
    used: bool,
}

/// Remembers the frames that were handed on.
pub(crate) struct Dedup {
    now_ns: u64,
    /// Unicast frames are remembered too, until [`Self::fade`].
    everything: bool,
    /// Time until which copies of unicast frames are still looked for.
    everything_until_ns: u64,
    /// Domain whose frame was looked at last.
    domain: usize,
    /// Time until which copies from the other domain are looked for.
    mixed_until_ns: u64,
    seen: Vec<Record>,
    oldest: usize,
    keys: RandomState,
}

/// How a frame is remembered; `None` inside for one that cannot come twice.
#[derive(Clone, Copy)]
pub(crate) struct Key(Option<Record>);

const AFTER_NS: u64 = DEDUP_WINDOW.as_nanos() as u64;

impl Dedup {
    pub(crate) fn new() -> Self {
        Self {
            now_ns: 0,
            everything: false,
            everything_until_ns: 0,
            domain: 0,
            mixed_until_ns: 0,
            seen: Vec::with_capacity(FRAMES),
            oldest: 0,
            keys: RandomState::new(),
        }
    }

    /// Sets the time of the frames that follow, `CLOCK_MONOTONIC` nanoseconds.
    pub(crate) fn tick(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
    }

    /// Both NICs receive everything from now on, so unicast frames are remembered too.
    pub(crate) fn start(&mut self) {
        self.everything = true;
    }

    /// Only one NIC receives again. A frame that its domain had received before, but not published
    /// yet, may still be the other's copy.
    pub(crate) fn fade(&mut self, now_ns: u64) {
        self.now_ns = self.now_ns.max(now_ns);
        if std::mem::take(&mut self.everything) {
            self.everything_until_ns = self.now_ns + AFTER_NS;
        }
    }

    /// The key by which a frame is remembered.
    pub(crate) fn key(&mut self, domain: usize, slot: &DomainSlot, frame: &RxFrame) -> Key {
        if std::mem::replace(&mut self.domain, domain) != domain {
            self.mixed_until_ns = self.now_ns + AFTER_NS;
        }
        let fading = self.now_ns < self.everything_until_ns;
        let counts = frame.head[0] & 1 != 0 || self.everything || fading;
        let at_ns = self.now_ns;
        Key(counts.then(|| Record { hash: self.hash(slot, frame), domain, at_ns, used: false }))
    }

    /// Returns true if the other NIC's copy was handed on, and uses its record up.
    pub(crate) fn is_second(&mut self, key: Key) -> bool {
        // While only one NIC receives, there is nothing to search for.
        let Some(key) = key.0.filter(|key| key.at_ns < self.mixed_until_ns) else { return false };
        let first = self.seen.iter_mut().find(|seen| {
            let is_other = seen.hash == key.hash && seen.domain != key.domain;
            is_other && !seen.used && key.at_ns <= seen.at_ns + AFTER_NS
        });
        first.map(|seen| seen.used = true).is_some()
    }

    /// Remembers a frame that was handed on.
    pub(crate) fn remember(&mut self, key: Key) {
        let Some(key) = key.0 else { return };
        if self.seen.len() < FRAMES {
            self.seen.push(key);
        } else {
            self.seen[self.oldest] = key;
            self.oldest = (self.oldest + 1) % FRAMES;
        }
    }

    fn hash(&self, slot: &DomainSlot, frame: &RxFrame) -> u64 {
        let mut hasher = self.keys.build_hasher();
        hasher.write_usize(frame.len);
        hasher.write(frame.head());
        let rest = body(slot, frame);
        let mut bytes = [0; HASHED_BYTES];
        let len = rest.len().min(HASHED_BYTES);
        if let Ok(part) = rest.subslice(0, len) {
            part.copy_to(&mut bytes[..len]);
        }
        hasher.write(&bytes[..len]);
        hasher.finish()
    }
}

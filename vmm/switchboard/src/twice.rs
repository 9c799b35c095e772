//! At most once: frames that both NICs received reach the guest once.
//!
//! While two NICs receive, in a planned switch and in the moment of a takeover, a broadcast reaches
//! both, and so does a unicast frame to an address that the switch does not know. Which copy comes
//! when is up to the queues on the way: the heir's may come long after the other's, or the other's
//! before any switch was thought of. So broadcasts are remembered at all times, and in a switch all
//! frames, by a keyed hash of their bytes and by whose they were; the other NIC's copy is recognised
//! by it for [`DEDUP_WINDOW`] and dropped. One memory stands for one copy, so a frame that was really
//! sent twice comes twice.
//!
//! Two equal frames within one such moment, of which each NIC received another one, are taken for
//! one, and so are two that differ only past their first 256 bytes: at most once goes before at
//! least once.

use std::hash::{BuildHasher, Hasher, RandomState};

use super::lane::{RxFrame, body};
use microvm::domain::DomainSlot;
use platform::budget::DEDUP_WINDOW;

/// Frames remembered: as many as a gigabit link brings of full size in six milliseconds, twice what
/// a switch takes; the oldest makes room.
const FRAMES: usize = 512;
/// Bytes behind a frame's head that are hashed: past them frames that differ are no longer told
/// apart, and a broadcast costs at most so much.
const HASHED_BYTES: usize = 256;

#[derive(Clone, Copy)]
struct Memory {
    hash: u64,
    lane: usize,
    at_ns: u64,
    /// The other copy came.
    used: bool,
}

/// Remembers what was handed on.
pub(crate) struct Twice {
    now_ns: u64,
    /// Frames that are no broadcasts count too, until [`Self::fade`].
    everything: bool,
    /// Until when they are still looked for.
    everything_until_ns: u64,
    /// Whose frame was looked at last, and until when the other's are looked for.
    lane: usize,
    mixed_until_ns: u64,
    seen: Vec<Memory>,
    oldest: usize,
    keys: RandomState,
}

/// A frame as it is remembered; nothing for one that cannot come twice.
#[derive(Clone, Copy)]
pub(crate) struct Key(Option<Memory>);

const AFTER_NS: u64 = DEDUP_WINDOW.as_nanos() as u64;

impl Twice {
    pub(crate) fn new() -> Self {
        Self {
            now_ns: 0,
            everything: false,
            everything_until_ns: 0,
            lane: 0,
            mixed_until_ns: 0,
            seen: Vec::with_capacity(FRAMES),
            oldest: 0,
            keys: RandomState::new(),
        }
    }

    /// The time of what follows, `CLOCK_MONOTONIC` nanoseconds.
    pub(crate) fn tick(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
    }

    /// Both NICs receive everything from now on.
    pub(crate) fn start(&mut self) {
        self.everything = true;
    }

    /// One NIC receives again. What its domain had received before and not yet published may still
    /// be the other's copy.
    pub(crate) fn fade(&mut self, now_ns: u64) {
        self.now_ns = self.now_ns.max(now_ns);
        if std::mem::take(&mut self.everything) {
            self.everything_until_ns = self.now_ns + AFTER_NS;
        }
    }

    /// What to remember a frame by.
    pub(crate) fn key(&mut self, lane: usize, slot: &DomainSlot, frame: &RxFrame) -> Key {
        if std::mem::replace(&mut self.lane, lane) != lane {
            self.mixed_until_ns = self.now_ns + AFTER_NS;
        }
        let fading = self.now_ns < self.everything_until_ns;
        let counts = frame.head[0] & 1 != 0 || self.everything || fading;
        let at_ns = self.now_ns;
        Key(counts.then(|| Memory { hash: self.hash(slot, frame), lane, at_ns, used: false }))
    }

    /// Whether the other NIC's copy was handed on; its memory is used up.
    pub(crate) fn is_second(&mut self, key: Key) -> bool {
        // For as long as one NIC receives, nothing is searched.
        let Some(key) = key.0.filter(|key| key.at_ns < self.mixed_until_ns) else { return false };
        let first = self.seen.iter_mut().find(|seen| {
            let is_other = seen.hash == key.hash && seen.lane != key.lane;
            is_other && !seen.used && key.at_ns <= seen.at_ns + AFTER_NS
        });
        first.map(|seen| seen.used = true).is_some()
    }

    /// The frame was handed on.
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

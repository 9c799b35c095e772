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
//! A unicast frame that is like an earlier one is more often a repeat than a copy: a switch that
//! knows the guest sends such frames to the port that was left, and from the guest's first word on
//! the other one to that. What tells the two apart is whether the network floods:
//!
//! ```text
//!                   overlap            the ring changes hands          DEDUP_WINDOW after the end
//!   one NIC receives ──▶ both: what the successor gets ──▶ both: what either gets is its own, ──▶
//!                        can only have been flooded        unless a copy was seen before
//! ```
//! Until the ring changes hands no frame of the guests has left by the successor's port, so no
//! switch sends theirs there alone.
//!
//! Two equal broadcasts that were sent within one such moment, and of which each NIC received one,
//! are taken for copies, and so are two that differ only past the bytes that are hashed: here "at
//! most once" goes before "at least once".
//!
//! Invariant: a record is used up by at most one copy, and never by a frame of its own domain.

use std::hash::{BuildHasher, RandomState};

use microvm::domain::DomainSlot;
use platform::budget::DEDUP_WINDOW;
use vm_memory::VolatileSlice;

use crate::domains::{RxFrame, bodies, body};

/// Frames remembered: as many as a gigabit link brings of full size in six milliseconds, twice what
/// a switch takes; the oldest makes room.
const FRAMES: usize = 512;
/// Bytes behind a broadcast's head that are hashed. They bound its cost, for there is one at all
/// times; of a unicast frame all bytes are hashed.
const HASHED_BYTES: usize = 256;

/// One frame that was handed on.
#[derive(Clone, Copy)]
struct Record {
    hash: u64,
    domain: usize,
    at_ns: u64,
    /// It is a broadcast or a multicast.
    group: bool,
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
    /// When the ring changed hands in this planned switch; what came up to then was sent before.
    changed_ns: Option<u64>,
    /// In this planned switch both NICs have received one unicast frame.
    flooded: bool,
    /// Domain whose frame was looked at last.
    domain: usize,
    /// Time until which copies from the other domain are looked for.
    mixed_until_ns: u64,
    seen: Vec<Record>,
    oldest: usize,
    /// Drawn at the start: who does not know them cannot make frames that pass for others' copies.
    keys: [u64; 2],
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
            changed_ns: None,
            flooded: false,
            domain: 0,
            mixed_until_ns: 0,
            seen: Vec::with_capacity(FRAMES),
            oldest: 0,
            keys: [0, 1].map(|n| RandomState::new().hash_one(n)),
        }
    }

    /// Sets the time of the frames that follow, `CLOCK_MONOTONIC` nanoseconds.
    pub(crate) fn tick(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
    }

    /// Both NICs receive everything from now on, so unicast frames are remembered too.
    pub(crate) fn start(&mut self) {
        self.everything = true;
        self.changed_ns = None;
        self.flooded = false;
    }

    /// The ring has changed hands: from here on the network sends the guests' frames to the
    /// successor alone.
    pub(crate) fn change_hands(&mut self, now_ns: u64) {
        self.changed_ns = Some(now_ns);
    }

    /// Only one NIC receives again, in a takeover perhaps another than before. A frame that its domain had received before, but not published
    /// yet, may still be the other's copy.
    pub(crate) fn fade(&mut self, now_ns: u64) {
        self.now_ns = self.now_ns.max(now_ns);
        if std::mem::take(&mut self.everything) {
            self.everything_until_ns = self.now_ns + AFTER_NS;
            self.changed_ns.get_or_insert(now_ns);
        }
    }

    /// Returns true if a unicast frame that comes now may be a copy.
    fn may_be_flooded(&self) -> bool {
        let in_switch = self.everything || self.now_ns < self.everything_until_ns;
        in_switch && (self.flooded || self.changed_ns.is_none_or(|at_ns| self.now_ns <= at_ns))
    }

    /// The key by which a frame is remembered.
    pub(crate) fn key(&mut self, domain: usize, slot: &DomainSlot, frame: &RxFrame) -> Key {
        if std::mem::replace(&mut self.domain, domain) != domain {
            self.mixed_until_ns = self.now_ns + AFTER_NS;
        }
        let counts = frame.is_for_group() || self.may_be_flooded();
        let (group, at_ns) = (frame.is_for_group(), self.now_ns);
        let record = |hash| Record { hash, domain, at_ns, group, used: false };
        Key(counts.then(|| record(self.hash(slot, frame))))
    }

    /// Returns true if the other NIC's copy was handed on, and uses its record up.
    pub(crate) fn is_second(&mut self, key: Key) -> bool {
        // While only one NIC receives, there is nothing to search for.
        let Some(key) = key.0.filter(|key| key.at_ns < self.mixed_until_ns) else { return false };
        let first = self.seen.iter_mut().find(|seen| {
            let is_other = seen.hash == key.hash && seen.domain != key.domain;
            is_other && !seen.used && key.at_ns <= seen.at_ns + AFTER_NS
        });
        let found = first.map(|seen| seen.used = true).is_some();
        self.flooded |= found && !key.group;
        found
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
        let first = body(slot, frame);
        let hash = self.mix(frame.len as u64, frame.head());
        if frame.is_for_group() {
            return self.mix_slice(hash, &first, HASHED_BYTES);
        }
        if frame.further_buffers().is_empty() {
            return self.mix_slice(hash, &first, first.len());
        }
        let (parts, count) = bodies(slot, frame);
        parts[..count].iter().fold(hash, |hash, part| self.mix_slice(hash, part, part.len()))
    }

    /// Mixes `most` bytes of a slice into a hash, or as many as it has.
    fn mix_slice(&self, mut hash: u64, rest: &VolatileSlice<'_>, most: usize) -> u64 {
        let end = rest.len().min(most);
        let mut bytes = [0; HASHED_BYTES];
        for from in (0..end).step_by(HASHED_BYTES) {
            let len = (end - from).min(HASHED_BYTES);
            if let Ok(part) = rest.subslice(from, len) {
                part.copy_to(&mut bytes[..len]);
            }
            hash = self.mix(hash, &bytes[..len]);
        }
        hash
    }

    /// Mixes bytes into a hash, 16 at a time: a multiplication whose halves are folded. It is a
    /// fraction of what the standard hasher costs, which a stream of multicasts would pay for each
    /// frame.
    fn mix(&self, hash: u64, bytes: &[u8]) -> u64 {
        let [first, second] = self.keys;
        let fold = |hash: u64, piece: [u8; 16]| {
            let word = u128::from_le_bytes(piece);
            let (low, high) = (word as u64 ^ first, (word >> 64) as u64 ^ hash ^ second);
            let product = u128::from(low) * u128::from(high);
            product as u64 ^ (product >> 64) as u64
        };
        let (pieces, tail) = bytes.as_chunks::<16>();
        let hash = pieces.iter().fold(hash, |hash, piece| fold(hash, *piece));
        let mut last = [0; 16];
        last[..tail.len()].copy_from_slice(tail);
        fold(hash ^ bytes.len() as u64, last)
    }
}

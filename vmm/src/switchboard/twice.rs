//! At most once: frames that both NICs received reach the guest once.
//!
//! While two NICs receive, in a planned switch and in the moment of a takeover, a broadcast reaches
//! both, and so does a unicast frame to an address that the switch does not know. Each frame handed
//! to the guest in that time is remembered by a keyed hash of all its bytes and by whose it was; the
//! other NIC's copy is recognised by it and dropped. One memory stands for one copy, so a frame that
//! was really sent twice comes twice.
//!
//! Two equal frames within one such moment, of which each NIC received another one, are taken for
//! one: at most once goes before at least once.

use std::hash::{BuildHasher, Hasher, RandomState};

use vm_memory::VolatileSlice;

use super::lane::{RxFrame, body};
use crate::domain::DomainSlot;

/// Frames remembered: as many as a gigabit link brings of full size in six milliseconds, twice what
/// a switch takes; the oldest makes room.
const FRAMES: usize = 512;
/// Bytes of a frame that are hashed at a time.
const CHUNK_BYTES: usize = 256;

/// Which frames can come twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// None: one NIC receives.
    Nothing,
    /// Broadcast and multicast: the other NIC opened its filters a moment before the first closed.
    Groups,
    /// All: both NICs receive for a while.
    Everything,
}

#[derive(Clone, Copy)]
struct Memory {
    hash: u64,
    lane: usize,
}

/// Remembers what was handed on while two NICs receive.
pub(crate) struct Twice {
    scope: Scope,
    /// Nothing more is remembered: one NIC receives.
    fades: bool,
    until_ns: Option<u64>,
    seen: Vec<Memory>,
    oldest: usize,
    keys: RandomState,
}

/// A frame as it is remembered; nothing for one that cannot come twice.
#[derive(Clone, Copy)]
pub(crate) struct Key(Option<Memory>);

impl Twice {
    pub(crate) fn new() -> Self {
        Self {
            scope: Scope::Nothing,
            fades: false,
            until_ns: None,
            seen: Vec::with_capacity(FRAMES),
            oldest: 0,
            keys: RandomState::new(),
        }
    }

    /// Both NICs receive from now on, until [`Self::stop`] or a moment. What is remembered stays.
    pub(crate) fn start(&mut self, scope: Scope, until_ns: Option<u64>) {
        self.scope = scope;
        self.fades = false;
        self.until_ns = until_ns;
    }

    /// One NIC receives again. What its domain had received before and not yet published may still
    /// be the other's copy, so the memories last until a moment.
    pub(crate) fn fade(&mut self, until_ns: u64) {
        self.fades = true;
        self.until_ns = Some(until_ns);
    }

    fn stop(&mut self) {
        self.scope = Scope::Nothing;
        self.until_ns = None;
        self.seen.clear();
        self.oldest = 0;
    }

    /// Stops when it is time.
    pub(crate) fn tick(&mut self, now_ns: u64) {
        if self.until_ns.is_some_and(|until| until <= now_ns) {
            self.stop();
        }
    }

    /// What to remember a frame by.
    pub(crate) fn key(&self, lane: usize, slot: &DomainSlot, frame: &RxFrame) -> Key {
        let counts = match self.scope {
            Scope::Nothing => false,
            Scope::Groups => frame.head[0] & 1 != 0,
            Scope::Everything => true,
        };
        Key(counts.then(|| Memory { hash: self.hash(slot, frame), lane }))
    }

    /// Whether the other NIC's copy was handed on; its memory is used up.
    pub(crate) fn is_second(&mut self, key: Key) -> bool {
        let Some(key) = key.0 else { return false };
        let other = |seen: &Memory| seen.hash == key.hash && seen.lane != key.lane;
        match self.seen.iter().position(other) {
            Some(at) => {
                self.seen.swap_remove(at);
                self.oldest = 0;
                true
            }
            None => false,
        }
    }

    /// The frame was handed on.
    pub(crate) fn remember(&mut self, key: Key) {
        let Some(key) = key.0.filter(|_| !self.fades) else { return };
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
        hash_body(&mut hasher, body(slot, frame));
        hasher.finish()
    }
}

fn hash_body(hasher: &mut impl Hasher, body: VolatileSlice<'_>) {
    let mut chunk = [0; CHUNK_BYTES];
    let mut from = 0;
    while from < body.len() {
        let len = (body.len() - from).min(CHUNK_BYTES);
        if let Ok(part) = body.subslice(from, len) {
            part.copy_to(&mut chunk[..len]);
        }
        hasher.write(&chunk[..len]);
        from += len;
    }
}

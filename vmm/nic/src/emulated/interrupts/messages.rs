//! The vectors: which are pending, masked or moderated, and the message of each.
//!
//! EICR and EIMS share one atomic word, so that "pending and not masked" is decided once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::emulated::doorbell::Doorbell;
use crate::registers::{eitr, gpie};
use platform::clock::monotonic_ns;

/// Vectors of the i210.
const VECTORS: usize = 5;
/// Vectors that the VMM listens to; messages of the others go nowhere.
const EVENTS: usize = 2;
pub(super) const ALL_VECTORS: u32 = (1 << VECTORS) - 1;

/// Vectors and their messages.
pub(in crate::emulated) struct Messages {
    /// GPIE.
    pub(in crate::emulated) general: AtomicU32,
    /// EIAC.
    pub(in crate::emulated) auto_clear: AtomicU32,
    /// EIAM.
    pub(in crate::emulated) auto_mask: AtomicU32,
    /// EITR.
    pub(in crate::emulated) moderation: [AtomicU32; VECTORS],
    /// EIMS above, EICR below.
    extended: AtomicU64,
    /// Vectors whose message waits for the end of an interval.
    deferred: AtomicU32,
    sent_ns: [AtomicU64; VECTORS],
    /// Messages are writes to memory: none without bus mastering.
    allowed: AtomicBool,
    events: [EventFd; EVENTS],
    doorbell: Arc<Doorbell>,
}

impl Messages {
    pub(super) fn new(doorbell: Arc<Doorbell>) -> std::io::Result<Self> {
        let event = || EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC);
        Ok(Self {
            general: AtomicU32::new(0),
            auto_clear: AtomicU32::new(0),
            auto_mask: AtomicU32::new(0),
            moderation: std::array::from_fn(|_| AtomicU32::new(0)),
            extended: AtomicU64::new(0),
            deferred: AtomicU32::new(0),
            sent_ns: std::array::from_fn(|_| AtomicU64::new(0)),
            allowed: AtomicBool::new(false),
            events: [event()?, event()?],
            doorbell,
        })
    }

    /// Zeroes everything but the moderation.
    pub(super) fn reset(&self) {
        for register in [&self.general, &self.auto_clear, &self.auto_mask, &self.deferred] {
            register.store(0, Ordering::SeqCst);
        }
        self.extended.store(0, Ordering::SeqCst);
    }

    /// A function-level reset: the moderation goes too.
    pub(in crate::emulated) fn end_moderation(&self) {
        self.moderation.iter().for_each(|interval| interval.store(0, Ordering::SeqCst));
    }

    /// What a message of this vector sets.
    pub(in crate::emulated) fn event(&self, vector: usize) -> &EventFd {
        &self.events[vector]
    }

    /// Bus mastering came or went. A message that was held back goes out when it comes.
    pub(in crate::emulated) fn allow(&self, allowed: bool) {
        self.allowed.store(allowed, Ordering::SeqCst);
        self.fire(ALL_VECTORS);
    }

    /// Sets bits of EICR: by hardware, or by a store to EICS.
    pub(in crate::emulated) fn raise(&self, vectors: u32) {
        let vectors = vectors & ALL_VECTORS;
        self.extended.fetch_or(u64::from(vectors), Ordering::SeqCst);
        self.fire(vectors);
    }

    /// Without MSI-X mode, everything comes on the first vector.
    pub(super) fn send_without_msix(&self) {
        if self.allowed.load(Ordering::SeqCst) {
            signal(&self.events[0]);
        }
    }

    /// Sends what of `vectors` is pending, not masked, and not held back.
    fn fire(&self, vectors: u32) {
        if !self.is_msix() || !self.allowed.load(Ordering::SeqCst) {
            return;
        }
        let due = vectors & self.eicr() & self.eims();
        for vector in (0..VECTORS).filter(|vector| due >> vector & 1 != 0) {
            if self.is_moderated(vector) {
                self.deferred.fetch_or(1 << vector, Ordering::SeqCst);
                self.doorbell.ring();
            } else {
                self.send(vector);
            }
        }
    }

    fn send(&self, vector: usize) {
        let bit = 1_u32 << vector;
        let masks = self.general.load(Ordering::SeqCst) & gpie::EIAME != 0;
        let cleared = self.auto_clear.load(Ordering::SeqCst) & bit;
        let masked = if masks { self.auto_mask.load(Ordering::SeqCst) & bit } else { 0 };
        let sent = self.extended.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |word| {
            let pending = word as u32 & (word >> 32) as u32 & bit != 0;
            pending.then_some(word & !(u64::from(masked) << 32 | u64::from(cleared)))
        });
        if sent.is_err() {
            return;
        }
        if self.interval_ns(vector) != 0 {
            self.sent_ns[vector].store(monotonic_ns(), Ordering::SeqCst);
        }
        if let Some(event) = self.events.get(vector) {
            signal(event);
        }
    }

    fn interval_ns(&self, vector: usize) -> u64 {
        let register = self.moderation[vector].load(Ordering::SeqCst);
        u64::from(register >> eitr::INTERVAL_SHIFT & eitr::INTERVAL_MASK) * 1000
    }

    /// When the vector may send again.
    fn due_ns(&self, vector: usize) -> u64 {
        self.sent_ns[vector].load(Ordering::SeqCst) + self.interval_ns(vector)
    }

    fn is_moderated(&self, vector: usize) -> bool {
        self.interval_ns(vector) != 0 && monotonic_ns() < self.due_ns(vector)
    }

    /// Engine: sends messages whose interval is over, and returns when the next one is due.
    pub(in crate::emulated) fn fire_deferred(&self) -> Option<u64> {
        if self.deferred.load(Ordering::SeqCst) == 0 {
            return None;
        }
        let mut next_ns = None;
        for vector in (0..VECTORS).filter(|v| self.deferred.load(Ordering::SeqCst) >> v & 1 != 0) {
            if self.is_moderated(vector) {
                next_ns = next_ns.into_iter().chain([self.due_ns(vector)]).min();
            } else {
                self.deferred.fetch_and(!(1 << vector), Ordering::SeqCst);
                self.fire(1 << vector);
            }
        }
        next_ns
    }

    pub(super) fn is_msix(&self) -> bool {
        self.general.load(Ordering::SeqCst) & gpie::MULTIPLE_MSIX != 0
    }

    pub(in crate::emulated) fn eims(&self) -> u32 {
        (self.extended.load(Ordering::SeqCst) >> 32) as u32
    }

    fn eicr(&self) -> u32 {
        self.extended.load(Ordering::SeqCst) as u32
    }

    /// A load of EICR. In MSI-X mode it clears nothing, unlike QEMU's.
    pub(in crate::emulated) fn read_eicr(&self) -> u32 {
        let before = self.eicr();
        if !self.is_msix() {
            self.clear_eicr(before);
        }
        before
    }

    /// A store to EICR.
    pub(in crate::emulated) fn clear_eicr(&self, bits: u32) {
        self.extended.fetch_and(!u64::from(bits), Ordering::SeqCst);
    }

    /// A store to EIMS: unmasks, and what was pending comes at once.
    pub(in crate::emulated) fn unmask(&self, vectors: u32) {
        let vectors = vectors & ALL_VECTORS;
        self.extended.fetch_or(u64::from(vectors) << 32, Ordering::SeqCst);
        self.fire(vectors);
    }

    /// A store to EIMC.
    pub(in crate::emulated) fn mask(&self, vectors: u32) {
        self.extended.fetch_and(!(u64::from(vectors) << 32), Ordering::SeqCst);
    }
}

fn signal(event: &EventFd) {
    // Fails only when the counter is about to overflow; the listener is awake then.
    let _ = event.write(1);
}

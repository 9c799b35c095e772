//! Interrupts (i210 datasheet §7.3, §8.8), delivered as eventfds in place of MSI-X messages.
//!
//! ```text
//!  queue cause ── IVAR0 ─────────────┐
//!  ICR & IMS ──── IVAR_MISC byte 1 ──┴─▶ EICR & EIMS ── EITR ── message, then EIAC clears EICR
//!                                                               and EIAM (with EIAME) masks EIMS
//! ```
//!
//! EICR and EIMS share one atomic word, so that "pending and not masked" is decided once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::doorbell::Doorbell;
use crate::clock::monotonic_ns;
use crate::nic::registers::{IVAR_VALID, gpie, icr};

/// Vectors of the i210.
const VECTORS: usize = 5;
/// Vectors that the VMM listens to; messages of the others go nowhere.
const EVENTS: usize = 2;
const ALL_VECTORS: u32 = (1 << VECTORS) - 1;
/// EITR: interval in microseconds, bits 14:2.
const EITR_INTERVAL_SHIFT: u32 = 2;
const EITR_INTERVAL_MASK: u32 = 0x1fff;

/// Registers and messages.
pub(super) struct Interrupts {
    cause: AtomicU32,
    mask: AtomicU32,
    /// IAM: stored only; it counts where MSI-X is off.
    pub(super) acknowledge_mask: AtomicU32,
    pub(super) general: AtomicU32,
    pub(super) auto_clear: AtomicU32,
    pub(super) auto_mask: AtomicU32,
    pub(super) queue_vectors: AtomicU32,
    pub(super) other_vectors: AtomicU32,
    pub(super) moderation: [AtomicU32; VECTORS],
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

impl Interrupts {
    pub(super) fn new(doorbell: Arc<Doorbell>) -> std::io::Result<Self> {
        let event = || EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC);
        Ok(Self {
            cause: AtomicU32::new(0),
            mask: AtomicU32::new(0),
            acknowledge_mask: AtomicU32::new(0),
            general: AtomicU32::new(0),
            auto_clear: AtomicU32::new(0),
            auto_mask: AtomicU32::new(0),
            queue_vectors: AtomicU32::new(0),
            other_vectors: AtomicU32::new(0),
            moderation: std::array::from_fn(|_| AtomicU32::new(0)),
            extended: AtomicU64::new(0),
            deferred: AtomicU32::new(0),
            sent_ns: std::array::from_fn(|_| AtomicU64::new(0)),
            allowed: AtomicBool::new(false),
            events: [event()?, event()?],
            doorbell,
        })
    }

    /// What CTRL.RST leaves: all zero but EITR, which survives.
    pub(super) fn reset(&self) {
        for register in [
            &self.cause,
            &self.mask,
            &self.acknowledge_mask,
            &self.general,
            &self.auto_clear,
            &self.auto_mask,
            &self.queue_vectors,
            &self.other_vectors,
            &self.deferred,
        ] {
            register.store(0, Ordering::SeqCst);
        }
        self.extended.store(0, Ordering::SeqCst);
    }

    pub(super) fn event(&self, vector: usize) -> &EventFd {
        &self.events[vector]
    }

    /// Bus mastering came or went. A message that was held back goes out when it comes.
    pub(super) fn allow(&self, allowed: bool) {
        self.allowed.store(allowed, Ordering::SeqCst);
        self.fire(ALL_VECTORS);
    }

    /// A receive descriptor was written back.
    pub(super) fn raise_receive(&self) {
        self.raise_queue(self.queue_vectors.load(Ordering::SeqCst) & 0xff, icr::RXDW);
    }

    /// A transmit descriptor was written back.
    pub(super) fn raise_transmit(&self) {
        self.raise_queue(self.queue_vectors.load(Ordering::SeqCst) >> 8 & 0xff, icr::TXDW);
    }

    fn raise_queue(&self, route: u32, cause: u32) {
        self.raise_other(cause);
        if self.is_msix() {
            self.raise(vector_bit(route));
        }
    }

    /// A cause of ICR.
    pub(super) fn raise_other(&self, causes: u32) {
        self.cause.fetch_or(causes, Ordering::SeqCst);
        self.assert_other(causes);
    }

    /// Bits of EICR, by hardware or by EICS.
    pub(super) fn raise(&self, vectors: u32) {
        let vectors = vectors & ALL_VECTORS;
        self.extended.fetch_or(u64::from(vectors), Ordering::SeqCst);
        self.fire(vectors);
    }

    fn assert_other(&self, causes: u32) {
        if causes & self.cause.load(Ordering::SeqCst) & self.mask.load(Ordering::SeqCst) == 0 {
            return;
        }
        self.cause.fetch_or(icr::INTA, Ordering::SeqCst);
        if self.is_msix() {
            self.raise(vector_bit(self.other_vectors.load(Ordering::SeqCst) >> 8 & 0xff));
        } else if self.allowed.load(Ordering::SeqCst) {
            // Without MSI-X mode everything comes on the first vector.
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
        u64::from(register >> EITR_INTERVAL_SHIFT & EITR_INTERVAL_MASK) * 1000
    }

    /// When the vector may send again.
    fn due_ns(&self, vector: usize) -> u64 {
        self.sent_ns[vector].load(Ordering::SeqCst) + self.interval_ns(vector)
    }

    fn is_moderated(&self, vector: usize) -> bool {
        self.interval_ns(vector) != 0 && monotonic_ns() < self.due_ns(vector)
    }

    /// Engine: sends messages whose interval is over, and says when the next one is due.
    pub(super) fn fire_deferred(&self) -> Option<u64> {
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

    fn is_msix(&self) -> bool {
        self.general.load(Ordering::SeqCst) & gpie::MULTIPLE_MSIX != 0
    }

    pub(super) fn eims(&self) -> u32 {
        (self.extended.load(Ordering::SeqCst) >> 32) as u32
    }

    fn eicr(&self) -> u32 {
        self.extended.load(Ordering::SeqCst) as u32
    }

    /// A load of EICR. In MSI-X mode it clears nothing, unlike QEMU's.
    pub(super) fn read_eicr(&self) -> u32 {
        let before = self.eicr();
        if !self.is_msix() {
            self.clear_eicr(before);
        }
        before
    }

    pub(super) fn clear_eicr(&self, bits: u32) {
        self.extended.fetch_and(!u64::from(bits), Ordering::SeqCst);
    }

    /// A store to EIMS: unmasks, and what was pending comes at once.
    pub(super) fn unmask(&self, vectors: u32) {
        let vectors = vectors & ALL_VECTORS;
        self.extended.fetch_or(u64::from(vectors) << 32, Ordering::SeqCst);
        self.fire(vectors);
    }

    /// A store to EIMC.
    pub(super) fn mask(&self, vectors: u32) {
        self.extended.fetch_and(!(u64::from(vectors) << 32), Ordering::SeqCst);
    }

    pub(super) fn ims(&self) -> u32 {
        self.mask.load(Ordering::SeqCst)
    }

    /// A store to IMS.
    pub(super) fn unmask_other(&self, causes: u32) {
        self.mask.fetch_or(causes, Ordering::SeqCst);
        self.assert_other(causes);
    }

    /// A store to IMC.
    pub(super) fn mask_other(&self, causes: u32) {
        self.mask.fetch_and(!causes, Ordering::SeqCst);
    }

    /// A load of ICR: it clears if NSICR says so, if nothing is unmasked, or if an interrupt was
    /// asserted.
    pub(super) fn read_icr(&self) -> u32 {
        let clears = self.general.load(Ordering::SeqCst) & gpie::NSICR != 0 || self.ims() == 0;
        let before = self.cause.load(Ordering::SeqCst);
        if clears || before & icr::INTA != 0 {
            self.clear_icr(before);
        }
        before
    }

    /// A store to ICR.
    pub(super) fn clear_icr(&self, causes: u32) {
        let left = self.cause.fetch_and(!causes, Ordering::SeqCst) & !causes;
        if left & self.ims() == 0 {
            self.cause.fetch_and(!icr::INTA, Ordering::SeqCst);
        }
    }
}

/// EICR bit that a byte of IVAR routes to.
fn vector_bit(route: u32) -> u32 {
    if route & IVAR_VALID == 0 { 0 } else { 1 << (route & 0x1f) & ALL_VECTORS }
}

fn signal(event: &EventFd) {
    // Fails only when the counter is about to overflow; the listener is awake then.
    let _ = event.write(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the driver sets them up: queues on vector 0, the rest on vector 1, link changes only.
    fn interrupts(general: u32) -> Interrupts {
        let interrupts = Interrupts::new(Arc::new(Doorbell::new().unwrap())).unwrap();
        interrupts.general.store(general | gpie::MULTIPLE_MSIX, Ordering::SeqCst);
        interrupts.queue_vectors.store(0x8080, Ordering::SeqCst);
        interrupts.other_vectors.store(0x8100, Ordering::SeqCst);
        interrupts.auto_clear.store(3, Ordering::SeqCst);
        interrupts.auto_mask.store(3, Ordering::SeqCst);
        interrupts.unmask_other(icr::LSC);
        interrupts.unmask(3);
        interrupts.allow(true);
        interrupts
    }

    fn messages(interrupts: &Interrupts) -> [u64; 2] {
        [0, 1].map(|vector| interrupts.event(vector).read().unwrap_or(0))
    }

    #[test]
    fn causes_come_on_their_vectors_and_clear_themselves() {
        let interrupts = interrupts(0);
        interrupts.raise_receive();
        assert_eq!(messages(&interrupts), [1, 0]);
        interrupts.raise_other(icr::LSC);
        assert_eq!(messages(&interrupts), [0, 1]);
        assert_eq!(interrupts.read_eicr(), 0, "EIAC");
        interrupts.raise_transmit();
        assert_eq!(messages(&interrupts), [1, 0]);
    }

    #[test]
    fn auto_mask_holds_until_unmasked() {
        let interrupts = interrupts(gpie::EIAME);
        interrupts.raise_receive();
        interrupts.raise_receive();
        assert_eq!(messages(&interrupts), [1, 0]);
        assert_eq!(interrupts.eims(), 2);
        interrupts.unmask(1);
        assert_eq!(messages(&interrupts), [1, 0], "the one that was pending");
    }

    #[test]
    fn reading_eicr_clears_nothing_in_msix_mode() {
        let interrupts = interrupts(0);
        interrupts.mask(3);
        interrupts.raise(1);
        assert_eq!((interrupts.read_eicr(), interrupts.read_eicr()), (1, 1));
        interrupts.clear_eicr(1);
        interrupts.unmask(1);
        assert_eq!(messages(&interrupts), [0, 0]);
    }

    #[test]
    fn a_masked_cause_of_icr_comes_when_it_is_unmasked() {
        let interrupts = interrupts(0);
        interrupts.mask_other(u32::MAX);
        interrupts.raise_other(icr::LSC);
        assert_eq!(messages(&interrupts), [0, 0]);
        interrupts.unmask_other(icr::LSC);
        assert_eq!(messages(&interrupts), [0, 1]);
    }

    #[test]
    fn icr_reads_clear_as_the_datasheet_says() {
        let interrupts = interrupts(0);
        interrupts.raise_other(icr::RX_MISS);
        assert_eq!(interrupts.read_icr(), icr::RX_MISS);
        assert_eq!(interrupts.read_icr(), icr::RX_MISS, "IMS is not 0 and nothing was asserted");
        interrupts.raise_other(icr::LSC);
        assert_eq!(interrupts.read_icr(), icr::RX_MISS | icr::LSC | icr::INTA);
        assert_eq!(interrupts.read_icr(), 0);
        interrupts.general.fetch_or(gpie::NSICR, Ordering::SeqCst);
        interrupts.raise_other(icr::RX_MISS);
        interrupts.read_icr();
        assert_eq!(interrupts.read_icr(), 0);
    }

    #[test]
    fn without_bus_mastering_messages_wait() {
        let interrupts = interrupts(0);
        interrupts.allow(false);
        interrupts.raise_receive();
        assert_eq!(messages(&interrupts), [0, 0]);
        interrupts.allow(true);
        assert_eq!(messages(&interrupts), [1, 0]);
    }

    #[test]
    fn moderation_defers_the_second_message() {
        let interrupts = interrupts(0);
        interrupts.moderation[0].store(2000 << EITR_INTERVAL_SHIFT, Ordering::SeqCst);
        interrupts.raise_receive();
        interrupts.raise_receive();
        assert_eq!(messages(&interrupts), [1, 0]);
        while let Some(due_ns) = interrupts.fire_deferred() {
            let wait_ns = due_ns.saturating_sub(monotonic_ns());
            std::thread::sleep(std::time::Duration::from_nanos(wait_ns));
        }
        assert_eq!(messages(&interrupts), [1, 0]);
    }

    #[test]
    fn without_msix_mode_all_comes_on_vector_zero() {
        let interrupts = interrupts(0);
        interrupts.general.store(0, Ordering::SeqCst);
        interrupts.raise_other(icr::LSC);
        interrupts.raise_receive();
        assert_eq!(messages(&interrupts), [1, 0], "RXDW is not unmasked in IMS");
    }

    #[test]
    fn causes_without_a_valid_route_go_nowhere() {
        let interrupts = interrupts(0);
        for route in [0, 0x8000, 0x01, 0x9f] {
            interrupts.queue_vectors.store(route, Ordering::SeqCst);
            interrupts.raise_receive();
        }
        assert_eq!(messages(&interrupts), [0, 0]);
    }
}

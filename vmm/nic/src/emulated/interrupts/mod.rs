//! Interrupts (i210 datasheet §7.3, §8.8), delivered as eventfds in place of MSI-X messages.
//!
//! ```text
//!  queue cause ── IVAR0 ─────────────┐
//!  ICR & IMS ──── IVAR_MISC byte 1 ──┴─▶ EICR & EIMS ── EITR ── message, then EIAC clears EICR
//!                                                               and EIAM (with EIAME) masks EIMS
//!  causes: this file                   vectors: messages
//! ```

mod messages;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use self::messages::{ALL_VECTORS, Messages};
use super::doorbell::Doorbell;
use crate::registers::{IVAR_VALID, gpie, icr};

/// The causes of interrupts, and the vectors that they are routed to.
pub(super) struct Interrupts {
    /// ICR.
    cause: AtomicU32,
    /// IMS.
    mask: AtomicU32,
    /// IAM: stored only; it counts where MSI-X is off.
    pub(super) acknowledge_mask: AtomicU32,
    /// IVAR0.
    pub(super) queue_vectors: AtomicU32,
    /// IVAR_MISC.
    pub(super) other_vectors: AtomicU32,
    pub(super) messages: Messages,
}

impl Interrupts {
    pub(super) fn new(doorbell: Arc<Doorbell>) -> std::io::Result<Self> {
        Ok(Self {
            cause: AtomicU32::new(0),
            mask: AtomicU32::new(0),
            acknowledge_mask: AtomicU32::new(0),
            queue_vectors: AtomicU32::new(0),
            other_vectors: AtomicU32::new(0),
            messages: Messages::new(doorbell)?,
        })
    }

    /// What CTRL.RST leaves: all zero but EITR, which survives.
    pub(super) fn reset(&self) {
        for register in [
            &self.cause,
            &self.mask,
            &self.acknowledge_mask,
            &self.queue_vectors,
            &self.other_vectors,
        ] {
            register.store(0, Ordering::SeqCst);
        }
        self.messages.reset();
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
        if self.messages.is_msix() {
            self.messages.raise(vector_bit(route));
        }
    }

    /// A cause of ICR.
    pub(super) fn raise_other(&self, causes: u32) {
        self.cause.fetch_or(causes, Ordering::SeqCst);
        self.assert_other(causes);
    }

    fn assert_other(&self, causes: u32) {
        if causes & self.cause.load(Ordering::SeqCst) & self.mask.load(Ordering::SeqCst) == 0 {
            return;
        }
        self.cause.fetch_or(icr::INTA, Ordering::SeqCst);
        if self.messages.is_msix() {
            let route = self.other_vectors.load(Ordering::SeqCst) >> 8 & 0xff;
            self.messages.raise(vector_bit(route));
        } else {
            self.messages.send_without_msix();
        }
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
        let general = self.messages.general.load(Ordering::SeqCst);
        let clears = general & gpie::NSICR != 0 || self.ims() == 0;
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

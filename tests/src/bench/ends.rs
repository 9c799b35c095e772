//! A domain's ends of its shared rings, for what stands in a domain's place.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering, fence};

use shared_ring::entry::Slot;
use shared_ring::layout::{RX_DONE_BASE, RX_PROVIDE_BASE, TX_DONE_BASE, TX_POST_BASE};
use shared_ring::ring::RingMemory;
use shared_ring::{Consumer, Producer};
use warmspare::domain::DomainSlot;

/// The one life of a domain that is not there.
pub(super) const EPOCH: u32 = 1;

/// The domain's ends of its rings.
pub(super) struct Ends {
    pub(super) tx_post: Consumer,
    pub(super) rx_provide: Consumer,
    pub(super) tx_done: Producer,
    pub(super) rx_done: Producer,
}

impl Ends {
    /// Those of a slot's rings; one set for each slot.
    pub(super) fn new(slot: &DomainSlot) -> Self {
        let (control, status) = (slot.control(), slot.status());
        let ring = |base, published: &AtomicU32, consumed: &AtomicU32| RingMemory {
            slots: NonNull::from(slot.ram.shape::<Slot>(base).expect("within the memory map")),
            published: NonNull::from(published),
            consumed: NonNull::from(consumed),
        };
        let post = ring(TX_POST_BASE, &control.tx_post_published.0, &status.tx_post_consumed.0);
        let provide =
            ring(RX_PROVIDE_BASE, &control.rx_provide_published.0, &status.rx_provide_consumed.0);
        let done = ring(TX_DONE_BASE, &status.tx_done_published.0, &control.tx_done_consumed.0);
        let received = ring(RX_DONE_BASE, &status.rx_done_published.0, &control.rx_done_consumed.0);
        // SAFETY: the thread that uses them holds the slot, and there is one for each slot.
        unsafe {
            Self {
                tx_post: Consumer::new(post),
                rx_provide: Consumer::new(provide),
                tx_done: Producer::new(done),
                rx_done: Producer::new(received),
            }
        }
    }
}

/// Wakes the switchboard if it sleeps; for after the rings have been published.
pub(super) fn notify(slot: &DomainSlot) {
    fence(Ordering::SeqCst);
    if slot.control().switchboard_asleep.0.load(Ordering::Relaxed) != 0 {
        let _ = slot.notify.write(1);
    }
}

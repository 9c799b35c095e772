//! What the null domain and the plain back-end share: the epoch of the one life that stands in for
//! a domain, and the wake-up of the switchboard.

use std::sync::atomic::{Ordering, fence};

use microvm::domain::DomainSlot;

/// Number of the life.
pub(super) const EPOCH: u32 = 1;

/// Wakes the switchboard if it sleeps; called after the rings have been published.
pub(super) fn notify(slot: &DomainSlot) {
    fence(Ordering::SeqCst);
    if slot.control().switchboard_asleep.0.load(Ordering::Relaxed) != 0 {
        let _ = slot.notify.write(1);
    }
}

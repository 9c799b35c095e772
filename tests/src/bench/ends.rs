//! What stands in a domain's place: the one life of a domain that is not there.

use std::sync::atomic::{Ordering, fence};

use microvm::domain::DomainSlot;

/// Its number.
pub(super) const EPOCH: u32 = 1;

/// Wakes the switchboard if it sleeps; for after the rings have been published.
pub(super) fn notify(slot: &DomainSlot) {
    fence(Ordering::SeqCst);
    if slot.control().switchboard_asleep.0.load(Ordering::Relaxed) != 0 {
        let _ = slot.notify.write(1);
    }
}

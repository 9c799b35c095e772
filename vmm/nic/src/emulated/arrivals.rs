//! When the frames arrived that the driver has not published yet, or that the NIC had to refuse.
//!
//! Hardware keeps no such stamps. Here they cost the engine one look at the clock for each turn in
//! which frames came, and tell how long a failed driver's guests have been without them.

use std::sync::atomic::{AtomicU64, Ordering};

use shared_ring::layout::NIC_RX_DESCRIPTORS;

/// Stamps of arrivals, `CLOCK_MONOTONIC` nanoseconds. The engine writes, others read.
pub(super) struct Arrivals {
    /// When the frame in each descriptor arrived.
    stamps: Box<[AtomicU64]>,
    /// When the first frame arrived that was refused since one was received; 0 if none was.
    refused_ns: AtomicU64,
}

impl Arrivals {
    pub(super) fn new() -> Self {
        Self {
            stamps: (0..NIC_RX_DESCRIPTORS).map(|_| AtomicU64::new(0)).collect(),
            refused_ns: AtomicU64::new(0),
        }
    }

    /// Engine: a frame, or a part of one, came into this descriptor.
    pub(super) fn received(&self, descriptor: u32, at_ns: u64) {
        // A ring that is longer than the drivers' own has descriptors without a stamp.
        if let Some(stamp) = self.stamps.get(descriptor as usize) {
            stamp.store(at_ns, Ordering::Relaxed);
        }
        if self.refused_ns.load(Ordering::Relaxed) != 0 {
            self.refused_ns.store(0, Ordering::Release);
        }
    }

    /// Engine: a frame for a guest came, and cannot be taken in.
    pub(super) fn refused(&self, at_ns: u64) {
        if self.refused_ns.load(Ordering::Relaxed) == 0 {
            self.refused_ns.store(at_ns, Ordering::Release);
        }
    }

    /// What was refused before is not the fault of who drives the NIC from now on.
    pub(super) fn forget_refused(&self) {
        self.refused_ns.store(0, Ordering::Release);
    }

    /// When the oldest frame arrived that was refused or is not published: the driver looks at the
    /// descriptor `next` next, and the NIC finishes that at `head` next. Both are taken modulo the
    /// ring, since a driver may write anything.
    pub(super) fn oldest_ns(&self, next: u32, head: u32) -> Option<u64> {
        let next = next as usize % NIC_RX_DESCRIPTORS;
        let unpublished = (head as usize != next).then(|| &self.stamps[next]);
        let stamps = unpublished.into_iter().chain([&self.refused_ns]);
        stamps.map(|stamp| stamp.load(Ordering::Acquire)).filter(|&at_ns| at_ns != 0).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_what_the_driver_publishes_next() {
        let arrivals = Arrivals::new();
        assert_eq!(arrivals.oldest_ns(0, 0), None);
        arrivals.received(0, 10);
        arrivals.received(1, 20);
        assert_eq!(arrivals.oldest_ns(0, 2), Some(10));
        assert_eq!(arrivals.oldest_ns(1, 2), Some(20));
        assert_eq!(arrivals.oldest_ns(2, 2), None);
        assert_eq!(arrivals.oldest_ns(NIC_RX_DESCRIPTORS as u32, 2), Some(10));
    }

    #[test]
    fn a_refused_frame_counts_until_the_next_comes_in() {
        let arrivals = Arrivals::new();
        arrivals.refused(5);
        arrivals.refused(6);
        assert_eq!(arrivals.oldest_ns(0, 0), Some(5));
        arrivals.received(0, 7);
        assert_eq!(arrivals.oldest_ns(1, 1), None);
        arrivals.refused(8);
        arrivals.forget_refused();
        assert_eq!(arrivals.oldest_ns(1, 1), None);
    }
}

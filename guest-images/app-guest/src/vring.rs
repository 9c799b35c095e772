//! When to notify, and when to be notified: the words of a split virtqueue that say so.
//!
//! `virtio-drivers` compares the event index without regard to its wrap-around and asks to be
//! notified of every used buffer. Each notification costs an exit here, so the guest keeps these
//! words itself: one QueueNotify for a batch, and none to the guest unless it is about to park.

use core::sync::atomic::{AtomicU16, Ordering, fence};

/// Bit of the available ring's flags: no used buffer notifications, please (virtio 1.3 §2.7.7).
const AVAIL_NO_INTERRUPT: u16 = 1;
/// Bit of the used ring's flags: no available buffer notifications, please (virtio 1.3 §2.7.10).
const USED_NO_NOTIFY: u16 = 1;

/// Returns true if a step of a ring index from `old` to `new` passed `event` (virtio 1.3 §2.7.7.1).
pub const fn passed(event: u16, old: u16, new: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}

/// The shared words of one split virtqueue.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a> {
    /// Flags of the available ring, written by the driver.
    pub avail_flags: &'a AtomicU16,
    /// Index of the available ring, written by the driver.
    pub avail_idx: &'a AtomicU16,
    /// Used index at which the device is to notify, written by the driver.
    pub used_event: &'a AtomicU16,
    /// Flags of the used ring, written by the device.
    pub used_flags: &'a AtomicU16,
    /// Index of the used ring, written by the device.
    pub used_idx: &'a AtomicU16,
    /// Available index at which the driver is to notify, written by the device.
    pub avail_event: &'a AtomicU16,
}

/// The driver's side of the notifications of one virtqueue.
#[derive(Debug)]
pub struct Notifications<'a> {
    words: Words<'a>,
    event_idx: bool,
    /// Available index up to which the device has been notified, or need not be.
    announced: u16,
    /// Used index up to which the driver has taken buffers back.
    taken: u16,
}

impl<'a> Notifications<'a> {
    /// For a fresh queue.
    pub const fn new(words: Words<'a>, event_idx: bool) -> Self {
        Self { words, event_idx, announced: 0, taken: 0 }
    }

    /// The driver took one used buffer back.
    pub fn take(&mut self) {
        self.taken = self.taken.wrapping_add(1);
    }

    /// Returns true if the device has used buffers that the driver has not taken back.
    pub fn has_used(&self) -> bool {
        self.words.used_idx.load(Ordering::Acquire) != self.taken
    }

    /// Returns true if the device must be told of what was made available since the last call.
    pub fn must_notify(&mut self) -> bool {
        let old = self.announced;
        let new = self.words.avail_idx.load(Ordering::Relaxed);
        if new == old {
            return false;
        }
        self.announced = new;
        // The device writes its wish and then looks at the index; we wrote the index and now look
        // at the wish. One of the two must see the other's store.
        fence(Ordering::SeqCst);
        if self.event_idx {
            passed(self.words.avail_event.load(Ordering::Relaxed), old, new)
        } else {
            self.words.used_flags.load(Ordering::Relaxed) & USED_NO_NOTIFY == 0
        }
    }

    /// Asks the device for a notification at its next used buffer. True if there already is one:
    /// then none may come, and the driver must look instead of parking.
    pub fn arm(&mut self) -> bool {
        self.words.avail_flags.store(0, Ordering::Relaxed);
        self.words.used_event.store(self.taken, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.has_used()
    }

    /// Asks the device to be quiet: the driver is looking anyway.
    pub fn disarm(&mut self) {
        if self.event_idx {
            // The index that comes last: 65,535 buffers from here.
            self.words.used_event.store(self.taken.wrapping_sub(1), Ordering::Relaxed);
        } else {
            self.words.avail_flags.store(AVAIL_NO_INTERRUPT, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Ring([AtomicU16; 6]);

    impl Ring {
        fn words(&self) -> Words<'_> {
            let [avail_flags, avail_idx, used_event, used_flags, used_idx, avail_event] = &self.0;
            Words { avail_flags, avail_idx, used_event, used_flags, used_idx, avail_event }
        }
    }

    #[test]
    fn an_event_is_passed_exactly_once_across_the_wrap() {
        for event in [0, 1, 65_534, 65_535] {
            let next = u16::wrapping_add(event, 1);
            assert!(passed(event, event, next));
            assert!(passed(event, event.wrapping_sub(3), event.wrapping_add(4)));
            assert!(!passed(event, next, next.wrapping_add(1)));
            assert!(!passed(event, event.wrapping_sub(1), event));
        }
    }

    #[test]
    fn a_batch_needs_one_notification_and_only_where_it_is_asked_for() {
        let ring = Ring::default();
        let words = ring.words();
        let mut queue = Notifications::new(words, true);
        assert!(!queue.must_notify(), "nothing new");
        words.avail_idx.store(65_530, Ordering::Relaxed);
        assert!(queue.must_notify());
        words.avail_event.store(65_533, Ordering::Relaxed);
        words.avail_idx.store(65_533, Ordering::Relaxed);
        assert!(!queue.must_notify(), "the device still has work");
        words.avail_idx.store(2, Ordering::Relaxed);
        assert!(queue.must_notify(), "past the wrap");
        assert!(!queue.must_notify());
    }

    #[test]
    fn flags_serve_where_event_indices_are_not_negotiated() {
        let ring = Ring::default();
        let words = ring.words();
        let mut queue = Notifications::new(words, false);
        words.avail_idx.store(1, Ordering::Relaxed);
        words.used_flags.store(USED_NO_NOTIFY, Ordering::Relaxed);
        assert!(!queue.must_notify());
        queue.disarm();
        assert_eq!(words.avail_flags.load(Ordering::Relaxed), AVAIL_NO_INTERRUPT);
        assert!(!queue.arm());
        assert_eq!(words.avail_flags.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_quiet_queue_is_not_notified_and_an_armed_one_is() {
        let ring = Ring::default();
        let words = ring.words();
        let mut queue = Notifications::new(words, true);
        let event = || words.used_event.load(Ordering::Relaxed);
        queue.disarm();
        assert!(!passed(event(), 0, 200), "a whole ring of used buffers");
        for _ in 0..200 {
            queue.take();
        }
        words.used_idx.store(200, Ordering::Relaxed);
        assert!(!queue.arm());
        assert!(passed(event(), 200, 201));
        words.used_idx.store(201, Ordering::Relaxed);
        assert!(queue.arm(), "a buffer came before the arming");
    }
}

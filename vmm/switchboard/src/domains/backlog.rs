//! Received frames that wait for guests without room, in the order in which they came.
//!
//! With one guest, one frame waits and nothing behind it is read: the rings fill, and the NIC drops
//! frames. With several, a guest that posts no buffers must not hold the others up, so each has a
//! bounded queue of its own, and a frame that finds it full is lost to that guest alone. A frame
//! for several guests stays in its one buffer until the last of them has it.
//!
//! Invariant: a buffer's count of holders is the number of queues that it stands in.

use std::collections::VecDeque;

use shared_ring::layout::{MAX_GUESTS, NIC_RX_DESCRIPTORS, RX_BUFFERS};

use super::rx_frame::RxFrame;
use crate::guest_set::GuestSet;

/// Frames that wait for one of several guests: about what a gigabit link brings of full size in
/// three quarters of a millisecond.
const DEPTH: usize = 64;

/// However many frames wait, the NIC has a buffer for each of its descriptors.
const _: () = assert!(MAX_GUESTS * DEPTH + NIC_RX_DESCRIPTORS <= RX_BUFFERS);

/// The frames of one life of a domain that wait.
pub(crate) struct Backlog {
    queues: Vec<VecDeque<RxFrame>>,
    depth: usize,
    /// How many guests each buffer waits for.
    holders: Box<[u8; RX_BUFFERS]>,
}

impl Backlog {
    /// Allocates all memory that it will ever use.
    pub(crate) fn new(guests: usize) -> Self {
        let depth = if guests == 1 { 1 } else { DEPTH };
        let queues = (0..guests).map(|_| VecDeque::with_capacity(depth)).collect();
        Self { queues, depth, holders: Box::new([0; RX_BUFFERS]) }
    }

    /// Returns true if nothing more may be read: a frame waits for the single guest.
    pub(crate) fn is_blocked(&self) -> bool {
        self.queues.len() == 1 && !self.queues[0].is_empty()
    }

    /// Guests that frames wait for.
    pub(crate) fn waiting(&self) -> GuestSet {
        let waiting = self.queues.iter().enumerate().filter(|(_, queue)| !queue.is_empty());
        waiting.fold(GuestSet::NONE, |set, (guest, _)| set.with(GuestSet::of(guest)))
    }

    /// Queues a frame for a guest. Returns false if its queue is full.
    pub(crate) fn hold(&mut self, guest: usize, frame: &RxFrame) -> bool {
        let queue = &mut self.queues[guest];
        if queue.len() == self.depth {
            return false;
        }
        queue.push_back(*frame);
        self.holders[usize::from(frame.buffer)] += 1;
        true
    }

    /// Returns true if a buffer's frame waits for some guest.
    pub(crate) fn holds(&self, buffer: u16) -> bool {
        self.holders[usize::from(buffer)] != 0
    }

    /// The frame that has waited longest for a guest.
    pub(crate) fn front(&self, guest: usize) -> Option<&RxFrame> {
        self.queues[guest].front()
    }

    /// Takes that frame out of the guest's queue. Returns its buffer if no other guest waits for
    /// it.
    pub(crate) fn pop(&mut self, guest: usize) -> Option<u16> {
        let buffer = self.queues[guest].pop_front()?.buffer;
        let holders = &mut self.holders[usize::from(buffer)];
        *holders -= 1;
        (*holders == 0).then_some(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared_ring::layout::CLEARED_HEADER_BYTES;

    fn frame(buffer: u16) -> RxFrame {
        RxFrame { buffer, len: 60, head: [1; CLEARED_HEADER_BYTES], damaged: false }
    }

    #[test]
    fn a_buffer_is_free_when_the_last_guest_has_it() {
        let mut backlog = Backlog::new(2);
        assert!(backlog.hold(0, &frame(5)) && backlog.hold(1, &frame(5)));
        assert_eq!(backlog.waiting().each().collect::<Vec<_>>(), [0, 1]);
        assert_eq!((backlog.pop(0), backlog.holds(5)), (None, true));
        assert_eq!((backlog.pop(1), backlog.holds(5)), (Some(5), false));
        assert_eq!((backlog.pop(1), backlog.waiting()), (None, GuestSet::NONE));
    }

    #[test]
    fn a_queue_is_bounded_and_leaves_the_others_alone() {
        let mut backlog = Backlog::new(2);
        assert!((0..DEPTH as u16).all(|buffer| backlog.hold(0, &frame(buffer))));
        assert!(!backlog.hold(0, &frame(900)));
        assert!(!backlog.is_blocked() && backlog.hold(1, &frame(900)));
        assert_eq!(backlog.front(0).map(|frame| frame.buffer), Some(0));
    }

    #[test]
    fn a_single_guest_blocks() {
        let mut backlog = Backlog::new(1);
        assert!(!backlog.is_blocked() && backlog.hold(0, &frame(1)) && backlog.is_blocked());
        assert!(!backlog.hold(0, &frame(2)));
    }
}

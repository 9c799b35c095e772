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

/// Buffers of the frames that wait for one of several guests: about what a gigabit link brings of
/// full size in three quarters of a millisecond.
const DEPTH: usize = 64;

/// However many frames wait, the NIC has a buffer for each of its descriptors.
const _: () = assert!(MAX_GUESTS * DEPTH + NIC_RX_DESCRIPTORS <= RX_BUFFERS);

/// The frames that wait for one guest.
struct Waiting {
    frames: VecDeque<RxFrame>,
    /// Buffers of these frames.
    buffers: usize,
}

/// The frames of one life of a domain that wait.
pub(crate) struct Backlog {
    queues: Vec<Waiting>,
    /// Most frames in a queue.
    depth: usize,
    /// How many guests each frame waits for, by the buffer that it begins in.
    holders: Box<[u8; RX_BUFFERS]>,
}

impl Backlog {
    /// Allocates all memory that it will ever use.
    pub(crate) fn new(guests: usize) -> Self {
        let depth = if guests == 1 { 1 } else { DEPTH };
        let queue = || Waiting { frames: VecDeque::with_capacity(depth), buffers: 0 };
        let queues = (0..guests).map(|_| queue()).collect();
        Self { queues, depth, holders: Box::new([0; RX_BUFFERS]) }
    }

    /// Returns true if nothing more may be read: a frame waits for the single guest.
    pub(crate) fn is_blocked(&self) -> bool {
        self.queues.len() == 1 && !self.queues[0].frames.is_empty()
    }

    /// Guests that frames wait for.
    pub(crate) fn waiting(&self) -> GuestSet {
        let waiting = self.queues.iter().enumerate().filter(|(_, queue)| !queue.frames.is_empty());
        waiting.fold(GuestSet::NONE, |set, (guest, _)| set.with(GuestSet::of(guest)))
    }

    /// Queues a frame for a guest. Returns false if its queue is full.
    pub(crate) fn hold(&mut self, guest: usize, frame: &RxFrame) -> bool {
        let queue = &mut self.queues[guest];
        let buffers = queue.buffers + frame.buffers().len();
        if queue.frames.len() == self.depth || buffers > DEPTH {
            return false;
        }
        queue.frames.push_back(*frame);
        queue.buffers = buffers;
        self.holders[usize::from(frame.first_buffer())] += 1;
        true
    }

    /// Returns true if a frame waits for some guest.
    #[inline]
    pub(crate) fn holds(&self, frame: &RxFrame) -> bool {
        self.holders[usize::from(frame.first_buffer())] != 0
    }

    /// The frame that has waited longest for a guest.
    pub(crate) fn front(&self, guest: usize) -> Option<&RxFrame> {
        self.queues[guest].frames.front()
    }

    /// Takes that frame out of the guest's queue. Returns it if no other guest waits for it.
    pub(crate) fn pop(&mut self, guest: usize) -> Option<RxFrame> {
        let queue = &mut self.queues[guest];
        let frame = queue.frames.pop_front()?;
        queue.buffers -= frame.buffers().len();
        let holders = &mut self.holders[usize::from(frame.first_buffer())];
        *holders -= 1;
        (*holders == 0).then_some(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::super::rx_frame::RxPart;
    use super::*;
    use shared_ring::layout::{BUFFER_BYTES, CLEARED_HEADER_BYTES};

    fn frame(buffer: u16) -> RxFrame {
        let part = RxPart { buffer, len: 60, ..RxPart::default() };
        RxFrame::new(part, [1; CLEARED_HEADER_BYTES])
    }

    /// A frame in two buffers.
    fn long_frame(buffer: u16) -> RxFrame {
        let part = RxPart { buffer, len: BUFFER_BYTES as u16, ..RxPart::default() };
        let mut frame = RxFrame::new(part, [1; CLEARED_HEADER_BYTES]);
        assert!(frame.append(RxPart { buffer: buffer + 1, len: 1, ..RxPart::default() }));
        frame
    }

    #[test]
    fn long_frames_count_by_their_buffers() {
        let mut backlog = Backlog::new(2);
        for n in 0..DEPTH as u16 / 2 {
            assert!(backlog.hold(0, &long_frame(2 * n)));
        }
        assert!(!backlog.hold(0, &frame(900)), "64 buffers wait");
        assert_eq!(backlog.pop(0).map(|frame| frame.buffers().to_vec()), Some(vec![0, 1]));
        assert!(backlog.hold(0, &frame(900)) && backlog.hold(0, &frame(901)));
        assert!(!backlog.hold(0, &frame(902)));
    }

    #[test]
    fn a_buffer_is_free_when_the_last_guest_has_it() {
        let mut backlog = Backlog::new(2);
        assert!(backlog.hold(0, &frame(5)) && backlog.hold(1, &frame(5)));
        assert_eq!(backlog.waiting().each().collect::<Vec<_>>(), [0, 1]);
        let pop = |backlog: &mut Backlog, guest| backlog.pop(guest).map(|it| it.first_buffer());
        assert_eq!((pop(&mut backlog, 0), backlog.holds(&frame(5))), (None, true));
        assert_eq!((pop(&mut backlog, 1), backlog.holds(&frame(5))), (Some(5), false));
        assert_eq!((pop(&mut backlog, 1), backlog.waiting()), (None, GuestSet::NONE));
    }

    #[test]
    fn a_queue_is_bounded_and_leaves_the_others_alone() {
        let mut backlog = Backlog::new(2);
        assert!((0..DEPTH as u16).all(|buffer| backlog.hold(0, &frame(buffer))));
        assert!(!backlog.hold(0, &frame(900)));
        assert!(!backlog.is_blocked() && backlog.hold(1, &frame(900)));
        assert_eq!(backlog.front(0).map(RxFrame::first_buffer), Some(0));
    }

    #[test]
    fn a_single_guest_blocks() {
        let mut backlog = Backlog::new(1);
        assert!(!backlog.is_blocked() && backlog.hold(0, &frame(1)) && backlog.is_blocked());
        assert!(!backlog.hold(0, &frame(2)));
    }
}

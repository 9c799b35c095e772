//! What every wire does.

use std::os::fd::BorrowedFd;

/// Longest frame a wire carries, in bytes, without frame check sequence.
pub const MAX_FRAME_BYTES: usize = 9728;

/// One end of a cable.
///
/// Used by one receiving thread and any number of sending ones. Neither direction blocks or
/// allocates: a frame for which there is no room is dropped and counted, as on a real wire.
pub trait Wire: Send + Sync {
    /// Sends a frame without its check sequence. Dropped if the link is down.
    fn send(&self, frame: &[u8]);

    /// Takes a received frame: its length, the bytes in `into` (at least [`MAX_FRAME_BYTES`]).
    fn receive(&self, into: &mut [u8]) -> Option<usize>;

    /// Ready to be read when [`Self::receive`] may have something; `None` if it never will again.
    /// The receiver sleeps on it, calls [`Self::begin_receive`] when it is ready, then looks until
    /// there is nothing left.
    fn readable(&self) -> Option<BorrowedFd<'_>>;

    /// The receiver is awake and about to look.
    fn begin_receive(&self) {}

    /// Returns true if the cable has a live other end.
    fn link_up(&self) -> bool;

    /// Ready to be read when [`Self::link_up`] may have changed; `None` if it never will again. The
    /// receiver sleeps on it and calls [`Self::follow_link`] when it is ready.
    fn link_changed(&self) -> Option<BorrowedFd<'_>>;

    /// Brings [`Self::link_up`] up to date.
    fn follow_link(&self);

    /// Returns true if the link is up and nothing is known that will take it down. The receiver
    /// calls [`Self::follow_link`] now and then while it is not.
    fn is_settled(&self) -> bool {
        self.link_up()
    }

    /// What is known to keep the link from working, in one line for people; none if nothing is
    /// known, or the link works.
    fn trouble(&self) -> Option<String> {
        None
    }

    /// Returns true if there is a cable at all.
    fn is_present(&self) -> bool {
        true
    }
}

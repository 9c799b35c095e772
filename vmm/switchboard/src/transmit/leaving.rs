//! Frames of guests that may be at another machine: nothing of them is sent once more.

use super::super::guests::GuestSet;
use super::{TxPool, is_guests};

impl TxPool {
    /// A guest may be at another machine from now on: what was not posted goes out no more, and what
    /// was goes out once at most. Says how many frames that leaves behind.
    pub(crate) fn leave(&mut self, guest: usize) -> u64 {
        self.away = self.away.with(GuestSet::of(guest));
        let mut left_behind = 0;
        let mut place = self.line.len() - self.waiting;
        // Never the rest of a frame whose beginning is posted.
        let mut goes = false;
        while let Some(number) = self.line.get(place).copied() {
            let buffer = &self.buffers[usize::from(number)];
            if buffer.first {
                goes = is_guests(number) && usize::from(buffer.guest) == guest;
                left_behind += u64::from(goes);
            }
            if goes {
                self.line.remove(place);
                self.waiting -= 1;
                self.set_free(number);
            } else {
                place += 1;
            }
        }
        self.frames -= left_behind as u32;
        self.credit = self.credit.min(self.frames);
        left_behind
    }

    /// A guest is here.
    pub(crate) fn come(&mut self, guest: usize) {
        self.away = self.away.without(GuestSet::of(guest));
    }

    /// Whether none of a guest's frames is under way.
    pub(crate) fn holds_nothing_of(&self, guest: usize) -> bool {
        self.held[guest] == 0
    }

    /// Whether a frame with this first buffer is one to be sent once more.
    pub(super) fn may_go_again(&self, first: u16) -> bool {
        let guest = self.buffers[usize::from(first)].guest;
        is_guests(first) && !self.away.contains(guest.into())
    }
}

//! Whose each transmit buffer is, and in which order frames were posted.
//!
//! ```text
//!           fill              post               TX_DONE             NIC's counter, link up
//!   Free ---------> Waiting ---------> Posted -----------> Claimed -----------------------> Free
//!                      ^                  |                   |
//!                      |      the domain failed, or the link was down while it was sent
//!                      +------------------+-------------------+
//! ```
//!
//! `line` holds the buffers of all frames that are not confirmed, in the order in which they were
//! posted; those not posted (again) yet are its tail. A NIC sends in order and says only how many
//! frames it sent, so confirmations free frames from the head. A frame is a run of buffers.
//!
//! Invariants: a buffer is in exactly one place, which its state names (`free`, `line`, `poison`,
//! or a reserved one at rest); the waiting buffers are the tail of `line`; `waiting`, `claimed`,
//! `frames` and `held` count what they say; `credit` is never more than `frames`. `tests` holds
//! them to that.

use std::collections::VecDeque;

use shared_ring::Entry;
use shared_ring::layout::{BUFFER_BYTES, MAX_GUESTS, TX_BUFFERS};

use super::record::{Buffer, State, quota};
use crate::guest_set::GuestSet;
use crate::port::Checksum;
use crate::tx_buffers::{FIRST_RESERVED, is_for_guests};
use crate::violation::{RingName, Violation};

/// Failures at which a frame that the domain was at is poison.
const POISON_FAILURES: u8 = 2;

/// Failures at which any frame in hand is poison: whatever kills domain after domain, and is never
/// the frame that they were at, ends here.
const MOST_FAILURES: u8 = 4;

/// How frames fared at a failure of their domain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Failed {
    /// Frames that go out again.
    pub(crate) kept: u64,
    /// Frames recognised as poison.
    pub(crate) poisoned: u64,
    /// Frames of guests that are away.
    pub(crate) left_behind: u64,
}

/// Frames that were posted at the same time.
struct Batch {
    /// Cursor of the first entry.
    cursor: u32,
    /// When they were posted, `CLOCK_MONOTONIC` nanoseconds.
    at_ns: u64,
}

/// The pool's ledger: plain data, apart from the pool's memory. It has one writer, the
/// switchboard's thread through the transmit path. Nothing in it allocates after [`TxLedger::new`].
pub(crate) struct TxLedger {
    buffers: Box<[Buffer; TX_BUFFERS]>,
    free: Vec<u16>,
    line: VecDeque<u16>,
    /// When what stands in `line` was posted, oldest first. A stamp for each batch costs a frame
    /// nothing.
    batches: VecDeque<Batch>,
    /// Buffers at the tail of `line` that wait to be posted.
    waiting: usize,
    /// Frames in `line`.
    frames: u32,
    /// Buffers in `line` that are claimed.
    claimed: usize,
    /// Frames that the NIC counted and that are not claimed yet.
    credit: u32,
    /// Buffers of poison frames.
    poison: Vec<u16>,
    /// Buffers that each guest's frames hold.
    held: [u16; MAX_GUESTS],
    /// Buffers that each guest's frames may hold.
    quota: u16,
    /// Guests that may be at another machine.
    away: GuestSet,
    /// Confirmed frames that no guest sent: announcements, and what drills send.
    own_confirmed: u64,
    /// Frames of guests that are away, lost by a NIC whose link was down.
    left_behind: u64,
}

impl TxLedger {
    pub(super) fn new(guests: usize) -> Self {
        Self {
            buffers: Box::new([Buffer::default(); TX_BUFFERS]),
            free: (0..FIRST_RESERVED).rev().collect(),
            line: VecDeque::with_capacity(TX_BUFFERS),
            // Each has a buffer in line, but for the one that is about to be forgotten.
            batches: VecDeque::with_capacity(TX_BUFFERS + 1),
            waiting: 0,
            frames: 0,
            claimed: 0,
            credit: 0,
            poison: Vec::with_capacity(TX_BUFFERS),
            held: [0; MAX_GUESTS],
            quota: quota(guests),
            away: GuestSet::NONE,
            own_confirmed: 0,
            left_behind: 0,
        }
    }

    /// Returns true if so many buffers are there for this guest;
    /// [`MAX_FRAME_BUFFERS`](crate::limits::MAX_FRAME_BUFFERS) hold any frame.
    #[inline]
    pub(crate) fn has_room(&self, guest: usize, buffers: usize) -> bool {
        let held = usize::from(self.held[guest]);
        self.free.len() >= buffers && held + buffers <= usize::from(self.quota)
    }

    /// Most buffers that a guest can ever have.
    pub(crate) fn quota(&self) -> usize {
        self.quota.into()
    }

    /// Returns true if some guest has so few buffers left that it pays to ask the NIC before the
    /// tick.
    pub(crate) fn is_low(&self) -> bool {
        self.held.iter().any(|held| *held > self.quota - self.quota / 4)
    }

    /// Returns true if frames wait to be posted.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting > 0
    }

    /// Buffers of frames that are not confirmed.
    pub(crate) fn unconfirmed(&self) -> usize {
        self.line.len()
    }

    /// Buffers that are claimed and not confirmed.
    pub(crate) fn awaiting(&self) -> usize {
        self.claimed
    }

    /// Confirmed frames that no guest sent, ever.
    pub(crate) fn own_confirmed(&self) -> u64 {
        self.own_confirmed
    }

    /// Frames that [`Self::send_again`] has left behind since the last call.
    pub(crate) fn take_left_behind(&mut self) -> u64 {
        std::mem::take(&mut self.left_behind)
    }

    /// Returns true if the NIC has something to confirm.
    pub(crate) fn has_claimed(&self) -> bool {
        self.claimed > 0
    }

    /// Returns true if none of a guest's frames is under way.
    pub(crate) fn holds_nothing_of(&self, guest: usize) -> bool {
        self.held[guest] == 0
    }

    /// Returns true if poison waits for [`Self::free_poison`].
    pub(crate) fn has_poison(&self) -> bool {
        !self.poison.is_empty()
    }

    /// Returns true if a buffer is neither in line nor in a domain's hand.
    pub(super) fn is_free(&self, number: u16) -> bool {
        self.buffers[usize::from(number)].state == State::Free
    }

    /// The buffers that [`Self::queue`] takes for a frame of so many bytes, in order.
    #[inline]
    pub(super) fn next_free(&self, bytes: usize) -> &[u16] {
        &self.free[self.free.len() - bytes.div_ceil(BUFFER_BYTES)..]
    }

    /// Takes in a frame that was written to [`Self::next_free`]; it waits to be posted.
    pub(super) fn queue(&mut self, guest: usize, bytes: usize, checksum: Option<Checksum>) {
        let count = bytes.div_ceil(BUFFER_BYTES);
        let start = self.free.len() - count;
        for (n, &buffer) in self.free[start..].iter().enumerate() {
            self.buffers[usize::from(buffer)] = Buffer {
                state: State::Waiting,
                len: (bytes - n * BUFFER_BYTES).min(BUFFER_BYTES) as u16,
                first: n == 0,
                more: n + 1 < count,
                frame_len: bytes as u32,
                checksum: checksum.filter(|_| n == 0),
                guest: guest as u8,
                ..Buffer::default()
            };
            self.line.push_back(buffer);
        }
        self.free.truncate(start);
        self.waiting += count;
        self.held[guest] += count as u16;
        self.frames += 1;
    }

    /// Puts a reserved buffer in line: before everything else, which must all be waiting, or last.
    pub(super) fn queue_reserved(&mut self, number: u16, bytes: usize, first: bool) {
        debug_assert!(!is_for_guests(number) && self.is_free(number));
        self.buffers[usize::from(number)] = Buffer {
            state: State::Waiting,
            len: bytes as u16,
            first: true,
            frame_len: bytes as u32,
            ..Buffer::default()
        };
        if first && self.waiting == self.line.len() {
            self.line.push_front(number);
        } else {
            self.line.push_back(number);
        }
        self.waiting += 1;
        self.frames += 1;
    }

    /// Hands all waiting buffers to `push`, in order, until it has no room for one (`None`); it
    /// returns the cursor of the entry. It is `now_ns`. Returns how many of the frames had been
    /// posted before.
    ///
    /// # Errors
    /// As `push` says.
    #[inline]
    pub(crate) fn post(
        &mut self,
        now_ns: u64,
        mut push: impl FnMut(Entry) -> Result<Option<u32>, Violation>,
    ) -> Result<u64, Violation> {
        let mut again = 0;
        let start = self.line.len() - self.waiting;
        while self.waiting > 0 {
            let number = self.line[self.line.len() - self.waiting];
            let buffer = &mut self.buffers[usize::from(number)];
            let Some(cursor) = push(buffer.entry(number))? else { break };
            buffer.state = State::Posted;
            buffer.cursor = cursor;
            again += u64::from(buffer.first && buffer.again);
            buffer.again = true;
            self.waiting -= 1;
        }
        self.note_batch(start, now_ns);
        Ok(again)
    }

    /// Notes when the buffers from this place in line on were posted, if any was, and forgets what
    /// is confirmed.
    fn note_batch(&mut self, start: usize, at_ns: u64) {
        let first = self.line.get(start).map(|number| &self.buffers[usize::from(*number)]);
        let Some(cursor) = first.filter(|it| it.state == State::Posted).map(|it| it.cursor) else {
            return;
        };
        if start == 0 {
            self.batches.clear();
        } else if let Some(head) = self.oldest_posted() {
            while self.batches.get(1).is_some_and(|next| !is_before(head, next.cursor)) {
                self.batches.pop_front();
            }
        }
        self.batches.push_back(Batch { cursor, at_ns });
    }

    /// Cursor of the oldest entry that is posted and not confirmed.
    fn oldest_posted(&self) -> Option<u32> {
        let first = &self.buffers[usize::from(*self.line.front()?)];
        matches!(first.state, State::Posted | State::Claimed).then_some(first.cursor)
    }

    /// When the oldest frame that is posted and not confirmed was posted, `CLOCK_MONOTONIC`
    /// nanoseconds.
    pub(crate) fn oldest_posted_ns(&self) -> Option<u64> {
        let head = self.oldest_posted()?;
        let batch = self.batches.iter().rev().find(|batch| !is_before(head, batch.cursor));
        batch.map(|batch| batch.at_ns)
    }

    /// Notes that a domain says it is done with a buffer.
    ///
    /// # Errors
    /// No such buffer, or it was not posted.
    pub(crate) fn claim(&mut self, number: u16) -> Result<(), Violation> {
        let ring = RingName::TxDone;
        let buffer = self
            .buffers
            .get_mut(usize::from(number))
            .ok_or(Violation::UnknownBuffer { ring, buffer: number })?;
        if buffer.state != State::Posted {
            return Err(Violation::NotPosted { buffer: number });
        }
        buffer.state = State::Claimed;
        self.claimed += 1;
        Ok(())
    }

    /// The NIC counted `sent` more frames with the link up: frees as many claimed frames from the
    /// head of the line. Credit for frames that are not claimed yet is kept, but never for more
    /// frames than there are. Returns how many were confirmed.
    ///
    /// Before that, [`Self::surplus`] tells whether `sent` is possible.
    pub(crate) fn confirm(&mut self, sent: u32) -> u64 {
        self.credit = self.credit.saturating_add(sent).min(self.frames);
        let mut confirmed = 0;
        while self.credit > 0 && self.head_is_claimed() {
            let is_own = self.line.front().is_some_and(|number| !is_for_guests(*number));
            self.own_confirmed += u64::from(is_own);
            self.take_head(|ledger, number| ledger.release(number));
            self.credit -= 1;
            confirmed += 1;
        }
        confirmed
    }

    /// Frames that a NIC which counted `sent` more has sent beyond those it was given.
    pub(crate) fn surplus(&self, sent: u32) -> u32 {
        self.credit.saturating_add(sent).saturating_sub(self.frames)
    }

    /// The NIC counted `lost` frames while the link was down: as many claimed frames from the head
    /// of the line wait again, at its end. Returns how many.
    pub(crate) fn send_again(&mut self, lost: u32) -> u64 {
        let mut again = 0;
        while again < u64::from(lost) && self.head_is_claimed() {
            let stays = self.line.front().is_some_and(|number| self.may_go_again(*number));
            let is_guests = self.line.front().is_some_and(|number| is_for_guests(*number));
            self.left_behind += u64::from(is_guests && !stays);
            self.take_head(|ledger, number| {
                if !stays {
                    ledger.release(number);
                } else {
                    ledger.claimed -= 1;
                    ledger.buffers[usize::from(number)].state = State::Waiting;
                    ledger.line.push_back(number);
                    ledger.waiting += 1;
                }
            });
            self.frames += u32::from(stays);
            again += 1;
        }
        self.credit = self.credit.min(self.frames);
        again
    }

    /// The domain that the frames were posted to is gone; it had taken the entries before the
    /// cursor `taken` (`None`: nobody knows). All frames wait to be posted again, except
    /// announcements, poison, and those of guests that are away.
    ///
    /// Of the frames in its hand the domain was at two at most: the one that it took last, and the
    /// oldest, whose end it and its NIC waited for. The others stood between.
    pub(crate) fn fail(&mut self, taken: Option<u32>) -> Failed {
        let mut failed = Failed::default();
        let mut fate = State::Waiting;
        let mut is_oldest = true;
        for _ in 0..self.line.len() {
            let Some(number) = self.line.pop_front() else { break };
            let buffer = &mut self.buffers[usize::from(number)];
            if buffer.first {
                if is_for_guests(number) {
                    buffer.note_failure(taken, std::mem::take(&mut is_oldest));
                }
                let is_away = is_for_guests(number) && self.away.contains(buffer.guest.into());
                let is_poison =
                    buffer.suspicions >= POISON_FAILURES || buffer.failures >= MOST_FAILURES;
                fate = match () {
                    () if !is_for_guests(number) => State::Free,
                    () if is_poison => State::Poison,
                    () if is_away => State::Free,
                    () => State::Waiting,
                };
                failed.kept += u64::from(fate == State::Waiting);
                failed.poisoned += u64::from(fate == State::Poison);
                failed.left_behind += u64::from(fate == State::Free && is_away);
            }
            buffer.state = fate;
            match fate {
                State::Waiting => self.line.push_back(number),
                State::Poison => self.poison.push(number),
                State::Free | State::Posted | State::Claimed => self.set_free(number),
            }
        }
        self.batches.clear();
        self.waiting = self.line.len();
        self.frames = failed.kept as u32;
        self.claimed = 0;
        self.credit = 0;
        failed
    }

    /// A guest may be at another machine from now on: its frames that were not posted go out no
    /// more, and those that were go out once at most. Returns how many frames that leaves behind.
    pub(crate) fn leave(&mut self, guest: usize) -> u64 {
        self.away = self.away.with(GuestSet::of(guest));
        let mut left_behind = 0;
        let mut place = self.line.len() - self.waiting;
        // Never the rest of a frame whose beginning is posted.
        let mut goes = false;
        while let Some(number) = self.line.get(place).copied() {
            let buffer = &self.buffers[usize::from(number)];
            if buffer.first {
                goes = is_for_guests(number) && usize::from(buffer.guest) == guest;
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

    /// A guest is at this machine.
    pub(crate) fn come(&mut self, guest: usize) {
        self.away = self.away.without(GuestSet::of(guest));
    }

    /// Returns true if a frame with this first buffer is one to be sent once more.
    fn may_go_again(&self, first: u16) -> bool {
        let guest = self.buffers[usize::from(first)].guest;
        is_for_guests(first) && !self.away.contains(guest.into())
    }

    /// The buffers of poison frames, each with its record.
    pub(super) fn poison(&self) -> impl Iterator<Item = (u16, &Buffer)> {
        self.poison.iter().map(|number| (*number, &self.buffers[usize::from(*number)]))
    }

    /// Frees the buffers of all poison frames.
    pub(super) fn free_poison(&mut self) {
        for n in 0..self.poison.len() {
            self.set_free(self.poison[n]);
        }
        self.poison.clear();
    }

    #[inline]
    fn head_is_claimed(&self) -> bool {
        let Some(first) = self.line.front() else { return false };
        let first = &self.buffers[usize::from(*first)];
        if first.state != State::Claimed || !first.more {
            return first.state == State::Claimed;
        }
        for number in &self.line {
            let buffer = &self.buffers[usize::from(*number)];
            if buffer.state != State::Claimed {
                return false;
            }
            if !buffer.more {
                return true;
            }
        }
        false
    }

    /// Takes the first frame out of the line, giving each of its buffers to `each`.
    fn take_head(&mut self, mut each: impl FnMut(&mut Self, u16)) {
        while let Some(number) = self.line.pop_front() {
            let more = self.buffers[usize::from(number)].more;
            each(self, number);
            if !more {
                break;
            }
        }
        self.frames -= 1;
    }

    fn release(&mut self, number: u16) {
        self.claimed -= 1;
        self.set_free(number);
    }

    fn set_free(&mut self, number: u16) {
        let buffer = &mut self.buffers[usize::from(number)];
        buffer.state = State::Free;
        if is_for_guests(number) {
            self.held[usize::from(buffer.guest)] -= 1;
            self.free.push(number);
        }
    }
}

/// Returns true if one cursor is before another, modulo 2^32.
fn is_before(cursor: u32, other: u32) -> bool {
    (cursor.wrapping_sub(other) as i32) < 0
}

#[cfg(test)]
mod tests;

//! The common transmit pool: whose each buffer is, and in which order frames were posted.
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

mod checksum;
mod leaving;
mod staging;

use std::collections::VecDeque;
use std::sync::Arc;

use shared_ring::layout::{BUFFER_BYTES, MAX_GUESTS, TX_BUFFERS};
use shared_ring::{Entry, EntryFlags, Producer, PushError};
use vm_memory::VolatileSlice;

pub(crate) use self::staging::Staged;
use super::announce::FIRST_RESERVED;
use super::guests::GuestSet;
use super::port::header::Checksum;
use super::violation::{RingName, Violation};
use microvm::domain::DomainSlot;
use nic::wire::MAX_FRAME_BYTES;
use platform::memory::SharedMemory;

/// Shortest frame handed to a NIC; shorter ones are padded with zeroes (IEEE 802.3, 3.2.8).
pub(crate) const MIN_FRAME_BYTES: usize = 60;

/// Buffers of the longest frame.
pub(crate) const MAX_FRAME_BUFFERS: usize = MAX_FRAME_BYTES.div_ceil(BUFFER_BYTES);

/// Buffers that so many frames take, none longer than `longest_bytes`.
pub(crate) fn buffers_of(frames: usize, longest_bytes: usize) -> usize {
    frames * longest_bytes.max(MIN_FRAME_BYTES).div_ceil(BUFFER_BYTES)
}

/// Failures at which a frame in hand is poison.
const POISON_FAILURES: u8 = 2;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Free,
    Waiting,
    Posted,
    Claimed,
    /// Poison that was not copied to the quarantine yet.
    Poison,
}

#[derive(Clone, Copy, Debug, Default)]
struct Buffer {
    state: State,
    len: u16,
    first: bool,
    more: bool,
    /// Bytes of the whole frame, on its first buffer.
    frame_len: u32,
    /// Failures at which the frame was in hand, on its first buffer.
    failures: u8,
    /// Whether the frame was posted before, on its first buffer.
    again: bool,
    /// Whose it is; of the guests' buffers.
    guest: u8,
    /// Cursor of its entry in TX_POST.
    cursor: u32,
    /// What the NIC is to compute, on its first buffer.
    checksum: Option<Checksum>,
}

/// Most buffers of each of several guests: as much as a gigabit link sends of full size in three
/// milliseconds, so that no guest's frames wait longer behind another's.
const SHARED_QUOTA: usize = 256;

/// Buffers that each guest may hold. Together they hold no more than there are, so none can take
/// another's.
fn quota(guests: usize) -> u16 {
    let share = usize::from(FIRST_RESERVED) / guests.max(1);
    (if guests > 1 { share.min(SHARED_QUOTA) } else { share }) as u16
}

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

/// The pool's book-keeping. Nothing in it allocates after [`TxPool::new`].
pub(crate) struct TxPool {
    memory: Arc<SharedMemory>,
    buffers: Box<[Buffer; TX_BUFFERS]>,
    free: Vec<u16>,
    line: VecDeque<u16>,
    /// Buffers at the tail of `line` that wait to be posted.
    waiting: usize,
    /// Frames in `line`.
    frames: u32,
    /// Buffers in `line` that are claimed.
    claimed: usize,
    /// Frames that the NIC counted and that are not claimed yet.
    credit: u32,
    /// First buffers of poison frames.
    poison: Vec<u16>,
    /// Buffers that each guest's frames hold, and how many they may.
    held: [u16; MAX_GUESTS],
    quota: u16,
    /// Guests that may be at another machine.
    away: GuestSet,
}

impl TxPool {
    pub(crate) fn new(memory: Arc<SharedMemory>, guests: usize) -> Self {
        Self {
            memory,
            buffers: Box::new([Buffer::default(); TX_BUFFERS]),
            free: (0..FIRST_RESERVED).rev().collect(),
            line: VecDeque::with_capacity(TX_BUFFERS),
            waiting: 0,
            frames: 0,
            claimed: 0,
            credit: 0,
            poison: Vec::with_capacity(TX_BUFFERS),
            held: [0; MAX_GUESTS],
            quota: quota(guests),
            away: GuestSet::NONE,
        }
    }

    /// Whether so many buffers are there for this guest; [`MAX_FRAME_BUFFERS`] hold any frame.
    pub(crate) fn has_room(&self, guest: usize, buffers: usize) -> bool {
        let held = usize::from(self.held[guest]);
        self.free.len() >= buffers && held + buffers <= usize::from(self.quota)
    }

    /// Most buffers that a guest can ever have.
    pub(crate) fn quota(&self) -> usize {
        self.quota.into()
    }

    /// Whether somebody has so few buffers left that it pays to ask the NIC before the tick.
    pub(crate) fn is_low(&self) -> bool {
        self.held.iter().any(|held| *held > self.quota - self.quota / 4)
    }

    /// Whether frames wait to be posted.
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

    /// Whether the NIC has something to confirm.
    pub(crate) fn has_claimed(&self) -> bool {
        self.claimed > 0
    }

    /// Bytes of a buffer, for volatile copies.
    fn slice(&self, buffer: u16, from: usize, len: usize) -> VolatileSlice<'_> {
        match self.memory.slice((usize::from(buffer) * BUFFER_BYTES + from) as u64, len) {
            Ok(slice) => slice,
            // Numbers come from `free`, never from outside; the pool has a constant size.
            Err(_) => unreachable!("a transmit buffer lies within the pool"),
        }
    }

    /// Takes the staged frame in; it waits to be posted.
    pub(crate) fn queue(&mut self, guest: usize, staged: &Staged) {
        let padded = staged.bytes;
        let count = padded.div_ceil(BUFFER_BYTES);
        let start = self.free.len() - count;
        for n in 0..count {
            let buffer = self.free[start + n];
            self.buffers[usize::from(buffer)] = Buffer {
                state: State::Waiting,
                len: (padded - n * BUFFER_BYTES).min(BUFFER_BYTES) as u16,
                first: n == 0,
                more: n + 1 < count,
                frame_len: padded as u32,
                checksum: staged.checksum.filter(|_| n == 0),
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

    /// Whether a buffer is in nobody's hand.
    pub(crate) fn is_free(&self, number: u16) -> bool {
        self.buffers[usize::from(number)].state == State::Free
    }

    /// Writes a frame of the switchboard's own into a reserved buffer that is free; at most
    /// [`BUFFER_BYTES`].
    pub(crate) fn write_reserved(&self, number: u16, frame: &[u8]) {
        debug_assert!(number >= FIRST_RESERVED && self.is_free(number));
        self.slice(number, 0, frame.len()).copy_from(frame);
    }

    /// Puts a reserved buffer in line: before everything else, which must all be waiting, or last.
    pub(crate) fn post_reserved(&mut self, number: u16, bytes: usize, first: bool) {
        debug_assert!(number >= FIRST_RESERVED && self.is_free(number));
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

    /// Pushes all waiting frames, in order, as far as the ring has room; the caller publishes.
    /// Says how many of the frames had been posted before.
    ///
    /// # Errors
    /// The domain's cursor is impossible.
    pub(crate) fn post(&mut self, ring: &mut Producer, epoch: u32) -> Result<u64, Violation> {
        let mut again = 0;
        while self.waiting > 0 {
            let number = self.line[self.line.len() - self.waiting];
            let buffer = &mut self.buffers[usize::from(number)];
            let more = if buffer.more { EntryFlags::MORE.0 } else { 0 };
            let (offload, checksum) = match buffer.checksum {
                Some(checksum) => (EntryFlags::CHECKSUM.0, checksum),
                None => (0, Checksum { start: 0, offset: 0 }),
            };
            let entry = Entry {
                iova: DomainSlot::tx_iova(number),
                buffer: number,
                len: buffer.len,
                flags: EntryFlags(more | offload),
                csum_start: checksum.start,
                csum_offset: checksum.offset,
                epoch: epoch as u16,
                frame_len: if buffer.first { buffer.frame_len } else { 0 },
                guest: u16::from(buffer.guest),
            };
            let cursor = ring.cursor();
            match ring.push(entry) {
                Ok(()) => {}
                Err(PushError::Full) => break,
                Err(PushError::Violation(v)) => return Err(Violation::cursor(RingName::TxPost, v)),
            }
            buffer.state = State::Posted;
            buffer.cursor = cursor;
            again += u64::from(buffer.first && buffer.again);
            buffer.again = true;
            self.waiting -= 1;
        }
        Ok(again)
    }

    /// A domain says that it is done with a buffer.
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
    /// frames than there are. Says how many were confirmed.
    ///
    /// [`Self::surplus`] tells before whether `sent` is possible.
    pub(crate) fn confirm(&mut self, sent: u32) -> u64 {
        self.credit = self.credit.saturating_add(sent).min(self.frames);
        let mut confirmed = 0;
        while self.credit > 0 && self.head_is_claimed() {
            self.take_head(|pool, number| pool.release(number));
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
    /// of the line wait again, at its end. Says how many.
    pub(crate) fn send_again(&mut self, lost: u32) -> u64 {
        let mut again = 0;
        while again < u64::from(lost) && self.head_is_claimed() {
            let stays = self.line.front().is_some_and(|number| self.may_go_again(*number));
            self.take_head(|pool, number| {
                if !stays {
                    pool.release(number);
                } else {
                    pool.claimed -= 1;
                    pool.buffers[usize::from(number)].state = State::Waiting;
                    pool.line.push_back(number);
                    pool.waiting += 1;
                }
            });
            self.frames += u32::from(stays);
            again += 1;
        }
        self.credit = self.credit.min(self.frames);
        again
    }

    /// The domain that the frames were posted to is gone; `in_hand` says whether it had taken the
    /// entry at a cursor. All frames wait to be posted again, except announcements, poison, and those
    /// of guests that are away.
    pub(crate) fn fail(&mut self, in_hand: impl Fn(u32) -> bool) -> Failed {
        let mut failed = Failed::default();
        let mut fate = State::Waiting;
        for _ in 0..self.line.len() {
            let Some(number) = self.line.pop_front() else { break };
            let buffer = &mut self.buffers[usize::from(number)];
            if buffer.first {
                let taken = matches!(buffer.state, State::Posted | State::Claimed);
                buffer.failures += u8::from(taken && in_hand(buffer.cursor));
                let is_away = is_guests(number) && self.away.contains(buffer.guest.into());
                fate = match buffer.failures {
                    _ if !is_guests(number) => State::Free,
                    POISON_FAILURES.. => State::Poison,
                    _ if is_away => State::Free,
                    _ => State::Waiting,
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
        self.waiting = self.line.len();
        self.frames = failed.kept as u32;
        self.claimed = 0;
        self.credit = 0;
        failed
    }

    /// Hands poison on, buffer by buffer, and frees it. `keep` is told whether a frame begins.
    pub(crate) fn drain_poison(&mut self, mut keep: impl FnMut(bool, VolatileSlice<'_>)) {
        for n in 0..self.poison.len() {
            let number = self.poison[n];
            let Buffer { first, len, .. } = self.buffers[usize::from(number)];
            keep(first, self.slice(number, 0, usize::from(len)));
            self.set_free(number);
        }
        self.poison.clear();
    }

    /// Whether poison waits for [`Self::drain_poison`].
    pub(crate) fn has_poison(&self) -> bool {
        !self.poison.is_empty()
    }

    fn head_is_claimed(&self) -> bool {
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
        if is_guests(number) {
            self.held[usize::from(buffer.guest)] -= 1;
            self.free.push(number);
        }
    }
}

/// Whether a buffer is for the guests' frames.
fn is_guests(number: u16) -> bool {
    number < FIRST_RESERVED
}

#[cfg(test)]
mod tests;

//! The transmit path: from the guests to the wire, and to each other.
//!
//! The guests' rings are visited in turn, a few frames at a time, and each guest has a share of the
//! transmit pool that no other can take: so a guest that floods waits in its own ring while the
//! others' frames go. A frame is copied into the pool before anything is decided by its addresses,
//! so the bytes that were looked at are those that are sent. A frame for another guest is copied on
//! from there, and never held up: where the other has no room it is lost, as at any switch.
//!
//! This owns the transmit pool, the place in the round of visits, and what the NIC has confirmed.
//!
//! Invariants: a guest's frames go in the order of its ring; a frame is in the pool from before its
//! chain goes back until the NIC has confirmed it; nothing new is taken in while older frames still
//! wait to be posted.

use std::sync::Arc;

use microvm::domain::DomainSlot;
use nic::Nic;
use platform::memory::SharedMemory;

use crate::announce::{Announcer, GLANCE_BYTES};
use crate::confirmations::Confirmations;
use crate::counters::Counters;
use crate::domains::QueuePair;
use crate::guest_figures::GuestFigures;
use crate::guest_set::GuestSet;
use crate::guests::{Admitted, Guests};
use crate::limits::{MAX_FRAME_BUFFERS, TURN_FRAMES, VISIT_FRAMES};
use crate::port::{Delivery, Taken};
use crate::quarantine::Quarantine;
use crate::shared::Shared;
use crate::tx_pool::{Reserved, Staged, TxPool, buffers_of};
use crate::violation::Violation;

/// The guests' side, as the transmit path uses it.
pub(crate) struct GuestSide<'a> {
    pub(crate) guests: &'a mut Guests,
    pub(crate) announcer: &'a mut Announcer,
    pub(crate) counters: &'a Counters,
    /// One for each guest.
    figures: &'a [GuestFigures],
}

impl<'a> GuestSide<'a> {
    #[inline]
    pub(crate) fn new(
        guests: &'a mut Guests,
        announcer: &'a mut Announcer,
        shared: &'a Shared,
    ) -> Self {
        Self { guests, announcer, counters: &shared.counters, figures: &shared.figures }
    }

    /// How a guest's frame with this head is let out. Counts it if it is not.
    #[inline]
    fn let_out(&mut self, guest: usize, head: &[u8]) -> Option<Admitted> {
        let admitted = self.guests.admit(guest, head);
        if let Err(refusal) = admitted {
            self.counters.tx_refused.add(1);
            self.figures[guest].count_refused(refusal, head);
        }
        admitted.ok()
    }
}

/// How a guest fared at its last visit.
struct Visit {
    /// A frame of it found no free buffer.
    blocked: bool,
    /// Transmit buffers that must be free before its next chain is taken.
    needs_buffers: usize,
}

/// How the frames of a domain that failed fared.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Settled {
    /// Frames that its NIC had sent after all.
    pub(crate) confirmed_late: u64,
    /// Frames recognised as poison.
    pub(crate) poisoned: u64,
    /// When the oldest frame that the domain was given and its NIC did not send was posted,
    /// `CLOCK_MONOTONIC` nanoseconds.
    pub(crate) oldest_ns: Option<u64>,
}

/// The transmit path's state.
pub(crate) struct TxPath {
    pool: TxPool,
    confirmations: Confirmations,
    visits: Vec<Visit>,
    /// Guest whose ring is visited next.
    next_guest: usize,
    /// The NIC was asked in this turn: its answer would be the same, and costs accesses to it.
    asked: bool,
}

impl TxPath {
    pub(crate) fn new(memory: Arc<SharedMemory>, guests: usize) -> Self {
        let visit = || Visit { blocked: false, needs_buffers: MAX_FRAME_BUFFERS };
        Self {
            pool: TxPool::new(memory, guests),
            confirmations: Confirmations::default(),
            visits: (0..guests).map(|_| visit()).collect(),
            next_guest: 0,
            asked: false,
        }
    }

    /// Throws away what is in disabled transmit rings, as the vhost-user document asks. Returns how
    /// many chains that were.
    pub(crate) fn discard(&mut self, side: &mut GuestSide<'_>) -> usize {
        let mut discarded = 0;
        for guest in side.guests.iter_mut() {
            if guest.port.transmits() != Some(false) {
                continue;
            }
            let mut taken = 0;
            while taken < TURN_FRAMES {
                match guest.port.take_chain() {
                    Taken::Nothing => break,
                    Taken::Rejected | Taken::TooLong => {}
                    Taken::Chain(_) => guest.port.return_chain(),
                }
                taken += 1;
            }
            side.counters.tx_discarded.add(taken as u64);
            discarded += taken;
        }
        discarded
    }

    /// Visits the guests in turn until none has anything, or enough was done. Returns how much, as
    /// [`TURN_FRAMES`] counts.
    pub(crate) fn take_in_turn(&mut self, side: &mut GuestSide<'_>) -> usize {
        let count = self.visits.len();
        // Frames that could not be posted keep others out: the order is the guests'.
        let stuck = self.pool.ledger.is_waiting();
        let (mut taken, mut idle) = (0, 0);
        while taken < TURN_FRAMES && idle < count {
            let guest = self.next_guest;
            self.next_guest = (guest + 1) % count;
            let most = VISIT_FRAMES.min(TURN_FRAMES - taken);
            let visit = match side.guests[guest].port.transmits() {
                Some(true) => self.take_frames(side, guest, most, stuck),
                Some(false) | None => 0,
            };
            idle = if visit == 0 { idle + 1 } else { 0 };
            taken += visit;
        }
        taken
    }

    /// Takes frames of a guest while there are buffers; the rest stays in the guest's ring. Returns
    /// how much that was.
    fn take_frames(
        &mut self,
        side: &mut GuestSide<'_>,
        guest: usize,
        most: usize,
        stuck: bool,
    ) -> usize {
        let mut taken = 0;
        let mut blocked = stuck;
        while !blocked && taken < most {
            let done = if self.has_room(guest) { self.take_chain(side, guest) } else { 0 };
            if done == 0 {
                blocked = !self.has_room(guest);
                break;
            }
            taken += done;
        }
        if blocked && !self.visits[guest].blocked {
            side.counters.tx_backpressure.add(1);
        }
        self.visits[guest].blocked = blocked;
        taken
    }

    /// Returns true if there are buffers for what the guest sends next.
    #[inline]
    fn has_room(&self, guest: usize) -> bool {
        self.pool.ledger.has_room(guest, self.visits[guest].needs_buffers)
    }

    /// Returns true if a kick of this guest would find its frames welcome.
    pub(crate) fn takes_more(&self, guest: usize) -> bool {
        self.has_room(guest) && !self.pool.ledger.is_waiting()
    }

    /// Takes the next chain of a guest. Returns how much that was; 0 if there is none, or no room
    /// for it.
    fn take_chain(&mut self, side: &mut GuestSide<'_>, guest: usize) -> usize {
        let port = &mut side.guests[guest].port;
        let frames = match port.take_chain() {
            Taken::Nothing => return 0,
            Taken::Rejected => {
                side.counters.tx_malformed.add(1);
                return 1;
            }
            Taken::TooLong => {
                side.counters.tx_too_long.add(1);
                return 1;
            }
            Taken::Chain(frames) => frames,
        };
        let buffers = buffers_of(frames.count, frames.longest_bytes);
        // Segments so small that there are never buffers for all of them are refused like nonsense.
        let is_possible = buffers <= self.pool.ledger.quota();
        if is_possible && !self.pool.ledger.has_room(guest, buffers) {
            self.visits[guest].needs_buffers = buffers;
            port.leave_chain();
            return 0;
        }
        self.visits[guest].needs_buffers = MAX_FRAME_BUFFERS;
        let mut local = 0;
        let sent = is_possible && self.send_frames(side, guest, &mut local);
        side.guests[guest].port.return_chain();
        side.counters.tx_malformed.add(u64::from(!sent));
        side.counters.tx_cut.add(u64::from(sent && frames.count > 1));
        buffers + local
    }

    /// Sends the frames of the chain that was taken, counting copies for other guests in `local`.
    /// Returns false if one cannot be read.
    fn send_frames(&mut self, side: &mut GuestSide<'_>, guest: usize, local: &mut usize) -> bool {
        while let Some(mut frame) = side.guests[guest].port.next_frame() {
            let (bytes, checksum) = (frame.bytes, frame.checksum);
            let Ok(staged) = self.pool.stage(bytes, checksum, |slice| frame.copy_to(slice)) else {
                return false;
            };
            side.counters.tx_frames.add(1);
            side.counters.tx_bytes.add(bytes as u64);
            side.counters.copies.add(1);
            *local += self.send(side, guest, staged);
        }
        true
    }

    /// Sends a staged frame to the guests and the wire that its destination names, if it may leave.
    /// Returns how many guests that are.
    fn send(&mut self, side: &mut GuestSide<'_>, guest: usize, mut staged: Staged) -> usize {
        let glance = self.pool.staged_head::<GLANCE_BYTES>(&staged);
        let Some(admitted) = side.let_out(guest, &glance) else { return 0 };
        let is_known = admitted == Admitted::Known;
        side.announcer
            .learn((guest, is_known), &glance, |bytes| self.pool.copy_head(&staged, bytes));
        let route = side.guests.of_guest(guest, &glance[..6]);
        if !route.guests.is_empty() {
            self.pool.complete(&mut staged);
            self.send_local(side, route.guests, &staged);
        }
        if route.wire {
            self.pool.queue(guest, &staged);
        } else {
            side.counters.tx_local.add(1);
        }
        route.guests.count() as usize
    }

    fn send_local(&self, side: &mut GuestSide<'_>, targets: GuestSet, staged: &Staged) {
        let counters = side.counters;
        let (parts, count) = self.pool.staged_parts(staged);
        for target in targets.each() {
            let mut malformed = 0;
            match side.guests.deliver(target, &[], &parts[..count], &mut malformed) {
                Delivery::Done => {
                    counters.local_frames.add(1);
                    counters.copies.add(1);
                }
                Delivery::NoRoom | Delivery::NoGuest | Delivery::TooLarge => {
                    counters.local_lost.add(1);
                }
            }
            counters.rx_malformed.add(malformed);
        }
    }

    /// Posts waiting frames to the domain that serves, as far as its ring has room. It is `now_ns`.
    ///
    /// # Errors
    /// The domain's cursor is impossible.
    pub(crate) fn post(
        &mut self,
        pair: &mut QueuePair,
        now_ns: u64,
        counters: &Counters,
    ) -> Result<(), Violation> {
        let again = self.pool.ledger.post(now_ns, |entry| pair.post(entry))?;
        counters.tx_resent.add(again);
        Ok(())
    }

    /// Reads all claims of the domain that serves, counting them in `claims`.
    ///
    /// # Errors
    /// One that does not check.
    pub(crate) fn read_claims(
        &mut self,
        pair: &mut QueuePair,
        claims: &mut u64,
        counters: &Counters,
    ) -> Result<(), Violation> {
        while let Some(buffer) = pair.next_claim()? {
            self.pool.ledger.claim(buffer)?;
            *claims += 1;
        }
        if *claims > 0 {
            pair.release_claims();
            counters.tx_claimed.add(*claims);
        }
        Ok(())
    }

    /// Confirms what new claims make confirmable, and sees to it that the NIC is asked for the
    /// rest. A turn begins with this.
    pub(crate) fn note_claims(&mut self, claims: u64, now_ns: u64, counters: &Counters) {
        self.asked = false;
        if claims > 0 {
            // The NIC may have been asked before the domain said its part.
            counters.tx_confirmed.add(self.pool.ledger.confirm(0));
        }
        if self.pool.ledger.has_claimed() {
            self.confirmations.schedule(now_ns);
        }
    }

    /// Returns true if it is time to ask the NIC, or buffers are so few that it does not wait for
    /// it.
    pub(crate) fn wants_confirmation(&self, now_ns: u64) -> bool {
        let due = self.confirmations.due_ns().is_some_and(|due| due <= now_ns);
        due || self.pool.ledger.is_low() && self.pool.ledger.has_claimed()
    }

    /// Asks the NIC that serves what it has sent; once in a turn.
    ///
    /// # Errors
    /// It sent more than it was given.
    pub(crate) fn confirm(
        &mut self,
        nic: &dyn Nic,
        now_ns: u64,
        counters: &Counters,
    ) -> Result<(), Violation> {
        if std::mem::replace(&mut self.asked, true) {
            return Ok(());
        }
        self.confirmations.ask(nic, &mut self.pool.ledger, now_ns, counters)
    }

    /// Begins with a domain that serves from now on.
    pub(crate) fn begin(&mut self, nic: &dyn Nic) {
        self.confirmations.begin(nic);
    }

    /// Settles the frames of a domain that serves no more, whose claims were read: asks its NIC for
    /// the last time, if it may be asked, and notes which frames were in the domain's hand. Poison
    /// leaves the line.
    pub(crate) fn settle(
        &mut self,
        slot: &DomainSlot,
        pair: Option<&QueuePair>,
        ask_nic: bool,
        counters: &Counters,
    ) -> Settled {
        let attached = pair.is_some_and(|pair| slot.is_attached(pair.epoch()));
        let ledger = &mut self.pool.ledger;
        let confirmed_late = if ask_nic {
            self.confirmations.finish(&*slot.nic, attached, ledger, counters)
        } else {
            self.confirmations.abandon();
            0
        };
        let oldest_ns = ledger.oldest_posted_ns();
        let Some(pair) = pair else { return Settled { confirmed_late, poisoned: 0, oldest_ns } };
        let failed = ledger.fail(pair.taken());
        counters.tx_poisoned.add(failed.poisoned);
        counters.tx_left_behind.add(failed.left_behind);
        Settled { confirmed_late, poisoned: failed.poisoned, oldest_ns }
    }

    /// Copies poison into the quarantine.
    pub(crate) fn quarantine(&mut self, quarantine: &mut Quarantine, takeover: u64) {
        self.pool.drain_poison(|first, slice| {
            let frame = if first { quarantine.next(takeover) } else { quarantine.last() };
            let start = frame.len();
            // Within the capacity: a frame has at most as many bytes as one place.
            frame.resize(start + slice.len(), 0);
            slice.copy_to(&mut frame[start..]);
        });
    }

    /// Returns true if poison waits for [`Self::quarantine`].
    pub(crate) fn has_poison(&self) -> bool {
        self.pool.ledger.has_poison()
    }

    /// A guest's frames may be sent again from here on.
    pub(crate) fn guest_started(&mut self, guest: usize) {
        self.pool.ledger.come(guest);
    }

    /// A guest may be at another machine: its frames are not sent again from here on.
    pub(crate) fn guest_stopped(&mut self, guest: usize, counters: &Counters) {
        counters.tx_left_behind.add(self.pool.ledger.leave(guest));
    }

    /// Returns true if none of a guest's frames is under way.
    pub(crate) fn holds_nothing_of(&self, guest: usize) -> bool {
        self.pool.ledger.holds_nothing_of(guest)
    }

    /// Returns true if the NIC has something to confirm.
    pub(crate) fn has_claimed(&self) -> bool {
        self.pool.ledger.has_claimed()
    }

    /// Returns true if frames wait to be posted.
    pub(crate) fn is_waiting(&self) -> bool {
        self.pool.ledger.is_waiting()
    }

    /// Buffers of frames that are not confirmed.
    pub(crate) fn unconfirmed(&self) -> usize {
        self.pool.ledger.unconfirmed()
    }

    /// Sets the gauges.
    pub(crate) fn show(&mut self, counters: &Counters) {
        counters.tx_confirmed_own.set(self.pool.ledger.own_confirmed());
        counters.tx_left_behind.add(self.pool.ledger.take_left_behind());
        counters.tx_unconfirmed.set(self.pool.ledger.unconfirmed() as u64);
        counters.tx_awaiting.set(self.pool.ledger.awaiting() as u64);
    }

    /// When to ask the NIC next.
    pub(crate) fn due_ns(&self) -> Option<u64> {
        self.confirmations.due_ns()
    }

    /// The buffers for announcements and drills.
    pub(crate) fn reserved(&mut self) -> Reserved<'_> {
        self.pool.reserved()
    }
}

//! Guests to the wire, and to each other.
//!
//! The guests' rings are looked at in turn, a few frames at a time, and each guest has a share of the
//! transmit pool that no other can take: so a guest that floods waits in its own ring while the
//! others' frames go. A frame is copied into the pool before anything is decided by its addresses,
//! so what was looked at is what is sent. One for another guest is copied on from there, and never
//! held up: where the other has no room it is lost, as at any switch.

use super::addresses::{GLANCE_BYTES, LEARN_BYTES};
use super::engine::{Engine, TURN_FRAMES};
use super::guests::GuestSet;
use super::port::{Delivery, Taken};
use super::transmit::{MAX_FRAME_BUFFERS, Staged, buffers_of};

/// Frames taken from one guest before the next has its turn.
const VISIT_FRAMES: usize = 32;

impl Engine {
    /// Guests to domain.
    pub(super) fn transmit(&mut self) -> bool {
        let mut taken = 0;
        for guest in 0..self.guests.count() {
            if self.guests[guest].port.transmits() == Some(false) {
                taken += self.discard(guest);
            }
        }
        if !self.is_draining() && self.active_life().is_some() {
            taken += self.take_in_turn();
        }
        if let Err(violation) = self.post()
            && let Some(active) = self.active
        {
            self.violate(active, violation);
        }
        taken > 0
    }

    /// Visits the guests in turn until none has anything, or enough was taken.
    fn take_in_turn(&mut self) -> usize {
        let count = self.guests.count();
        // What could not be posted keeps the rest out: the order is the guests'.
        let stuck = self.tx.is_waiting();
        let (mut taken, mut idle) = (0, 0);
        while taken < TURN_FRAMES && idle < count {
            let guest = self.next_guest;
            self.next_guest = (guest + 1) % count;
            let visit = match self.guests[guest].port.transmits() {
                Some(true) => self.take_frames(guest, VISIT_FRAMES.min(TURN_FRAMES - taken), stuck),
                Some(false) | None => 0,
            };
            idle = if visit == 0 { idle + 1 } else { 0 };
            taken += visit;
        }
        taken
    }

    /// Takes frames of a guest while there are buffers; the rest stays in the guest's ring.
    fn take_frames(&mut self, guest: usize, most: usize, stuck: bool) -> usize {
        let mut taken = 0;
        let mut blocked = stuck;
        while !blocked && taken < most {
            let frames = if self.has_room(guest) { self.take_chain(guest) } else { 0 };
            if frames == 0 {
                blocked = !self.has_room(guest);
                break;
            }
            taken += frames;
        }
        if blocked && !self.guests[guest].tx_blocked {
            self.shared.counters.tx_backpressure.add(1);
        }
        self.guests[guest].tx_blocked = blocked;
        taken
    }

    /// Whether there are buffers for what the guest sends next.
    pub(super) fn has_room(&self, guest: usize) -> bool {
        self.tx.has_room(guest, self.guests[guest].needs_buffers)
    }

    /// Takes the next chain of a guest. Says how many frames it was; 0 if there is none, or no room
    /// for it.
    fn take_chain(&mut self, guest: usize) -> usize {
        let place = &mut self.guests[guest];
        let frames = match place.port.take_chain() {
            Taken::Nothing => return 0,
            Taken::Rejected => {
                self.shared.counters.tx_malformed.add(1);
                return 1;
            }
            Taken::Chain(frames) => frames,
        };
        let buffers = buffers_of(frames.count, frames.longest_bytes);
        // Segments so small that there are never buffers for all of them are refused like nonsense.
        let is_possible = buffers <= self.tx.quota();
        if is_possible && !self.tx.has_room(guest, buffers) {
            place.needs_buffers = buffers;
            place.port.leave_chain();
            return 0;
        }
        place.needs_buffers = MAX_FRAME_BUFFERS;
        let sent = is_possible && self.send_frames(guest);
        self.guests[guest].port.return_chain();
        let counters = &self.shared.counters;
        counters.tx_malformed.add(u64::from(!sent));
        counters.tx_cut.add(u64::from(sent && frames.count > 1));
        frames.count
    }

    /// Sends the frames of the chain that was taken; `false` if one cannot be read.
    fn send_frames(&mut self, guest: usize) -> bool {
        while let Some(mut frame) = self.guests[guest].port.next_frame() {
            let (bytes, checksum) = (frame.bytes, frame.checksum);
            let Ok(staged) = self.tx.stage(bytes, checksum, |slice| frame.copy_to(slice)) else {
                return false;
            };
            let counters = &self.shared.counters;
            counters.tx_frames.add(1);
            counters.tx_bytes.add(bytes as u64);
            counters.copies.add(1);
            self.send(guest, staged);
        }
        true
    }

    /// Sends a staged frame to whom it is for.
    fn send(&mut self, guest: usize, mut staged: Staged) {
        let glance = self.tx.staged_head::<GLANCE_BYTES>(&staged);
        let rest = || self.tx.staged_head::<LEARN_BYTES>(&staged);
        self.announcements.addresses(guest).learn(&glance, rest);
        let targets = self.guests.of_guest(guest, &glance[..6]);
        if !targets.is_empty() {
            self.tx.complete(&mut staged);
            self.send_local(targets, &staged);
        }
        let is_group = glance[0] & 1 != 0;
        if targets.is_empty() || is_group {
            self.tx.queue(guest, &staged);
        }
    }

    fn send_local(&mut self, targets: GuestSet, staged: &Staged) {
        let counters = &self.shared.counters;
        let (parts, count) = self.tx.staged_parts(staged);
        for target in targets.each() {
            let mut malformed = 0;
            match self.guests.deliver(target, &[], &parts[..count], &mut malformed) {
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

    /// Throws away what is in a disabled transmit ring, as the vhost-user document asks.
    fn discard(&mut self, guest: usize) -> usize {
        let port = &mut self.guests[guest].port;
        let mut taken = 0;
        while taken < TURN_FRAMES {
            match port.take_chain() {
                Taken::Nothing => break,
                Taken::Rejected => {}
                Taken::Chain(_) => port.return_chain(),
            }
            taken += 1;
        }
        self.shared.counters.tx_discarded.add(taken as u64);
        taken
    }
}

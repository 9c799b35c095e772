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
use super::transmit::Staged;

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
            blocked = !self.tx.has_room(guest);
            if blocked || !self.take_frame(guest) {
                break;
            }
            taken += 1;
        }
        if blocked && !self.guests[guest].tx_blocked {
            self.shared.counters.tx_backpressure.add(1);
        }
        self.guests[guest].tx_blocked = blocked;
        taken
    }

    /// Takes the next frame of a guest; `false` if it has none.
    fn take_frame(&mut self, guest: usize) -> bool {
        let counters = &self.shared.counters;
        let port = &mut self.guests[guest].port;
        let (head, bytes, staged) = match port.take_frame() {
            Taken::Nothing => return false,
            Taken::Rejected => {
                counters.tx_malformed.add(1);
                return true;
            }
            Taken::Frame(mut frame) => {
                let (bytes, checksum) = (frame.bytes, frame.checksum);
                let staged = self.tx.stage(bytes, checksum, |slice| frame.copy_to(slice));
                (frame.head, frame.bytes, staged)
            }
        };
        port.return_frame(head);
        match staged {
            Ok(staged) => {
                counters.tx_frames.add(1);
                counters.tx_bytes.add(bytes as u64);
                self.send(guest, staged);
            }
            Err(_) => counters.tx_malformed.add(1),
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
                Delivery::Done => counters.local_frames.add(1),
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
            let head = match port.take_frame() {
                Taken::Nothing => break,
                Taken::Rejected => None,
                Taken::Frame(frame) => Some(frame.head),
            };
            if let Some(head) = head {
                port.return_frame(head);
            }
            taken += 1;
        }
        self.shared.counters.tx_discarded.add(taken as u64);
        taken
    }
}

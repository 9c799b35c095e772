//! A guest that leaves: its transmit ring was stopped, perhaps because it goes on at another machine.
//!
//! ```text
//!            stop of its ring          last frame confirmed, or GUEST_DRAIN_DEADLINE is over
//!   it is here ─────────────▶ leaving ────────────────────────────────────────────▶ it is not here
//!                             its frames go on, through a failover too   the front-end hears
//! ```
//! Its front-end hears that the ring is stopped only when the guest's last frames are out, because
//! from then on the guest may run elsewhere with the same address. A takeover after that sends nothing
//! of it again: a frame from here would teach the network that the guest still is.

use std::sync::mpsc::SyncSender;

use super::engine::Engine;
use super::port::TX_RING;
use super::shared::{Reply, RingsDone};
use platform::budget::{GUEST_DRAIN_DEADLINE, HANDOVER_POLL};

/// A guest that leaves, and who waits for that.
pub(crate) struct Departure {
    until_ns: u64,
    done: RingsDone,
    reply: SyncSender<Reply>,
}

impl Engine {
    /// Answers for a guest's changed rings: at once, or when its last frames are out.
    pub(crate) fn answer_rings(
        &mut self,
        guest: usize,
        now_ns: u64,
        done: RingsDone,
        reply: SyncSender<Reply>,
    ) {
        // Of a change before this one, whose front-end has not waited for the answer.
        self.depart(guest);
        let stopped = done.retired[TX_RING].is_some() && !self.is_connected(guest);
        if stopped {
            let until_ns = now_ns + GUEST_DRAIN_DEADLINE.as_nanos() as u64;
            self.guests[guest].departure = Some(Departure { until_ns, done, reply });
            self.see_off(now_ns);
        } else {
            // Who gave up waiting needs no answer.
            let _ = reply.try_send(Reply::Rings(done));
        }
    }

    /// Whether a guest's transmit ring is there.
    pub(super) fn is_connected(&self, guest: usize) -> bool {
        self.guests[guest].port.rings[TX_RING].is_some()
    }

    /// Lets those go who leave and have nothing under way any more, or have waited for too long.
    pub(super) fn see_off(&mut self, now_ns: u64) {
        if !self.is_anybody_leaving() {
            return;
        }
        if self.tx.has_claimed() {
            self.confirm(now_ns);
        }
        for guest in 0..self.guests.count() {
            let Some(departure) = &self.guests[guest].departure else { continue };
            if self.tx.holds_nothing_of(guest) || now_ns >= departure.until_ns {
                self.depart(guest);
            }
        }
    }

    /// When to look again at those who leave.
    pub(super) fn departure_due_ns(&self, now_ns: u64) -> Option<u64> {
        self.is_anybody_leaving().then(|| now_ns + HANDOVER_POLL.as_nanos() as u64)
    }

    fn is_anybody_leaving(&self) -> bool {
        self.guests.iter().any(|guest| guest.departure.is_some())
    }

    /// The guest is not here from now on, if it was leaving.
    fn depart(&mut self, guest: usize) {
        let Some(departure) = self.guests[guest].departure.take() else { return };
        if !self.is_connected(guest) {
            self.announcements.set_here(guest, false);
            self.shared.counters.tx_left_behind.add(self.tx.leave(guest));
        }
        let _ = departure.reply.try_send(Reply::Rings(departure.done));
    }
}

#[cfg(test)]
mod tests;

//! Going to sleep and waking up, so that no wakeup is lost.

use std::sync::atomic::{Ordering, fence};

use platform::budget::SILENT_KICK_POLL;

use super::DataPath;
use crate::engine::serving::Serving;
use crate::guest_set::GuestSet;
use crate::port::{RINGS, RX_RING, TX_RING};

impl DataPath {
    /// Prepares to sleep: asks guests and domains for a wakeup, then looks once more. Returns false
    /// if something came in between; then [`Self::disarm`] and go on.
    ///
    /// A domain publishes, fences, looks at `switchboard_asleep` and calls NOTIFY if it is set;
    /// here it is set, then fence, then look at the rings. The guests' rings work alike.
    pub(in crate::engine) fn arm(&mut self, serving: &Serving) -> bool {
        self.set_asleep(true);
        fence(Ordering::SeqCst);
        let pair = serving.path().and_then(|domain| self.domains.peek_trusted(domain));
        let serves = pair.is_some() && !serving.is_draining();
        let mut work = pair.is_some_and(|pair| pair.has_claims());
        let mut waiting = GuestSet::NONE;
        for domain in serving.receivers() {
            let Some(pair) = self.domains.peek_trusted(domain) else { continue };
            waiting = waiting.with(pair.backlog.waiting());
            if pair.has_received() {
                // A single guest's frames wait for its chains; others' never do here.
                let waits = self.guests.is_single() && self.guests[0].port.receives();
                waiting = if waits { waiting.with(GuestSet::of(0)) } else { waiting };
                work |= !waits;
            }
        }
        for guest in 0..self.guests.count() {
            work |= self.arm_guest(guest, serves, waiting.contains(guest));
        }
        !work
    }

    /// Asks a guest for kicks. Returns true if there is something to do already.
    fn arm_guest(&mut self, guest: usize, serves: bool, awaited: bool) -> bool {
        let room = self.tx.takes_more(guest);
        let port = &mut self.guests[guest].port;
        let mut wanted = [false; RINGS];
        wanted[RX_RING] = awaited && port.receives();
        wanted[TX_RING] = match port.transmits() {
            Some(true) => serves && room,
            Some(false) => true,
            None => false,
        };
        // Frames that wait for a guest that is gone are disposed of at once.
        port.arm(wanted) | (awaited && !wanted[RX_RING])
    }

    /// Takes the requests back: after a sleep, or instead of one.
    pub(in crate::engine) fn disarm(&mut self) {
        self.set_asleep(false);
        self.guests.iter_mut().for_each(|guest| guest.port.disarm());
    }

    fn set_asleep(&self, asleep: bool) {
        for slot in self.domains.living() {
            slot.control().switchboard_asleep.0.store(u32::from(asleep), Ordering::Relaxed);
        }
    }

    /// When to wake at the latest, as far as the data path knows.
    pub(in crate::engine) fn due_ns(&self, serving: &Serving, now_ns: u64) -> Option<u64> {
        // Two things that nothing wakes the loop for: chains behind a kick that cannot signal, and
        // room in TX_POST where a domain claims buffers before it says that it took them.
        let poll = self.guests.iter().any(|guest| guest.port.has_deaf_ring())
            || self.is_posting_blocked(serving);
        let poll = poll.then(|| now_ns + SILENT_KICK_POLL.as_nanos() as u64);
        let due = [self.announcer.due_ns(), self.tx.due_ns(), self.guests.due_ns(), poll];
        due.into_iter().flatten().min()
    }

    fn is_posting_blocked(&self, serving: &Serving) -> bool {
        let pair = serving.path().and_then(|domain| self.domains.peek_trusted(domain));
        self.tx.is_waiting() && pair.is_some()
    }
}

//! Draining a guest whose transmit ring was stopped, perhaps because it goes on at another machine.
//!
//! ```text
//!            its ring stops             last frame confirmed, or GUEST_DRAIN_DEADLINE is over
//!   started ────────────────▶ draining ─────────────────────────────────────────────▶ stopped
//!                             its frames go on, through a failover too   the front-end hears
//! ```
//! Its front-end hears that the ring is stopped only when the guest's last frames are out, because
//! from then on the guest may run elsewhere with the same address. A takeover after that sends none
//! of its frames again: one from here would teach the network that the guest is still here.
//!
//! This owns the answers that front-ends wait for. Invariant: a guest has at most one.

use std::sync::mpsc::SyncSender;

use platform::budget::{GUEST_DRAIN_DEADLINE, HANDOVER_POLL};

use super::data_path::DataPath;
use super::serving::Serving;
use crate::command::{Reply, RingsDone};
use crate::port::TX_RING;

/// A guest that drains, and who waits for that.
struct Drain {
    until_ns: u64,
    done: RingsDone,
    reply: SyncSender<Reply>,
}

/// The guests that drain.
pub(super) struct GuestDrains(Vec<Option<Drain>>);

impl GuestDrains {
    pub(super) fn new(guests: usize) -> Self {
        Self((0..guests).map(|_| None).collect())
    }

    /// Answers for a guest's changed rings: at once, or when its last frames are out.
    pub(super) fn answer_rings(
        &mut self,
        serving: &Serving,
        path: &mut DataPath,
        guest: usize,
        now_ns: u64,
        (done, reply): (RingsDone, SyncSender<Reply>),
    ) {
        // A drain of a change before this one, whose front-end has not waited for the answer.
        self.end(path, guest);
        let stopped = done.retired[TX_RING].is_some() && !path.is_connected(guest);
        if stopped {
            let until_ns = now_ns + GUEST_DRAIN_DEADLINE.as_nanos() as u64;
            self.0[guest] = Some(Drain { until_ns, done, reply });
            self.finish(serving, path, now_ns);
        } else {
            path.answer(&reply, Reply::Rings(done));
        }
    }

    /// Ends the drains of guests that have nothing under way any more, or have drained for too
    /// long.
    pub(super) fn finish(&mut self, serving: &Serving, path: &mut DataPath, now_ns: u64) {
        if !self.is_any() {
            return;
        }
        path.confirm_claimed(serving, now_ns);
        for guest in 0..self.0.len() {
            let Some(drain) = &self.0[guest] else { continue };
            if path.holds_nothing_of(guest) || now_ns >= drain.until_ns {
                self.end(path, guest);
            }
        }
    }

    /// When to look at the drains again.
    pub(super) fn due_ns(&self, now_ns: u64) -> Option<u64> {
        self.is_any().then(|| now_ns + HANDOVER_POLL.as_nanos() as u64)
    }

    fn is_any(&self) -> bool {
        self.0.iter().any(Option::is_some)
    }

    /// Ends a guest's drain, if there is one: unless its rings run again, it is not here from now
    /// on.
    fn end(&mut self, path: &mut DataPath, guest: usize) {
        let Some(drain) = self.0[guest].take() else { return };
        if !path.is_connected(guest) {
            path.guest_stopped(guest);
        }
        path.answer(&drain.reply, Reply::Rings(drain.done));
    }
}

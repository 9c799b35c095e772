//! Lost notifications: entries that the domain has published stay unread while the switchboard
//! sleeps.
//!
//! ```text
//!   published ── half of a ring stall's time ── notify in its place ─┬─ read: one was lost
//!                the switchboard sleeps all the while                └─ unread: not its fault
//! ```
//! A frame that waits for buffers of the guest stays unread too, but not for lack of a
//! notification. Another notification changes nothing then, and nothing is held against the domain.

use super::opinion::Opinion;
use super::sample::Sample;
use super::time::{Moment, Stretch, ns};
use crate::topology::Thresholds;

/// How far the switchboard has read, or the domain has published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cursors {
    rx_done: u32,
    tx_done: u32,
}

/// The switchboard was notified in the domain's place.
#[derive(Clone, Copy, Debug)]
struct Notified {
    /// How far it had read.
    read: Cursors,
    /// How long that had been so, nanoseconds.
    lasted_ns: u64,
    at: Moment,
}

/// Watches whether published entries are read.
#[derive(Debug, Default)]
pub(super) struct LostNotification {
    /// How far the switchboard has read, and the turns of its loop.
    unread: Stretch<(Cursors, u64)>,
    notified: Option<Notified>,
}

impl LostNotification {
    pub(super) fn assess(&mut self, s: &Sample, now: Moment, t: &Thresholds) -> Opinion {
        let read = Cursors { rx_done: s.cursors.rx_read, tx_done: s.cursors.tx_read };
        let half_ns = ns(t.stall_us) / 2;
        if let Some(notified) = self.notified.take_if(|notified| notified.read != read) {
            self.unread.forget();
            // If it was read later than this, it had waited for the guest.
            if now.since(notified.at).wall_ns <= half_ns {
                return Opinion::Healed(notified.lasted_ns);
            }
        }
        let published = Cursors { rx_done: s.cursors.rx_returned, tx_done: s.cursors.tx_claimed };
        if published == read || !s.switchboard_asleep {
            self.unread.forget();
            self.notified = self.notified.filter(|_| published != read);
            return Opinion::Fine;
        }
        let age = self.unread.age((read, s.confirmations.turns), now);
        if age.wall_ns < half_ns || !s.sleeps() {
            return Opinion::Suspect(half_ns.saturating_sub(age.wall_ns));
        }
        if self.notified.is_some() {
            return Opinion::Fine;
        }
        self.notified = Some(Notified { read, lasted_ns: age.wall_ns, at: now });
        Opinion::NotifySwitchboard(half_ns)
    }
}

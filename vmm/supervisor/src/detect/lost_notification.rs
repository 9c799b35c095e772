//! Lost notifications: what the domain has published stays unread while the switchboard sleeps.
//!
//! ```text
//!   published ── half of a ring stall's time ── ring for the domain ─┬─ read: one was lost; counted
//!                the switchboard asleep all the while                └─ unread: not the domain's fault
//! ```
//! A frame that waits for buffers of the guest stays unread too, but not for want of a notification:
//! ringing changes nothing then, and nothing is held against the domain.

use super::opinion::Opinion;
use super::sample::Sample;
use super::time::{Moment, Stretch, ns};
use crate::topology::Thresholds;

/// The switchboard was rung for the domain.
#[derive(Clone, Copy, Debug)]
struct Rung {
    /// How far it had read.
    heard: [u32; 2],
    /// How long that had been so, nanoseconds.
    lasted_ns: u64,
    at: Moment,
}

/// Watches whether what is published is read.
#[derive(Debug, Default)]
pub(super) struct LostNotification {
    /// How far the switchboard has read, and the turns of its loop.
    unread: Stretch<([u32; 2], u64)>,
    rung: Option<Rung>,
}

impl LostNotification {
    pub(super) fn look(&mut self, s: &Sample, now: Moment, t: &Thresholds) -> Opinion {
        let heard = [s.cursors.rx_read, s.cursors.tx_read];
        let half_ns = ns(t.stall_us) / 2;
        if let Some(rung) = self.rung.take_if(|rung| rung.heard != heard) {
            self.unread.forget();
            // Later it was the guest that it had waited for.
            if now.since(rung.at).wall_ns <= half_ns {
                return Opinion::Healed(rung.lasted_ns);
            }
        }
        let published = [s.cursors.rx_returned, s.cursors.tx_claimed];
        if published == heard || !s.switchboard_asleep {
            self.unread.forget();
            self.rung = self.rung.filter(|_| published != heard);
            return Opinion::Fine;
        }
        let age = self.unread.age((heard, s.confirmations.turns), now);
        if age.wall_ns < half_ns || !s.sleeps() {
            return Opinion::Suspect(half_ns.saturating_sub(age.wall_ns));
        }
        if self.rung.is_some() {
            return Opinion::Fine;
        }
        self.rung = Some(Rung { heard, lasted_ns: age.wall_ns, at: now });
        Opinion::Ring(half_ns)
    }
}

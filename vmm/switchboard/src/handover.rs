//! A planned switch: the ring goes from one healthy domain to another, and no frame is lost or
//! comes twice.
//!
//! ```text
//!              overlap           hand_over             drained            end_handover
//!   one serves ──────▶ Overlap ───────────▶ Draining ──────────▶ Leaving ─────────────▶ the other
//!                      both receive         guest's frames       the other sends,
//!                                           wait in its ring     the first's late
//!                                                                receptions are taken
//!                                                                until it is settled
//! ```
//! - *Transmit*: nothing new is given to the first while it drains, and the other gets its first
//!   frame only when the first one's NIC has confirmed every frame. So none is in two hands, and the
//!   order is kept.
//! - *Receive*: between opening the other's filters and shutting the first one's, both domains'
//!   rings are read, the first one's before the other's; a frame that both received is recognised
//!   (`twice`) and handed on once. The first one's filters stay open until announcements that the
//!   other sent have come in there: a switch that sends one to the old port has learned the new one,
//!   and what it sent to the old one before is in front of it ([`Handover::note_own`]).
//!
//! A first domain that does not drain in time keeps the ring. A takeover, whoever orders it, ends a
//! handover at any step.

use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;

use super::engine::Engine;
use super::guests::GuestSet;
use super::lane::{Lane, LaneLife};
use super::shared::Reply;
use super::takeover::Refused;
use platform::budget::{HANDOVER_DRAIN, HANDOVER_POLL};

/// How far a handover has come.
pub(crate) enum Phase {
    Overlap,
    Draining {
        began_ns: u64,
        /// Whom to tell how it went.
        reply: SyncSender<Reply>,
    },
    Leaving,
}

/// A handover that is on.
pub(crate) struct Handover {
    pub(crate) from: usize,
    pub(crate) to: usize,
    epoch: u32,
    pub(crate) phase: Phase,
    /// Guests of whom frames that the heir sent have come in through the lane that was left.
    returned: GuestSet,
}

impl Handover {
    /// The other of the two lanes.
    pub(crate) fn partner(&self, lane: usize) -> Option<usize> {
        match lane {
            lane if lane == self.from => Some(self.to),
            lane if lane == self.to => Some(self.from),
            _ => None,
        }
    }

    /// A frame that a guest had sent came in.
    pub(super) fn note_own(&mut self, lane: usize, guest: usize) {
        if lane == self.from && matches!(self.phase, Phase::Leaving) {
            self.returned = self.returned.with(GuestSet::of(guest));
        }
    }
}

impl Engine {
    /// Both domains receive from now on.
    pub(crate) fn overlap(&mut self, to: usize, epoch: u32) -> Result<(), Refused> {
        let Some(from) = self.active.filter(|from| *from != to) else {
            return Err(Refused::Busy);
        };
        if self.handover.is_some() {
            return Err(Refused::Busy);
        }
        if !self.is_fit(to, epoch) {
            return Err(Refused::NotInstalled);
        }
        self.twice.start();
        let (phase, returned) = (Phase::Overlap, GuestSet::NONE);
        self.handover = Some(Handover { from, to, epoch, phase, returned });
        Ok(())
    }

    /// The guest's frames wait from now on, and the ring changes hands when the first domain has
    /// none left. `reply` hears of it.
    pub(crate) fn hand_over(&mut self, now_ns: u64, reply: SyncSender<Reply>) {
        match &mut self.handover {
            Some(handover) if matches!(handover.phase, Phase::Overlap) => {
                handover.phase = Phase::Draining { began_ns: now_ns, reply };
                self.announcements.stop();
            }
            _ => {
                let _ = reply.try_send(Reply::HandedOver(Err(Refused::Busy)));
            }
        }
    }

    /// Whether the guest's frames wait for a handover.
    pub(super) fn is_draining(&self) -> bool {
        matches!(&self.handover, Some(Handover { phase: Phase::Draining { .. }, .. }))
    }

    /// Lanes whose receptions are the guest's, in the order in which they are read.
    pub(super) fn receivers(&self) -> [Option<usize>; 2] {
        match &self.handover {
            Some(handover) => [Some(handover.from), Some(handover.to)],
            None => [self.active, None],
        }
    }

    /// When a drain must be looked at again.
    pub(super) fn drain_due_ns(&self, now_ns: u64) -> Option<u64> {
        self.is_draining().then(|| now_ns + HANDOVER_POLL.as_nanos() as u64)
    }

    /// Goes on with a drain: asks the NIC, and hands over or gives up.
    pub(super) fn drain(&mut self, now_ns: u64) {
        if !self.is_draining() {
            return;
        }
        if self.tx.has_claimed() {
            self.confirm(now_ns);
        }
        let Some(handover) = &self.handover else { return };
        let Phase::Draining { began_ns, .. } = handover.phase else { return };
        let (to, epoch) = (handover.to, handover.epoch);
        if self.tx.unconfirmed() == 0 && self.is_fit(to, epoch) {
            self.change_hands(to, epoch, now_ns);
        } else if now_ns > began_ns + HANDOVER_DRAIN.as_nanos() as u64 || !self.is_fit(to, epoch) {
            self.cancel_handover(Refused::NotDrained);
            // The first keeps the ring; the other's receptions are still looked for until
            // `end_handover` says that its filters are shut.
            let (phase, returned) = (Phase::Leaving, GuestSet::NONE);
            self.handover = self.active.map(|from| Handover { from, to, epoch, phase, returned });
        }
    }

    fn change_hands(&mut self, to: usize, epoch: u32, now_ns: u64) {
        self.active = None;
        let begun = self.begin(to, epoch);
        debug_assert!(begun, "looked at by the caller");
        self.shared.settled.store(false, Ordering::Release);
        self.announcements.start(now_ns);
        self.announce_first();
        self.publish_all(to);
        self.shared.counters.handovers.add(1);
        let Some(handover) = &mut self.handover else { return };
        let phase = std::mem::replace(&mut handover.phase, Phase::Leaving);
        if let Phase::Draining { began_ns, reply } = phase {
            // Who gave up waiting needs no answer.
            let _ = reply.try_send(Reply::HandedOver(Ok(now_ns - began_ns)));
        }
    }

    /// Tells whoever waits for it when announcements of all guests have come round.
    pub(super) fn see_settled(&self) {
        if let Some(Handover { phase: Phase::Leaving, returned, .. }) = &self.handover
            && self.announcements.here().without(*returned).is_empty()
        {
            self.shared.settled.store(true, Ordering::Release);
        }
    }

    /// Ends a handover where it is; the lanes stay as they are.
    pub(super) fn cancel_handover(&mut self, why: Refused) -> Option<Handover> {
        let mut handover = self.handover.take()?;
        let phase = std::mem::replace(&mut handover.phase, Phase::Leaving);
        if let Phase::Draining { reply, .. } = phase {
            let _ = reply.try_send(Reply::HandedOver(Err(why)));
        }
        Some(handover)
    }

    /// The filters of the domain that does not serve are shut and it is quiet: takes its last
    /// receptions. From here on it must publish nothing.
    pub(crate) fn end_handover(&mut self, now_ns: u64) {
        let Some(handover) = &self.handover else { return };
        if let Some(idle) = self.active.and_then(|active| handover.partner(active)) {
            if let Err(violation) = self.take_last(idle) {
                self.violate(idle, violation);
            }
            self.flush();
        }
        self.cancel_handover(Refused::Busy);
        self.twice.fade(now_ns);
    }

    /// Whether a life could be active.
    pub(super) fn is_fit(&self, lane: usize, epoch: u32) -> bool {
        let life = self.lanes.get(lane).and_then(|lane: &Lane| lane.life.as_deref());
        life.is_some_and(|life: &LaneLife| life.epoch == epoch && life.trusted)
    }
}

#[cfg(test)]
mod tests;

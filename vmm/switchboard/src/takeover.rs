//! Who is active: install, activate, detach, and the takeover itself.
//!
//! A takeover, at a loop boundary:
//! 1. *Settle* the failed life: read its last claims, ask its NIC for the last time, and note which
//!    frames were in its hand. Poison leaves the line.
//! 2. *Publish* the announcement and all unconfirmed frames, in order, to the other domain.
//! 3. *Bury* the failed life: hand on what it had published, then what its NIC had completed and it
//!    had not published; forget its rings.
//!
//! Only 1 and 2 are on the path to the spare's first frame. Nothing in it allocates or waits.

use std::sync::atomic::Ordering;

use shared_ring::layout::{NIC_RX_DESCRIPTORS, RX_BUFFERS, RX_SLOT_EMPTY};

use super::engine::Engine;
use super::forward::Forwarder;
use super::guests::GuestSet;
use super::lane::{Lane, LaneLife, RxFrame};
use super::report::{TakeOver, TakeOverReport};
use super::violation::{RingName, Violation};
use microvm::domain::DomainSlot;
use platform::clock::monotonic_ns;

/// Bits of [`DomainSlot::rx_write_back`].
mod descriptor {
    pub(super) const DONE: u64 = 1 << 0;
    pub(super) const END_OF_PACKET: u64 = 1 << 1;
    /// RXE: the MAC found the frame damaged.
    pub(super) const DAMAGED: u64 = 1 << 31;

    pub(super) fn len(word: u64) -> u16 {
        (word >> 32) as u16
    }
}

/// Why a domain cannot become active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// There is no such installed life, or it broke the protocol.
    NotInstalled,
    /// Another domain is active, or a handover is on or over.
    Busy,
    /// The domain did not get rid of its frames in time, and keeps the ring.
    NotDrained,
    /// A takeover came in between.
    TakenOver,
}

impl Engine {
    /// A new life, whose rings were made on the thread that builds the domain.
    pub(crate) fn install(&mut self, lane: usize, life: Box<LaneLife>) -> Option<Box<LaneLife>> {
        self.lanes[lane].life.replace(life)
    }

    /// The first active domain, or the only one after a restart in place: frames that the life
    /// before it left unconfirmed are posted.
    pub(crate) fn activate(&mut self, lane: usize, epoch: u32) -> Result<(), Refused> {
        if self.active.is_some() {
            return Err(Refused::Busy);
        }
        if !self.begin(lane, epoch) {
            return Err(Refused::NotInstalled);
        }
        self.publish_all(lane);
        Ok(())
    }

    /// Ends a life without a successor: nothing of its rings is touched afterwards.
    pub(crate) fn detach(&mut self, lane: usize) -> Option<Box<LaneLife>> {
        let mut report = TakeOverReport::default();
        let in_handover = self.handover.as_ref().is_some_and(|h| h.partner(lane).is_some());
        if self.active == Some(lane) {
            self.settle(lane, &mut report);
            self.bury(lane, &mut report);
            self.flush();
        } else if in_handover {
            self.bury(lane, &mut report);
            self.flush();
        }
        if in_handover {
            self.cancel_handover(Refused::TakenOver);
        }
        self.lanes[lane].life.take()
    }

    /// Hands the ring to another domain. Returns what is left of the old life.
    pub(crate) fn take_over(&mut self, order: &TakeOver) -> Option<Box<LaneLife>> {
        self.takeovers += 1;
        let mut report = TakeOverReport {
            sequence: self.takeovers,
            to: u64::from(order.to.0),
            epoch: u64::from(order.epoch),
            verdict_ns: order.verdict_ns,
            ..TakeOverReport::default()
        };
        let to = order.to.index();
        let handover = self.cancel_handover(Refused::TakenOver);
        // In a handover the ring can be where it is to go already.
        let serves = self.active == Some(to) && self.is_fit(to, order.epoch);
        let failed = match serves {
            true => handover.and_then(|handover| handover.partner(to)),
            false => self.active,
        };
        let now_ns = monotonic_ns();
        // What both received in a handover is recognised for a while yet.
        self.twice.fade(now_ns);
        if let (Some(failed), false) = (failed, serves) {
            self.settle(failed, &mut report);
        }
        let accepted = serves || failed != Some(to) && self.begin(to, order.epoch);
        report.refused = u64::from(!accepted);
        if accepted && !serves {
            let resent = self.shared.counters.tx_resent.get();
            self.announcements.start(now_ns);
            self.announce_first();
            self.publish_all(to);
            report.resent = self.shared.counters.tx_resent.get() - resent;
        }
        report.published_ns = monotonic_ns();
        let remains = failed.and_then(|failed| {
            self.bury(failed, &mut report);
            self.lanes[failed].life.take()
        });
        self.flush();
        report.done_ns = monotonic_ns();
        self.shared.counters.takeovers.add(1);
        self.shared.report.write(&report);
        remains
    }

    /// Makes an installed life the active one, if it is fit for it.
    pub(super) fn begin(&mut self, lane: usize, epoch: u32) -> bool {
        let fit = self.is_fit(lane, epoch);
        if fit {
            self.confirmations.begin(&*self.lanes[lane].slot.nic);
            self.active = Some(lane);
        }
        fit
    }

    pub(super) fn announce_first(&mut self) {
        let announced = self.announcements.lead(&mut self.tx);
        self.shared.counters.announced.add(announced);
    }

    /// Announces the guest as after a takeover, if somebody serves it.
    pub(crate) fn announce_now(&mut self, now_ns: u64) {
        if self.active.is_some() && !self.is_draining() {
            self.announcements.start(now_ns);
        }
    }

    /// A failed NIC is silent. What it sent last may have come after the last announcement, and have
    /// drawn the guests' addresses to its port.
    pub(crate) fn reannounce(&mut self, now_ns: u64) {
        if self.announcements.due_ns().is_none() {
            self.announce_now(now_ns);
        }
    }

    /// Posts everything that waits to the domain that just became active, and wakes it.
    pub(super) fn publish_all(&mut self, lane: usize) {
        let Lane { slot, life } = &mut self.lanes[lane];
        let Some(life) = life.as_deref_mut() else { return };
        let posted = self.tx.post(&mut life.rings.tx_post, life.epoch);
        let published = posted.and_then(|again| {
            self.shared.counters.tx_resent.add(again);
            life.publish(slot)
        });
        match published {
            Ok(kicked) => self.shared.counters.kicks.add(u64::from(kicked)),
            Err(violation) => self.violate(lane, violation),
        }
    }

    /// Step 1. The domain is not active any more.
    fn settle(&mut self, lane: usize, report: &mut TakeOverReport) {
        let mut claims = 0;
        // What its last claims break does not matter now: it has failed.
        let _ = self.drain_claims(&mut claims);
        self.active = None;
        self.announcements.stop();
        let Lane { slot, life } = &self.lanes[lane];
        let counters = &self.shared.counters;
        let attached = life.as_ref().is_some_and(|life| slot.is_attached(life.epoch));
        report.confirmed_late =
            self.confirmations.finish(&*slot.nic, attached, &mut self.tx, counters);
        let Some(life) = life else { return };
        // A cursor that is impossible proves nothing: everything may have been in hand.
        let taken = life.rings.tx_post.consumed().ok();
        let failed = self.tx.fail(|cursor| match taken {
            Some(taken) => taken.wrapping_sub(cursor.wrapping_add(1)) as i32 >= 0,
            None => true,
        });
        report.poisoned = failed.poisoned;
        counters.tx_poisoned.add(failed.poisoned);
        counters.tx_left_behind.add(failed.left_behind);
    }

    /// Takes everything that a domain received which goes on as a standby; what finds no room in the
    /// guest is lost, because nobody looks here again.
    ///
    /// # Errors
    /// An entry that does not check, or more entries than there are buffers: each buffer can come once.
    pub(super) fn take_last(&mut self, lane: usize) -> Result<(), Violation> {
        let (slot, life, mut forwarder) = self.forwarder(lane);
        let Some(life) = life else { return Ok(()) };
        let mut returned = Ok(());
        let [_, lost] = forwarder.disburse(slot, life, |life, buffer| {
            returned = returned.and_then(|()| life.give_back(slot, buffer));
        });
        forwarder.counters.rx_lost.add(lost);
        returned?;
        for _ in 0..RX_BUFFERS {
            let Some(frame) = life.next_received(slot)? else {
                life.rings.rx_done.release();
                return Ok(());
            };
            let waiting = forwarder.forward(slot, &frame, GuestSet::NONE);
            forwarder.counters.rx_lost.add(u64::from(waiting.count()));
            life.give_back(slot, frame.buffer)?;
        }
        life.rings.rx_done.release();
        // One that goes on publishing though it stands by.
        life.check_silent(&[RingName::RxDone])
    }

    /// Step 3. Nothing that it left is settled: also for a domain that only received.
    fn bury(&mut self, lane: usize, report: &mut TakeOverReport) {
        let (slot, life, forwarder) = self.undertaker(lane);
        let Some(life) = life else { return };
        let counters = forwarder.counters;
        let mut heir = Heir { forwarder, slot, life, report };
        heir.hand_on_backlog();
        // Nothing more is believed of a domain that broke the rules.
        if heir.life.trusted {
            // A violation ends the draining; the domain has failed already.
            let _ = heir.drain();
            heir.salvage();
        }
        counters.rx_salvaged.add(report.salvaged);
        counters.rx_lost.add(report.lost);
    }
}

/// Hands on the received frames that a failed life leaves.
struct Heir<'a> {
    forwarder: Forwarder<'a>,
    slot: &'a DomainSlot,
    life: &'a mut LaneLife,
    report: &'a mut TakeOverReport,
}

impl Heir<'_> {
    /// What was checked already and waits for room in guests' rings.
    fn hand_on_backlog(&mut self) {
        let [drained, lost] = self.forwarder.disburse(self.slot, self.life, |_, _| ());
        self.report.drained += drained;
        self.report.lost += lost;
    }

    /// What the domain had published.
    fn drain(&mut self) -> Result<(), Violation> {
        while let Some(frame) = self.life.next_received(self.slot)? {
            let handed = self.hand_on(&frame);
            self.report.drained += u64::from(handed);
        }
        Ok(())
    }

    /// Whether a frame needs to wait for nobody. For whom it would, it is lost.
    fn hand_on(&mut self, frame: &RxFrame) -> bool {
        let waiting = self.forwarder.forward(self.slot, frame, GuestSet::NONE);
        self.report.lost += u64::from(waiting.count());
        waiting.is_empty()
    }

    /// What its NIC had completed beyond that. Buffers that the domain published are not its own
    /// any more, so nothing is handed on twice, whatever the domain's page says.
    fn salvage(&mut self) {
        let start = self.slot.status().rx_next.load(Ordering::Relaxed) as usize;
        for n in 0..NIC_RX_DESCRIPTORS {
            let index = start.wrapping_add(n) % NIC_RX_DESCRIPTORS;
            let word = self.slot.rx_write_back(index);
            let buffer = self.slot.rx_slot(index).load(Ordering::Relaxed);
            if word & descriptor::DONE == 0 || buffer == RX_SLOT_EMPTY {
                break;
            }
            let damaged = word & descriptor::DAMAGED != 0;
            let taken = self.life.take_buffer(self.slot, buffer, descriptor::len(word), damaged);
            let whole = word & descriptor::END_OF_PACKET != 0;
            match taken {
                Ok(frame) if whole => self.report.salvaged += u64::from(self.hand_on(&frame)),
                Err(Violation::NotOwned { .. }) => {}
                Ok(_) | Err(_) => self.report.lost += 1,
            }
        }
    }
}

#[cfg(test)]
mod tests;

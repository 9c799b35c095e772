//! What the switchboard does in one turn of its loop, without threads or waiting: state in, frames
//! out. The loop around it is in `worker`.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use super::announce::{AnnounceConfig, Announcer};
use super::confirm::Confirmations;
use super::drill::Drill;
use super::forward::Forwarder;
use super::guests::{GuestSet, Guests};
use super::handover::Handover;
use super::lane::{Lane, LaneLife};
use super::port::vring::Vring;
use super::port::{RINGS, RX_RING, TX_RING};
use super::shared::{RingChange, RingsDone, Shared};
use super::transmit::TxPool;
use super::twice::Twice;
use super::violation::{RingName, Violation, ViolationSink};
use microvm::domain::DomainSlot;
use platform::budget::SILENT_KICK_POLL;

/// Frames moved each way in one turn, so that a takeover never waits for more than a few hundred
/// copies.
pub(super) const TURN_FRAMES: usize = 256;

/// The switchboard's state.
pub(crate) struct Engine {
    pub(super) lanes: Vec<Lane>,
    pub(super) active: Option<usize>,
    pub(super) tx: TxPool,
    pub(super) guests: Guests,
    pub(super) confirmations: Confirmations,
    pub(super) announcements: Announcer,
    pub(super) handover: Option<Handover>,
    pub(super) twice: Twice,
    pub(super) drill: Option<Drill>,
    /// Number of a drill whose question came in and was not answered yet.
    pub(super) question: Option<u32>,
    pub(super) takeovers: u64,
    pub(super) shared: Arc<Shared>,
    sink: Arc<dyn ViolationSink>,
    /// Whose ring is looked at next.
    pub(super) next_guest: usize,
    /// Guests that received frames wait for.
    rx_blocked: GuestSet,
}

impl Engine {
    pub(crate) fn new(
        slots: Vec<Arc<DomainSlot>>,
        tx: TxPool,
        macs: &[[u8; 6]],
        announce: &AnnounceConfig,
        sink: Arc<dyn ViolationSink>,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            lanes: slots.into_iter().map(|slot| Lane { slot, life: None }).collect(),
            active: None,
            tx,
            guests: Guests::new(macs),
            confirmations: Confirmations::default(),
            announcements: Announcer::new(macs, announce),
            handover: None,
            twice: Twice::new(),
            drill: None,
            question: None,
            takeovers: 0,
            shared,
            sink,
            next_guest: 0,
            rx_blocked: GuestSet::NONE,
        }
    }

    /// The active domain's life, unless it broke the protocol.
    pub(super) fn active_life(&mut self) -> Option<(&DomainSlot, &mut LaneLife)> {
        let Lane { slot, life } = &mut self.lanes[self.active?];
        let life = life.as_deref_mut().filter(|life| life.trusted)?;
        Some((slot, life))
    }

    /// Notes a violation: the domain's rings are ignored from here on.
    pub(super) fn violate(&mut self, lane: usize, violation: Violation) {
        let Lane { slot, life } = &mut self.lanes[lane];
        let Some(life) = life.as_deref_mut().filter(|life| life.trusted) else { return };
        life.trusted = false;
        self.shared.counters.violations.add(1);
        self.sink.violation(slot.id, life.epoch, violation);
    }

    /// Moves what can be moved. `false` if nothing was, so that it is time to sleep.
    pub(crate) fn turn(&mut self, now_ns: u64) -> bool {
        self.shared.counters.turns.add(1);
        let claimed = self.reclaim(now_ns);
        self.drain(now_ns);
        self.see_off(now_ns);
        self.tick(now_ns);
        let sent = self.transmit();
        let received = self.receive();
        self.watch_silent();
        self.see_settled();
        self.flush();
        claimed | sent | received
    }

    /// Takes back what the domain claims sent.
    fn reclaim(&mut self, now_ns: u64) -> bool {
        let mut claims = 0;
        let result = self.drain_claims(&mut claims);
        if let (Err(violation), Some(active)) = (result, self.active) {
            self.violate(active, violation);
        }
        if claims > 0 {
            // The NIC may have been asked before the domain said its part.
            self.shared.counters.tx_confirmed.add(self.tx.confirm(0));
        }
        if self.tx.has_claimed() {
            self.confirmations.schedule(now_ns);
        }
        claims > 0
    }

    /// Reads all claims of the active domain, counting them in `claims`.
    pub(super) fn drain_claims(&mut self, claims: &mut u64) -> Result<(), Violation> {
        let Some(active) = self.active else { return Ok(()) };
        let Some(life) = self.lanes[active].life.as_deref_mut().filter(|life| life.trusted) else {
            return Ok(());
        };
        while let Some(buffer) = life.next_claim()? {
            self.tx.claim(buffer)?;
            *claims += 1;
        }
        if *claims > 0 {
            life.rings.tx_done.release();
            self.shared.counters.tx_claimed.add(*claims);
        }
        Ok(())
    }

    /// What time brings: confirmations and repeated announcements.
    fn tick(&mut self, now_ns: u64) {
        let due = self.confirmations.due_ns().is_some_and(|due| due <= now_ns);
        if due || self.tx.is_low() && self.tx.has_claimed() {
            self.confirm(now_ns);
        }
        let announced = self.announcements.tick(&mut self.tx, now_ns);
        self.shared.counters.announced.add(announced);
        self.twice.tick(now_ns);
    }

    pub(super) fn confirm(&mut self, now_ns: u64) {
        let Some(active) = self.active else { return };
        let nic = &self.lanes[active].slot.nic;
        let asked = self.confirmations.ask(&**nic, &mut self.tx, now_ns, &self.shared.counters);
        if let Err(violation) = asked {
            self.violate(active, violation);
        }
    }

    /// Pushes waiting frames to the active domain.
    pub(super) fn post(&mut self) -> Result<(), Violation> {
        let Some(active) = self.active else { return Ok(()) };
        let Some(life) = self.lanes[active].life.as_deref_mut().filter(|life| life.trusted) else {
            return Ok(());
        };
        let again = self.tx.post(&mut life.rings.tx_post, life.epoch)?;
        self.shared.counters.tx_resent.add(again);
        Ok(())
    }

    /// Domain to guests.
    fn receive(&mut self) -> bool {
        let mut moved = 0;
        let mut blocked = GuestSet::NONE;
        for lane in self.receivers().into_iter().flatten() {
            match self.receive_from(lane, &mut moved) {
                Ok(waiting) => blocked = blocked.with(waiting),
                Err(violation) => self.violate(lane, violation),
            }
        }
        let newly = blocked.without(std::mem::replace(&mut self.rx_blocked, blocked));
        self.shared.counters.rx_backpressure.add(u64::from(newly.count()));
        self.answer_drill();
        moved > 0
    }

    /// Hands on what one domain received. Says for whom something waits.
    pub(super) fn receive_from(
        &mut self,
        lane: usize,
        moved: &mut usize,
    ) -> Result<GuestSet, Violation> {
        let (slot, life, mut forwarder) = self.forwarder(lane);
        let Some(life) = life else { return Ok(GuestSet::NONE) };
        for guest in life.backlog.waiting().each() {
            *moved += forwarder.catch_up(slot, life, guest)?;
        }
        let mut blocked = GuestSet::NONE;
        let taken_before = life.rings.rx_done.cursor();
        while *moved < TURN_FRAMES && !life.backlog.is_blocked() {
            // Without chains a single guest's frames stay in the ring: the NIC runs out of buffers,
            // and transmission goes on.
            if life.has_received() && forwarder.must_wait() {
                blocked = GuestSet::of(0);
                break;
            }
            let Some(frame) = life.next_received(slot)? else { break };
            forwarder.take(slot, life, &frame)?;
            *moved += 1;
        }
        // The domain's processor has this cache line: not to be written for nothing.
        if life.rings.rx_done.cursor() != taken_before {
            life.rings.rx_done.release();
        }
        Ok(blocked.with(life.backlog.waiting()))
    }

    /// What it takes to hand on a lane's frames; no life if that is not trusted.
    pub(super) fn forwarder(
        &mut self,
        lane: usize,
    ) -> (&DomainSlot, Option<&mut LaneLife>, Forwarder<'_>) {
        let (slot, life, forwarder) = self.undertaker(lane);
        (slot, life.filter(|life| life.trusted), forwarder)
    }

    /// The same for a life that may have broken the rules: only what was checked before is good.
    pub(super) fn undertaker(
        &mut self,
        lane: usize,
    ) -> (&DomainSlot, Option<&mut LaneLife>, Forwarder<'_>) {
        let Lane { slot, life } = &mut self.lanes[lane];
        let forwarder = Forwarder {
            guests: &mut self.guests,
            twice: &mut self.twice,
            counters: &self.shared.counters,
            lane,
            question: &mut self.question,
            handover: self.handover.as_mut(),
        };
        (slot, life.as_deref_mut(), forwarder)
    }

    /// Domains that are not active must publish nothing, but for what they receive in a handover.
    fn watch_silent(&mut self) {
        let receivers = self.receivers();
        for lane in 0..self.lanes.len() {
            if Some(lane) == self.active {
                continue;
            }
            let rings: &[RingName] = match receivers.contains(&Some(lane)) {
                true => &[RingName::TxDone],
                false => &[RingName::TxDone, RingName::RxDone],
            };
            let life = self.lanes[lane].life.as_deref().filter(|life| life.trusted);
            let check = |life: &LaneLife| life.check_silent(rings);
            let Some(Err(violation)) = life.map(check) else { continue };
            // A spare is released after its takeover was ordered, and may publish before the order
            // is carried out: then the order stands in the box by the time the entries are seen.
            if !self.shared.orders.is_full() {
                self.violate(lane, violation);
            }
        }
    }

    /// Shows everybody what this turn did, in one go.
    pub(super) fn flush(&mut self) {
        for lane in self.receivers().into_iter().flatten() {
            self.publish_lane(lane);
        }
        let counters = &self.shared.counters;
        for (guest, events) in self.guests.iter_mut().zip(&self.shared.port_events) {
            counters.calls.add(guest.port.publish());
            counters.guest_rings_broken.add(guest.port.inspect(events));
        }
        counters.tx_unconfirmed.set(self.tx.unconfirmed() as u64);
        counters.tx_awaiting.set(self.tx.awaiting() as u64);
        if self.tx.has_poison() {
            self.keep_poison();
        }
    }

    pub(super) fn publish_lane(&mut self, lane: usize) {
        let Lane { slot, life } = &mut self.lanes[lane];
        let Some(life) = life.as_deref_mut().filter(|life| life.trusted) else { return };
        match life.publish(slot) {
            Ok(kicked) => self.shared.counters.kicks.add(u64::from(kicked)),
            Err(violation) => self.violate(lane, violation),
        }
    }

    /// Copies poison into the quarantine; at the next turn if somebody is reading it now.
    fn keep_poison(&mut self) {
        let Ok(mut quarantine) = self.shared.quarantine.try_lock() else { return };
        let takeover = self.takeovers;
        self.tx.drain_poison(|first, slice| {
            let frame = if first { quarantine.next(takeover) } else { quarantine.last() };
            let start = frame.len();
            // Within the capacity: a frame has at most as many bytes as one place.
            frame.resize(start + slice.len(), 0);
            slice.copy_to(&mut frame[start..]);
        });
    }

    /// Prepares to sleep: asks everybody for a wakeup, then looks once more. `false` if something
    /// came in between; then [`Self::disarm`] and go on.
    ///
    /// A domain publishes, fences, looks at `switchboard_asleep` and calls NOTIFY if it is set;
    /// here it is set, then fence, then look at the rings. The guest's rings work alike.
    pub(crate) fn arm(&mut self) -> bool {
        for lane in &self.lanes {
            if lane.life.is_some() {
                lane.slot.control().switchboard_asleep.0.store(1, Ordering::Relaxed);
            }
        }
        fence(Ordering::SeqCst);
        let mut work = false;
        let mut serves = false;
        let draining = self.is_draining();
        if let Some((_, life)) = self.active_life() {
            serves = !draining;
            work |= life.has_claims();
        }
        let mut waiting = GuestSet::NONE;
        for lane in self.receivers().into_iter().flatten() {
            let life = self.lanes[lane].life.as_deref().filter(|life| life.trusted);
            let Some(life) = life else { continue };
            waiting = waiting.with(life.backlog.waiting());
            if life.has_received() {
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

    /// Asks a guest for kicks; `true` if there is something to do already.
    fn arm_guest(&mut self, guest: usize, serves: bool, awaited: bool) -> bool {
        let room = self.has_room(guest) && !self.tx.is_waiting();
        let port = &mut self.guests[guest].port;
        let mut wanted = [false; RINGS];
        wanted[RX_RING] = awaited && port.receives();
        wanted[TX_RING] = match port.transmits() {
            Some(true) => serves && room,
            Some(false) => true,
            None => false,
        };
        // What waits for a guest that is gone is disposed of at once.
        port.arm(wanted) | (awaited && !wanted[RX_RING])
    }

    /// After a sleep, or instead of one.
    pub(crate) fn disarm(&mut self) {
        for lane in &self.lanes {
            if lane.life.is_some() {
                lane.slot.control().switchboard_asleep.0.store(0, Ordering::Relaxed);
            }
        }
        self.guests.iter_mut().for_each(|guest| guest.port.disarm());
    }

    /// When to wake at the latest.
    pub(crate) fn deadline_ns(&self, now_ns: u64) -> Option<u64> {
        // Two things that nobody wakes the loop for: chains behind a kick that cannot signal, and
        // room in TX_POST where a domain claims buffers before it says that it took them.
        let poll =
            self.guests.iter().any(|guest| guest.port.has_deaf_ring()) || self.is_posting_blocked();
        let poll = poll.then(|| now_ns + SILENT_KICK_POLL.as_nanos() as u64);
        let drain = self.drain_due_ns(now_ns);
        let leave = self.departure_due_ns(now_ns);
        let dues = [self.confirmations.due_ns(), self.announcements.due_ns(), poll, drain, leave];
        dues.into_iter().flatten().min()
    }

    fn is_posting_blocked(&self) -> bool {
        let life = self.active.and_then(|active| self.lanes[active].life.as_deref());
        self.tx.is_waiting() && life.is_some_and(|life| life.trusted)
    }

    /// Changes a guest's virtqueues; [`Self::answer_rings`] follows. Everything was published at the
    /// end of the last turn, so no chain is in flight.
    pub(crate) fn set_rings(&mut self, guest: usize, changes: [RingChange; RINGS]) -> RingsDone {
        let mut done = RingsDone::default();
        for (ring, change) in changes.into_iter().enumerate() {
            let place = &mut self.guests[guest].port.rings[ring];
            done.positions[ring] = place.as_ref().map(|vring| vring.position());
            match change {
                RingChange::Keep => continue,
                RingChange::Stop => done.retired[ring] = place.take(),
                RingChange::Start(mut vring) => {
                    vring.find_position();
                    done.positions[ring] = Some(vring.position());
                    done.retired[ring] = place.replace(vring);
                }
            }
            self.shared.port_events[guest].broken[ring].store(false, Ordering::Relaxed);
        }
        if self.is_connected(guest) {
            self.announcements.set_here(guest, true);
            self.tx.come(guest);
        }
        done
    }

    /// A guest's virtqueue.
    pub(crate) fn ring(&mut self, guest: usize, ring: usize) -> Option<&mut Vring> {
        self.guests[guest].port.rings[ring].as_deref_mut()
    }
}

#[cfg(test)]
mod tests;

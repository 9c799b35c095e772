//! What the switchboard does in one turn of its loop, without threads or waiting: state in, frames
//! out. The loop around it is in `worker`.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use super::addresses::{GLANCE_BYTES, LEARN_BYTES};
use super::announce::{AnnounceConfig, Announcer};
use super::confirm::Confirmations;
use super::drill::Drill;
use super::forward::Forwarder;
use super::handover::Handover;
use super::lane::{Lane, LaneLife};
use super::port::vring::Vring;
use super::port::{GuestPort, RINGS, RX_RING, TX_RING, Taken};
use super::shared::{RingChange, RingsDone, Shared};
use super::transmit::TxPool;
use super::twice::Twice;
use super::violation::{RingName, Violation, ViolationSink};
use crate::budget::DEAF_KICK_POLL;
use crate::domain::DomainSlot;

/// Frames moved each way in one turn, so that a takeover never waits for more than a few hundred
/// copies.
const TURN_FRAMES: usize = 256;

/// The switchboard's state.
pub(crate) struct Engine {
    pub(super) lanes: Vec<Lane>,
    pub(super) active: Option<usize>,
    pub(super) tx: TxPool,
    pub(super) port: GuestPort,
    pub(super) mac: [u8; 6],
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
    /// A frame of the guest found no free buffer.
    tx_blocked: bool,
    /// A received frame found no chain.
    rx_blocked: bool,
}

impl Engine {
    pub(crate) fn new(
        slots: Vec<Arc<DomainSlot>>,
        tx: TxPool,
        mac: [u8; 6],
        announce: &AnnounceConfig,
        sink: Arc<dyn ViolationSink>,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            lanes: slots.into_iter().map(|slot| Lane { slot, life: None }).collect(),
            active: None,
            tx,
            port: GuestPort::new(),
            mac,
            confirmations: Confirmations::default(),
            announcements: Announcer::new(mac, announce),
            handover: None,
            twice: Twice::new(),
            drill: None,
            question: None,
            takeovers: 0,
            shared,
            sink,
            tx_blocked: false,
            rx_blocked: false,
        }
    }

    /// The active domain's life, unless it broke the protocol.
    fn active_life(&mut self) -> Option<(&DomainSlot, &mut LaneLife)> {
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
        self.tick(now_ns);
        let sent = self.transmit();
        let received = self.receive();
        self.watch_silent();
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
        if let Some(active) = self.active {
            let nic = &self.lanes[active].slot.nic;
            self.confirmations.ask(&**nic, &mut self.tx, now_ns, &self.shared.counters);
        }
    }

    /// Guest to domain.
    fn transmit(&mut self) -> bool {
        let taken = match self.port.transmits() {
            None => 0,
            Some(false) => self.discard(),
            Some(true) if self.is_draining() => 0,
            Some(true) if self.active_life().is_some() => self.take_frames(),
            Some(true) => 0,
        };
        if let Err(violation) = self.post()
            && let Some(active) = self.active
        {
            self.violate(active, violation);
        }
        taken > 0
    }

    /// Takes frames of the guest while there are buffers; the rest stays in the guest's ring.
    fn take_frames(&mut self) -> usize {
        let counters = &self.shared.counters;
        let mut taken = 0;
        // What could not be posted keeps the rest out: the order is the guest's.
        let mut blocked = self.tx.is_waiting();
        while !blocked && taken < TURN_FRAMES {
            blocked = !self.tx.has_room();
            if blocked {
                break;
            }
            let (head, bytes, filled) = match self.port.take_frame() {
                Taken::Nothing => break,
                Taken::Rejected => {
                    counters.tx_malformed.add(1);
                    taken += 1;
                    continue;
                }
                Taken::Frame(mut frame) => {
                    let (bytes, checksum) = (frame.bytes, frame.checksum);
                    let filled = self.tx.fill(bytes, checksum, |slice| frame.copy_to(slice));
                    (frame.head, frame.bytes, filled)
                }
            };
            self.port.return_frame(head);
            taken += 1;
            match filled {
                Ok(()) => {
                    counters.tx_frames.add(1);
                    counters.tx_bytes.add(bytes as u64);
                    let glance = self.tx.last_filled::<GLANCE_BYTES>();
                    let rest = || self.tx.last_filled::<LEARN_BYTES>();
                    self.announcements.addresses.learn(&glance, rest);
                }
                Err(_) => counters.tx_malformed.add(1),
            }
        }
        if blocked && !std::mem::replace(&mut self.tx_blocked, blocked) {
            counters.tx_backpressure.add(1);
        }
        self.tx_blocked = blocked;
        taken
    }

    /// Throws away what is in a disabled transmit ring, as the vhost-user document asks.
    fn discard(&mut self) -> usize {
        let mut taken = 0;
        while taken < TURN_FRAMES {
            let head = match self.port.take_frame() {
                Taken::Nothing => break,
                Taken::Rejected => None,
                Taken::Frame(frame) => Some(frame.head),
            };
            if let Some(head) = head {
                self.port.return_frame(head);
            }
            taken += 1;
        }
        self.shared.counters.tx_discarded.add(taken as u64);
        taken
    }

    /// Pushes waiting frames to the active domain.
    fn post(&mut self) -> Result<(), Violation> {
        let Some(active) = self.active else { return Ok(()) };
        let Some(life) = self.lanes[active].life.as_deref_mut().filter(|life| life.trusted) else {
            return Ok(());
        };
        let again = self.tx.post(&mut life.rings.tx_post, life.epoch)?;
        self.shared.counters.tx_resent.add(again);
        Ok(())
    }

    /// Domain to guest.
    fn receive(&mut self) -> bool {
        let mut moved = 0;
        for lane in self.receivers().into_iter().flatten() {
            if let Err(violation) = self.receive_from(lane, &mut moved) {
                self.violate(lane, violation);
            }
        }
        self.answer_drill();
        moved > 0
    }

    pub(super) fn receive_from(&mut self, lane: usize, moved: &mut usize) -> Result<(), Violation> {
        let Lane { slot, life } = &mut self.lanes[lane];
        let Some(life) = life.as_deref_mut().filter(|life| life.trusted) else { return Ok(()) };
        let mut forwarder = Forwarder {
            port: &mut self.port,
            twice: &mut self.twice,
            mac: self.mac,
            counters: &self.shared.counters,
            lane,
            question: &mut self.question,
        };
        let mut blocked = false;
        while *moved < TURN_FRAMES {
            let frame = match life.stash.take() {
                Some(frame) => frame,
                // Without chains the entries stay in the ring: the NIC runs out of buffers, and
                // transmission goes on.
                None if life.has_received() && forwarder.must_wait() => {
                    blocked = true;
                    break;
                }
                None => match life.next_received(slot)? {
                    Some(frame) => frame,
                    None => break,
                },
            };
            if !forwarder.forward(slot, &frame) {
                life.stash = Some(frame);
                blocked = true;
                break;
            }
            life.give_back(slot, frame.buffer)?;
            *moved += 1;
        }
        life.rings.rx_done.release();
        if blocked && !self.rx_blocked {
            self.shared.counters.rx_backpressure.add(1);
        }
        self.rx_blocked = blocked;
        Ok(())
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
        counters.calls.add(self.port.publish());
        counters.guest_rings_broken.add(self.port.inspect(&self.shared.port_events));
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
        let mut wanted = [false; RINGS];
        let mut work = false;
        let mut serves = false;
        let draining = self.is_draining();
        if let Some((_, life)) = self.active_life() {
            serves = !draining;
            work |= life.has_claims();
        }
        for lane in self.receivers().into_iter().flatten() {
            let life = self.lanes[lane].life.as_deref().filter(|life| life.trusted);
            let received = life.is_some_and(LaneLife::has_received);
            wanted[RX_RING] |= received && self.port.receives();
            work |= received && !wanted[RX_RING];
        }
        wanted[TX_RING] = match self.port.transmits() {
            Some(true) => serves && self.tx.has_room() && !self.tx.is_waiting(),
            Some(false) => true,
            None => false,
        };
        // Both sides are looked at, whatever the first says.
        let chains = self.port.arm(wanted);
        !(work | chains)
    }

    /// After a sleep, or instead of one.
    pub(crate) fn disarm(&mut self) {
        for lane in &self.lanes {
            if lane.life.is_some() {
                lane.slot.control().switchboard_asleep.0.store(0, Ordering::Relaxed);
            }
        }
        self.port.disarm();
    }

    /// When to wake at the latest.
    pub(crate) fn deadline_ns(&self, now_ns: u64) -> Option<u64> {
        // Two things that nobody wakes the loop for: chains behind a kick that cannot signal, and
        // room in TX_POST where a domain claims buffers before it says that it took them.
        let poll = self.port.has_deaf_ring() || self.is_posting_blocked();
        let poll = poll.then(|| now_ns + DEAF_KICK_POLL.as_nanos() as u64);
        let drain = self.drain_due_ns(now_ns);
        let dues = [self.confirmations.due_ns(), self.announcements.due_ns(), poll, drain];
        dues.into_iter().flatten().min()
    }

    fn is_posting_blocked(&self) -> bool {
        let life = self.active.and_then(|active| self.lanes[active].life.as_deref());
        self.tx.is_waiting() && life.is_some_and(|life| life.trusted)
    }

    /// Changes the guest's virtqueues. Everything was published at the end of the last turn, so
    /// nothing is in flight.
    pub(crate) fn set_rings(&mut self, changes: [RingChange; RINGS]) -> RingsDone {
        let mut done = RingsDone::default();
        for (ring, change) in changes.into_iter().enumerate() {
            let place = &mut self.port.rings[ring];
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
            self.shared.port_events.broken[ring].store(false, Ordering::Relaxed);
        }
        done
    }

    /// The guest's virtqueue.
    pub(crate) fn ring(&mut self, ring: usize) -> Option<&mut Vring> {
        self.port.rings[ring].as_deref_mut()
    }
}

#[cfg(test)]
mod tests;

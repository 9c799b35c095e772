//! The last step of a received frame: into the guests' memory, or dropped and counted.

use shared_ring::probe::{PROBE_ETHERTYPE, PROBE_HEAD_BYTES, Probe, ProbeKind, probe_mac};

use super::counters::Counters;
use super::guests::{GuestSet, Guests};
use super::handover::Handover;
use super::lane::{LaneLife, RxFrame, body};
use super::port::Delivery;
use super::twice::Twice;
use super::violation::Violation;
use microvm::domain::DomainSlot;

/// Hands checked frames of one lane to the guests.
pub(super) struct Forwarder<'a> {
    pub(super) guests: &'a mut Guests,
    pub(super) twice: &'a mut Twice,
    pub(super) counters: &'a Counters,
    pub(super) lane: usize,
    /// Number of the last drill's question that came in here.
    pub(super) question: &'a mut Option<u32>,
    pub(super) handover: Option<&'a mut Handover>,
}

impl Forwarder<'_> {
    /// Whether a frame would find no room now, but may later, and nothing behind it is read: so
    /// with a single guest.
    pub(super) fn must_wait(&mut self) -> bool {
        let port = &mut self.guests[0].port;
        port.receives() && !port.has_room() && self.guests.is_single()
    }

    /// Hands on what waits for a guest, as far as it has room now. Says how many frames that were.
    ///
    /// # Errors
    /// A buffer cannot go back.
    pub(super) fn catch_up(
        &mut self,
        slot: &DomainSlot,
        life: &mut LaneLife,
        guest: usize,
    ) -> Result<usize, Violation> {
        let mut moved = 0;
        while let Some(frame) = life.backlog.front(guest)
            && self.deliver(guest, slot, frame) != Delivery::NoRoom
        {
            moved += 1;
            if let Some(buffer) = life.backlog.pop(guest) {
                life.give_back(slot, buffer)?;
            }
        }
        Ok(moved)
    }

    /// Hands on all that waits, for the last time. Says how many frames found room, and how many are
    /// lost; `free` gets the buffers.
    pub(super) fn disburse(
        &mut self,
        slot: &DomainSlot,
        life: &mut LaneLife,
        mut free: impl FnMut(&mut LaneLife, u16),
    ) -> [u64; 2] {
        let mut counts = [0, 0];
        for guest in life.backlog.waiting().each() {
            while let Some(frame) = life.backlog.front(guest) {
                let lost = self.deliver(guest, slot, frame) == Delivery::NoRoom;
                counts[usize::from(lost)] += 1;
                if let Some(buffer) = life.backlog.pop(guest) {
                    free(life, buffer);
                }
            }
        }
        counts
    }

    /// Disposes of a frame: its buffer goes back, or it waits in it.
    ///
    /// # Errors
    /// The buffer cannot go back.
    pub(super) fn take(
        &mut self,
        slot: &DomainSlot,
        life: &mut LaneLife,
        frame: &RxFrame,
    ) -> Result<(), Violation> {
        for guest in self.forward(slot, frame, life.backlog.waiting()).each() {
            let held = life.backlog.hold(guest, frame);
            self.counters.rx_overrun.add(u64::from(!held));
        }
        if life.backlog.holds(frame.buffer) {
            return Ok(());
        }
        life.give_back(slot, frame.buffer)
    }

    /// Disposes of a frame, in guests' memory or otherwise. Says for whom it must wait: those
    /// without room, and those of `queued`, for whom earlier frames wait.
    pub(super) fn forward(
        &mut self,
        slot: &DomainSlot,
        frame: &RxFrame,
        queued: GuestSet,
    ) -> GuestSet {
        let counters = self.counters;
        if frame.damaged {
            counters.rx_damaged.add(1);
            return GuestSet::NONE;
        }
        if let Some(guest) = self.guests.owner(frame.source()) {
            counters.rx_own.add(1);
            if let Some(handover) = &mut self.handover {
                handover.note_own(self.lane, guest);
            }
            return GuestSet::NONE;
        }
        if frame.head[12..14] == PROBE_ETHERTYPE.to_be_bytes() && self.take_probe(frame) {
            return GuestSet::NONE;
        }
        let key = self.twice.key(self.lane, slot, frame);
        if self.twice.is_second(key) {
            counters.rx_twice.add(1);
            return GuestSet::NONE;
        }
        let targets = self.guests.of_wire(&frame.head[..6]);
        counters.rx_unknown.add(u64::from(targets.is_empty()));
        let mut waiting = GuestSet::NONE;
        let mut reached = false;
        for guest in targets.each() {
            let delivery = match queued.contains(guest) {
                true => Delivery::NoRoom,
                false => self.deliver(guest, slot, frame),
            };
            match delivery {
                Delivery::Done => reached = true,
                Delivery::NoRoom => waiting = waiting.with(GuestSet::of(guest)),
                Delivery::NoGuest | Delivery::TooLarge => {}
            }
        }
        if reached || !waiting.is_empty() {
            self.twice.remember(key);
        }
        waiting
    }

    fn deliver(&mut self, guest: usize, slot: &DomainSlot, frame: &RxFrame) -> Delivery {
        let counters = self.counters;
        let mut malformed = 0;
        let rest = [body(slot, frame)];
        let delivery = self.guests.deliver(guest, frame.head(), &rest, &mut malformed);
        counters.rx_malformed.add(malformed);
        match delivery {
            Delivery::Done => {
                counters.rx_frames.add(1);
                counters.copies.add(1);
                counters.rx_bytes.add(frame.len as u64);
                counters.rx_groups.add(u64::from(frame.head[0] & 1));
            }
            Delivery::NoGuest => counters.rx_no_guest.add(1),
            Delivery::TooLarge => counters.rx_too_large.add(1),
            Delivery::NoRoom => {}
        }
        delivery
    }

    /// Takes a drill's frame out of the stream: it is not the guests'. Other frames of this
    /// EtherType are.
    fn take_probe(&mut self, frame: &RxFrame) -> bool {
        let Some(head) = frame.head.first_chunk::<PROBE_HEAD_BYTES>() else { return false };
        let own = probe_mac(self.guests[0].mac, self.lane as u8);
        let Some(probe) = Probe::parse(head).filter(|_| head[..6] == own) else { return false };
        self.counters.rx_probes.add(1);
        if probe.kind == ProbeKind::Question {
            *self.question = Some(probe.number);
        }
        true
    }
}

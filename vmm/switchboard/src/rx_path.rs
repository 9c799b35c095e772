//! The receive path: from the domains to the guests' memory, or dropped and counted.
//!
//! This owns what is remembered of received frames: for deduplication, the question of a drill, the
//! guests that frames wait for, and whose announcements have come back through a port that was
//! left. Frames that wait lie in the domains' own buffers, so their queues end with the life
//! ([`QueuePair::backlog`]).
//!
//! Invariants: each frame is disposed of once; its buffers go back to the domain once, when no
//! guest waits for it; a guest gets its frames in the order in which they came.

use microvm::domain::DomainSlot;
use platform::budget::OWN_RETURN_WINDOW;
use shared_ring::layout::RX_BUFFERS;
use shared_ring::probe::{PROBE_ETHERTYPE, PROBE_HEAD_BYTES, Probe, ProbeKind, probe_mac};

use crate::announce::{Announcer, LEARN_BYTES, may_say};
use crate::counters::Counters;
use crate::dedup::Dedup;
use crate::domains::{QueuePair, RxFrame, bodies, body};
use crate::guest_set::GuestSet;
use crate::guests::{Guests, Sender};
use crate::limits::TURN_FRAMES;
use crate::port::Delivery;
use crate::tx_path::GuestSide;
use crate::violation::{RingName, Violation};
use crate::vlan::{TAGS_BYTES, Tags, untagged};

/// The receive path's state.
pub(crate) struct RxPath {
    dedup: Dedup,
    /// Number of a drill whose question came in and was not answered yet.
    question: Option<u32>,
    /// The port that a planned switch has left, by its domain: an announcement that comes in there
    /// has gone all the way from the other port, so the network has learned that, in its VLAN.
    left_port: Option<usize>,
    /// Guests that received frames wait for.
    blocked: GuestSet,
    /// Buffers that were copied of the frame that is being handed on.
    copies: usize,
    /// Bytes of the longest frame that is handed on.
    longest_bytes: usize,
    /// Two ports are open, or were until lately: a guest's frame may come back through the other.
    own_may_return: bool,
    /// When that ends, if only one port is open.
    return_until_ns: u64,
}

impl RxPath {
    pub(crate) fn new(longest_bytes: usize) -> Self {
        Self {
            dedup: Dedup::new(),
            question: None,
            left_port: None,
            blocked: GuestSet::NONE,
            copies: 0,
            longest_bytes,
            own_may_return: false,
            return_until_ns: 0,
        }
    }

    /// Sets the time of the frames that follow, `CLOCK_MONOTONIC` nanoseconds.
    pub(crate) fn tick(&mut self, now_ns: u64) {
        self.dedup.tick(now_ns);
        self.own_may_return &= now_ns < self.return_until_ns;
    }

    /// Both NICs receive from now on.
    pub(crate) fn begin_overlap(&mut self) {
        self.dedup.start();
        (self.own_may_return, self.return_until_ns) = (true, u64::MAX);
    }

    /// The ring has changed hands in a planned switch.
    pub(crate) fn change_hands(&mut self, now_ns: u64) {
        self.dedup.change_hands(now_ns);
    }

    /// Only one NIC receives from now on; copies may still come for a while.
    pub(crate) fn end_overlap(&mut self, now_ns: u64) {
        self.dedup.fade(now_ns);
        self.own_may_return = true;
        self.return_until_ns = now_ns + OWN_RETURN_WINDOW.as_nanos() as u64;
    }

    /// Watches for the guests' own frames at the port of a domain that a planned switch has left.
    pub(crate) fn watch_left_port(&mut self, domain: usize) {
        self.left_port = Some(domain);
    }

    /// The planned switch is over.
    pub(crate) fn forget_left_port(&mut self) {
        self.left_port = None;
    }

    /// Returns true if a port that was left is watched.
    pub(crate) fn watches_left_port(&self) -> bool {
        self.left_port.is_some()
    }

    /// Forgets a drill's question that may have come in.
    pub(crate) fn forget_question(&mut self) {
        self.question = None;
    }

    /// The number of a drill whose question has come in since the last call.
    #[inline]
    pub(crate) fn take_question(&mut self) -> Option<u32> {
        self.question.take()
    }

    /// Notes for whom frames wait at the end of a turn, and counts the guests that are new to it.
    pub(crate) fn note_blocked(&mut self, blocked: GuestSet, counters: &Counters) {
        let newly = blocked.without(std::mem::replace(&mut self.blocked, blocked));
        counters.rx_backpressure.add(u64::from(newly.count()));
    }

    /// What it takes to hand on frames of one domain.
    #[inline]
    pub(crate) fn inbound<'a>(
        &'a mut self,
        domain: usize,
        slot: &'a DomainSlot,
        side: GuestSide<'a>,
    ) -> Inbound<'a> {
        let GuestSide { guests, announcer, counters, .. } = side;
        Inbound { state: self, domain, slot, guests, announcer, counters }
    }
}

/// The frames of one domain on their way to the guests. Only what was checked is handed on, so this
/// is good for a life that broke the protocol, too.
pub(crate) struct Inbound<'a> {
    state: &'a mut RxPath,
    domain: usize,
    slot: &'a DomainSlot,
    guests: &'a mut Guests,
    announcer: &'a mut Announcer,
    counters: &'a Counters,
}

impl Inbound<'_> {
    /// Hands on what the domain received, counting it in `moved`, until that is [`TURN_FRAMES`].
    /// Returns the guests for whom frames wait.
    ///
    /// # Errors
    /// An entry that does not check, or a buffer that cannot go back.
    pub(crate) fn receive(
        &mut self,
        pair: &mut QueuePair,
        moved: &mut usize,
    ) -> Result<GuestSet, Violation> {
        for guest in pair.backlog.waiting().each() {
            *moved += self.catch_up(pair, guest)?;
        }
        let mut blocked = GuestSet::NONE;
        while *moved < TURN_FRAMES && !pair.backlog.is_blocked() {
            // Without chains a single guest's frames stay in the ring: the NIC runs out of buffers,
            // and transmission goes on.
            if self.must_wait() && pair.has_received() {
                blocked = GuestSet::of(0);
                break;
            }
            let Some(frame) = pair.next_received(self.slot)? else { break };
            self.state.copies = 0;
            self.dispose(pair, &frame)?;
            *moved += self.state.copies.max(1);
        }
        pair.release_received();
        Ok(blocked.with(pair.backlog.waiting()))
    }

    /// Takes everything that a domain received which goes on as a standby; what finds no room in a
    /// guest is lost, because these rings are not looked at again.
    ///
    /// # Errors
    /// An entry that does not check, or more entries than there are buffers: each buffer can come
    /// once.
    pub(crate) fn take_last(&mut self, pair: &mut QueuePair) -> Result<(), Violation> {
        let (mut returned, slot) = (Ok(()), self.slot);
        let [_, lost] = self.deliver_remaining(pair, |pair, frame| {
            returned = returned.and_then(|()| pair.give_back(slot, frame));
        });
        self.counters.rx_lost.add(lost);
        returned?;
        for _ in 0..RX_BUFFERS {
            let Some(frame) = pair.next_received(slot)? else {
                pair.release_received();
                return Ok(());
            };
            let waiting = self.forward(&frame, GuestSet::NONE);
            self.counters.rx_lost.add(u64::from(waiting.count()));
            pair.give_back(slot, &frame)?;
        }
        pair.release_received();
        // A domain that goes on publishing though it stands by.
        pair.check_silent(&[RingName::RxDone])
    }

    /// Delivers everything that waits, for the last time: what still finds no room is lost. Returns
    /// how many frames were delivered, and how many are lost; `free` gets those that nobody waits for.
    pub(crate) fn deliver_remaining(
        &mut self,
        pair: &mut QueuePair,
        mut free: impl FnMut(&mut QueuePair, &RxFrame),
    ) -> [u64; 2] {
        let mut counts = [0, 0];
        for guest in pair.backlog.waiting().each() {
            while let Some(frame) = pair.backlog.front(guest) {
                let lost = self.deliver(guest, frame) == Delivery::NoRoom;
                counts[usize::from(lost)] += 1;
                if let Some(frame) = pair.backlog.pop(guest) {
                    free(pair, &frame);
                }
            }
        }
        counts
    }

    /// Returns true if a frame would find no room now, but may later, and nothing behind it is
    /// read: so it is with a single guest.
    fn must_wait(&mut self) -> bool {
        let port = &mut self.guests[0].port;
        port.receives() && !port.has_room() && self.guests.is_single()
    }

    /// Delivers what waits for a guest, as far as it has room now. Returns how many frames that
    /// were.
    ///
    /// # Errors
    /// A buffer cannot go back.
    fn catch_up(&mut self, pair: &mut QueuePair, guest: usize) -> Result<usize, Violation> {
        let mut moved = 0;
        while moved < TURN_FRAMES
            && let Some(frame) = pair.backlog.front(guest)
            && self.deliver(guest, frame) != Delivery::NoRoom
        {
            moved += 1;
            if let Some(frame) = pair.backlog.pop(guest) {
                pair.give_back(self.slot, &frame)?;
            }
        }
        Ok(moved)
    }

    /// Disposes of a frame: its buffers go back, or the frame waits in them.
    ///
    /// # Errors
    /// A buffer cannot go back.
    fn dispose(&mut self, pair: &mut QueuePair, frame: &RxFrame) -> Result<(), Violation> {
        for guest in self.forward(frame, pair.backlog.waiting()).each() {
            let held = pair.backlog.hold(guest, frame);
            self.counters.rx_overrun.add(u64::from(!held));
        }
        if pair.backlog.holds(frame) {
            return Ok(());
        }
        pair.give_back(self.slot, frame)
    }

    /// Hands a frame on, or drops it. Returns the guests for whom it must wait: those without room,
    /// and those of `queued`, for whom earlier frames wait.
    pub(crate) fn forward(&mut self, frame: &RxFrame, queued: GuestSet) -> GuestSet {
        if frame.damaged {
            self.counters.rx_damaged.add(1);
            return GuestSet::NONE;
        }
        if frame.len > self.state.longest_bytes {
            self.counters.rx_too_long.add(1);
            return GuestSet::NONE;
        }
        if self.is_own(frame) {
            self.counters.rx_own.add(1);
            return GuestSet::NONE;
        }
        let (tags, at) = Tags::read(frame.head());
        if frame.head[at..at + 2] == PROBE_ETHERTYPE.to_be_bytes() && self.take_probe(frame) {
            return GuestSet::NONE;
        }
        if may_say(frame.head(), at) {
            self.hear(frame, tags, at);
        }
        let key = self.state.dedup.key(self.domain, self.slot, frame);
        if self.state.dedup.is_second(key) {
            self.counters.rx_twice.add(1);
            return GuestSet::NONE;
        }
        let targets = self.guests.of_wire(frame.destination());
        self.counters.rx_unknown.add(u64::from(targets.is_empty()));
        let (reached, waiting) = self.deliver_to(targets, frame, queued);
        if reached || !waiting.is_empty() {
            self.state.dedup.remember(key);
        }
        waiting
    }

    /// Delivers a frame to several guests. Returns whether one has it, and the guests for whom it
    /// must wait.
    #[inline]
    fn deliver_to(
        &mut self,
        targets: GuestSet,
        frame: &RxFrame,
        queued: GuestSet,
    ) -> (bool, GuestSet) {
        let (mut reached, mut waiting) = (false, GuestSet::NONE);
        for guest in targets.each() {
            let delivery = match queued.contains(guest) {
                true => Delivery::NoRoom,
                false => self.deliver(guest, frame),
            };
            match delivery {
                Delivery::Done => reached = true,
                Delivery::NoRoom => waiting = waiting.with(GuestSet::of(guest)),
                Delivery::NoGuest | Delivery::TooLarge => {}
            }
        }
        (reached, waiting)
    }

    fn deliver(&mut self, guest: usize, frame: &RxFrame) -> Delivery {
        let counters = self.counters;
        let mut malformed = 0;
        let delivery = if frame.further_buffers().is_empty() {
            let rest = [body(self.slot, frame)];
            self.guests.deliver(guest, frame.head(), &rest, &mut malformed)
        } else {
            let (rest, count) = bodies(self.slot, frame);
            self.guests.deliver(guest, frame.head(), &rest[..count], &mut malformed)
        };
        counters.rx_malformed.add(malformed);
        match delivery {
            Delivery::Done => {
                self.state.copies += 1 + frame.further_buffers().len();
                counters.rx_frames.add(1);
                counters.copies.add(1);
                counters.rx_bytes.add(frame.len as u64);
                counters.rx_groups.add(u64::from(frame.is_for_group()));
            }
            Delivery::NoGuest => counters.rx_no_guest.add(1),
            Delivery::TooLarge => counters.rx_too_large.add(1),
            Delivery::NoRoom => {}
        }
        delivery
    }

    /// Returns true if a guest has sent this frame, and notes that it has come round.
    #[inline]
    fn is_own(&mut self, frame: &RxFrame) -> bool {
        let source = frame.source();
        let guest = match self.guests.sender(source) {
            Sender::Other => return false,
            // Only one port is open: another host has the address now.
            Sender::Further(guest) if !self.state.own_may_return => {
                self.guests.leave(guest, source);
                return false;
            }
            Sender::Guest(guest) | Sender::Further(guest) => guest,
        };
        if self.state.left_port == Some(self.domain) {
            self.announcer.note_returned(guest, frame.head());
        }
        true
    }

    /// Learns who else has or wants an address; the frame's EtherType is at `at`.
    fn hear(&mut self, frame: &RxFrame, tags: Tags, at: usize) {
        let mut bytes = [0; LEARN_BYTES + TAGS_BYTES];
        let head = frame.head().len();
        bytes[..head].copy_from_slice(frame.head());
        let rest = body(self.slot, frame);
        let len = rest.len().min(bytes.len() - head);
        if let Ok(part) = rest.subslice(0, len) {
            part.copy_to(&mut bytes[head..head + len]);
        }
        self.announcer.hear(tags, &untagged(&bytes, at));
    }

    /// Takes a drill's frame out of the stream, and returns true: it is not the guests'. Other
    /// frames of this EtherType are.
    fn take_probe(&mut self, frame: &RxFrame) -> bool {
        let Some(head) = frame.head.first_chunk::<PROBE_HEAD_BYTES>() else { return false };
        let own = probe_mac(self.guests[0].mac, self.domain as u8);
        let Some(probe) = Probe::parse(head).filter(|_| head[..6] == own) else { return false };
        self.counters.rx_probes.add(1);
        if probe.kind == ProbeKind::Question {
            self.state.question = Some(probe.number);
        }
        true
    }
}

//! The data path: both sides of the switchboard, and the owners of what is between them.
//!
//! ```text
//!   guests ──▶ tx_path ──▶ domains        the announcer puts frames of its own among them
//!   guests ◀── rx_path ◀── domains
//! ```
//! It moves frames between the guests and the domains that [`Serving`] names, which it is told at
//! each call: who serves is not its to change, but for [`DataPath::begin`] and
//! [`DataPath::settle`], by which a domain begins and ceases to serve.
//!
//! Invariant: a domain that breaks the protocol is reported once, here, and its rings are ignored
//! from then on.

mod service;
mod sleep;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;

use super::serving::Serving;
use crate::announce::Announcer;
use crate::command::{Reply, RingChange, RingsDone};
use crate::counters::Counters;
use crate::domains::Domains;
use crate::guest_set::GuestSet;
use crate::guests::Guests;
use crate::macs::{GuestRules, key_of};
use crate::port::{RINGS, Vring};
use crate::rx_path::RxPath;
use crate::shared::Shared;
use crate::tx_path::{GuestSide, TxPath};
use crate::tx_pool::Reserved;
use crate::violation::{RingName, Violation};

/// The data path's state.
pub(crate) struct DataPath {
    domains: Domains,
    guests: Guests,
    tx: TxPath,
    rx: RxPath,
    announcer: Announcer,
    shared: Arc<Shared>,
}

/// The steps of a turn.
impl DataPath {
    pub(super) fn new(
        domains: Domains,
        guests: Guests,
        (tx, rx): (TxPath, RxPath),
        announcer: Announcer,
        shared: Arc<Shared>,
    ) -> Self {
        Self { domains, guests, tx, rx, announcer, shared }
    }

    /// Applies the topology's rules, one for each guest.
    pub(super) fn set_rules(&mut self, rules: &[GuestRules]) {
        self.guests.set_rules(rules);
    }

    /// Takes back what the serving domain claims sent. Returns true if it claimed anything.
    pub(super) fn reclaim(&mut self, serving: &Serving, now_ns: u64) -> bool {
        let mut claims = 0;
        let outcome = self.read_claims(serving, &mut claims);
        self.report(serving.path(), outcome);
        self.tx.note_claims(claims, now_ns, &self.shared.counters);
        claims > 0
    }

    fn read_claims(&mut self, serving: &Serving, claims: &mut u64) -> Result<(), Violation> {
        let pair = serving.path().and_then(|domain| self.domains.trusted(domain));
        let Some((_, pair)) = pair else { return Ok(()) };
        self.tx.read_claims(pair, claims, &self.shared.counters)
    }

    /// Does what time brings: confirmations and repeated announcements.
    pub(super) fn tick(&mut self, serving: &Serving, now_ns: u64) {
        if self.tx.wants_confirmation(now_ns) {
            self.confirm(serving, now_ns);
        }
        let announced = self.announcer.tick(&mut self.tx.reserved(), now_ns);
        self.shared.counters.announced.add(announced);
        self.rx.tick(now_ns);
        self.guests.tick(now_ns);
    }

    /// Asks the serving NIC what it has sent, if it has anything to confirm.
    pub(super) fn confirm_claimed(&mut self, serving: &Serving, now_ns: u64) {
        if self.tx.has_claimed() {
            self.confirm(serving, now_ns);
        }
    }

    fn confirm(&mut self, serving: &Serving, now_ns: u64) {
        let Some(domain) = serving.path() else { return };
        let nic = &*self.domains.slot(domain).nic;
        let asked = self.tx.confirm(nic, now_ns, &self.shared.counters);
        self.report(Some(domain), asked);
    }

    /// From the guests to the serving domain. Returns true if anything was taken.
    pub(super) fn transmit(&mut self, serving: &Serving, now_ns: u64) -> bool {
        let Self { domains, guests, tx, announcer, shared, .. } = self;
        let mut side = GuestSide::new(guests, announcer, shared);
        let mut taken = tx.discard(&mut side);
        let Some(domain) = serving.path() else { return taken > 0 };
        let Some((_, pair)) = domains.trusted(domain) else { return taken > 0 };
        if !serving.is_draining() {
            taken += tx.take_in_turn(&mut side);
        }
        let posted = tx.post(pair, now_ns, &shared.counters);
        self.report(Some(domain), posted);
        taken > 0
    }

    /// From the domains to the guests. Returns true if anything moved.
    pub(super) fn receive(&mut self, serving: &Serving) -> bool {
        let (mut moved, mut blocked) = (0, GuestSet::NONE);
        for domain in serving.receivers() {
            match self.receive_from(domain, &mut moved) {
                Ok(waiting) => blocked = blocked.with(waiting),
                Err(violation) => self.report(Some(domain), Err(violation)),
            }
        }
        self.rx.note_blocked(blocked, &self.shared.counters);
        moved > 0
    }

    fn receive_from(&mut self, domain: usize, moved: &mut usize) -> Result<GuestSet, Violation> {
        let Self { domains, guests, rx, announcer, shared, .. } = self;
        let Some((slot, pair)) = domains.trusted(domain) else { return Ok(GuestSet::NONE) };
        let side = GuestSide::new(guests, announcer, shared);
        rx.inbound(domain, slot, side).receive(pair, moved)
    }

    /// Checks that domains that do not serve publish nothing, but for what they receive in a
    /// handover.
    pub(super) fn watch_silent(&mut self, serving: &Serving) {
        for domain in 0..self.domains.count() {
            if serving.serves(domain) {
                continue;
            }
            let rings: &[RingName] = match serving.receives(domain) {
                true => &[RingName::TxDone],
                false => &[RingName::TxDone, RingName::RxDone],
            };
            let pair = self.domains.peek_trusted(domain);
            let check = pair.map_or(Ok(()), |pair| pair.check_silent(rings));
            // A spare is released after its takeover was ordered, and may publish before the order
            // is carried out: then the order stands in the box by the time the entries are seen.
            if check.is_err() && !self.shared.orders.is_full() {
                self.report(Some(domain), check);
            }
        }
    }

    /// Shows guests, domains and readers of figures what this turn did, in one go.
    pub(super) fn flush(&mut self, serving: &Serving) {
        for domain in serving.receivers() {
            self.publish(domain);
        }
        let counters = &self.shared.counters;
        for (guest, events) in self.guests.iter_mut().zip(&self.shared.port_events) {
            counters.calls.add(guest.port.publish());
            counters.guest_rings_broken.add(guest.port.inspect(events));
        }
        self.follow_macs();
        let counters = &self.shared.counters;
        self.tx.show(counters);
        if self.tx.has_poison()
            // If a reader has the quarantine now, the next turn does it.
            && let Ok(mut quarantine) = self.shared.quarantine.try_lock()
        {
            self.tx.quarantine(&mut quarantine, serving.takeovers());
        }
    }

    /// Where a guest has other addresses than before: shows which, and forgets what is known of those
    /// that it has no more, so that they are not announced.
    fn follow_macs(&mut self) {
        let mut changed = false;
        let figures = &self.shared.figures;
        for (number, (guest, figures)) in self.guests.iter_mut().zip(figures).enumerate() {
            if guest.further.take_changed() {
                figures.show_macs(guest.further.held(), guest.further.pushed_out());
                self.announcer.retain(number, |mac| guest.further.has(key_of(mac)));
                changed = true;
            }
        }
        if changed {
            // Full means readable.
            let _ = self.shared.macs_changed.write(1);
        }
    }

    /// Shows a domain what was pushed to its rings, and wakes it if need be.
    fn publish(&mut self, domain: usize) {
        let Some((slot, pair)) = self.domains.trusted(domain) else { return };
        match pair.publish(slot) {
            Ok(kicked) => self.shared.counters.kicks.add(u64::from(kicked)),
            Err(violation) => self.report(Some(domain), Err(violation)),
        }
    }

    /// Notes a violation, if that is what an outcome is.
    fn report(&mut self, domain: Option<usize>, outcome: Result<(), Violation>) {
        if let (Some(domain), Err(violation)) = (domain, outcome) {
            self.domains.distrust(domain, violation, &self.shared.counters);
        }
    }
}

/// Guests that come and go, and what drills need.
impl DataPath {
    /// Changes a guest's virtqueues. Everything was published at the end of the last turn, so no
    /// chain is in flight.
    pub(super) fn set_rings(&mut self, guest: usize, changes: [RingChange; RINGS]) -> RingsDone {
        let mut done = RingsDone::default();
        for (ring, change) in changes.into_iter().enumerate() {
            let place = self.guests[guest].port.place(ring);
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
            self.guests.set_here(guest, true);
            self.announcer.set_here(guest, true);
            self.tx.guest_started(guest);
        }
        done
    }

    /// Answers the caller of a command.
    pub(super) fn answer(&self, reply: &SyncSender<Reply>, answer: Reply) {
        self.shared.commands.answer(reply, answer);
    }

    /// A guest may be at another machine from now on.
    pub(super) fn guest_stopped(&mut self, guest: usize) {
        self.guests.set_here(guest, false);
        self.announcer.set_here(guest, false);
        self.guests[guest].further.forget_learned();
        self.tx.guest_stopped(guest, &self.shared.counters);
    }

    /// Returns true if a guest's transmit ring is there.
    pub(super) fn is_connected(&self, guest: usize) -> bool {
        self.guests.is_connected(guest)
    }

    /// Returns true if none of a guest's frames is under way.
    pub(super) fn holds_nothing_of(&self, guest: usize) -> bool {
        self.tx.holds_nothing_of(guest)
    }

    /// A guest's virtqueue.
    pub(super) fn ring(&mut self, guest: usize, ring: usize) -> Option<&mut Vring> {
        self.guests[guest].port.place(ring).as_deref_mut()
    }

    pub(super) fn mac(&self, guest: usize) -> [u8; 6] {
        self.guests[guest].mac
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// The buffers for drills.
    pub(super) fn reserved(&mut self) -> Reserved<'_> {
        self.tx.reserved()
    }

    /// The number of a drill whose question has come in since the last call.
    #[inline]
    pub(super) fn take_question(&mut self) -> Option<u32> {
        self.rx.take_question()
    }

    /// Forgets a drill's question that may have come in.
    pub(super) fn forget_question(&mut self) {
        self.rx.forget_question();
    }

    /// Descriptors by which domains wake the switchboard.
    pub(super) fn notifiers(&self) -> impl Iterator<Item = std::os::fd::RawFd> {
        use std::os::fd::AsRawFd;
        self.domains.slots().map(|slot| slot.notify.as_raw_fd())
    }
}

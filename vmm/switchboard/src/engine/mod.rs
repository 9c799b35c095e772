//! What the switchboard does, without threads or waiting: state in, frames out. The loop around it
//! is in `worker`.
//!
//! | file | owns |
//! |---|---|
//! | `serving` | who serves, who receives, the number of takeovers |
//! | `data_path` | both sides, and what is between them; each of its parts has its own state |
//! | `takeover` | nothing: the order of steps when a domain fails, begins or ends |
//! | `handover` | the caller that waits for a planned switch |
//! | `guest_drain` | the front-ends that wait for their guests' last frames |
//! | `drill` | what was seen of the drill that is under way |

mod data_path;
mod drill;
mod guest_drain;
mod handover;
mod serving;
mod takeover;
#[cfg(test)]
mod tests;

use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use microvm::domain::DomainSlot;

use self::data_path::DataPath;
use self::drill::Drills;
use self::guest_drain::GuestDrains;
use self::handover::Handover;
use self::serving::Serving;
use crate::announce::{AnnounceConfig, Announcer};
use crate::command::{DrillSeen, Refused, Reply, RingChange, RingsDone};
use crate::domains::{Domains, QueuePair};
use crate::guests::Guests;
use crate::macs::GuestRules;
use crate::port::{RINGS, Vring};
use crate::rx_path::RxPath;
use crate::shared::Shared;
use crate::takeover_order::TakeOver;
use crate::tx_path::TxPath;
use crate::violation::ViolationSink;

/// The switchboard's state. One thread has it.
pub(crate) struct Engine {
    serving: Serving,
    path: DataPath,
    handover: Handover,
    drains: GuestDrains,
    drills: Drills,
    shared: Arc<Shared>,
}

impl Engine {
    pub(crate) fn new(
        slots: Vec<Arc<DomainSlot>>,
        tx: TxPath,
        macs: &[[u8; 6]],
        announce: &AnnounceConfig,
        sink: Arc<dyn ViolationSink>,
        shared: Arc<Shared>,
    ) -> Self {
        let domains = Domains::new(slots, sink);
        let announcer = Announcer::new(macs, announce);
        let longest_bytes = shared_ring::frame::longest(shared.mtu);
        let guests = Guests::new(macs, longest_bytes);
        let rx = RxPath::new(longest_bytes);
        Self {
            serving: Serving::default(),
            path: DataPath::new(domains, guests, (tx, rx), announcer, shared.clone()),
            handover: Handover::default(),
            drains: GuestDrains::new(macs.len()),
            drills: Drills::new(announce.probe_vlan),
            shared,
        }
    }

    /// Applies the topology's rules, one for each guest, before the first turn.
    pub(crate) fn set_rules(&mut self, rules: &[GuestRules]) {
        self.path.set_rules(rules);
    }

    /// Moves what can be moved. Returns false if nothing was, so that it is time to sleep.
    pub(crate) fn turn(&mut self, now_ns: u64) -> bool {
        let Self { serving, path, handover, drains, drills, shared } = self;
        shared.counters.turns.add(1);
        let claimed = path.reclaim(serving, now_ns);
        handover.advance(serving, path, now_ns);
        drains.finish(serving, path, now_ns);
        path.tick(serving, now_ns);
        let sent = path.transmit(serving, now_ns);
        let received = path.receive(serving);
        drills.answer(serving, path);
        path.watch_silent(serving);
        path.note_settled();
        path.flush(serving);
        claimed | sent | received
    }

    /// Prepares to sleep. Returns false if something came in between; then [`Self::disarm`] and go
    /// on.
    pub(crate) fn arm(&mut self) -> bool {
        self.path.arm(&self.serving)
    }

    /// After a sleep, or instead of one.
    pub(crate) fn disarm(&mut self) {
        self.path.disarm();
    }

    /// When to wake at the latest.
    pub(crate) fn deadline_ns(&self, now_ns: u64) -> Option<u64> {
        let path = self.path.due_ns(&self.serving, now_ns);
        let handover = self.handover.due_ns(&self.serving, now_ns);
        [path, handover, self.drains.due_ns(now_ns)].into_iter().flatten().min()
    }

    /// Takes in a new life, whose rings were made on the thread that builds the domain. Returns the
    /// one before.
    pub(crate) fn install(
        &mut self,
        domain: usize,
        pair: Box<QueuePair>,
    ) -> Option<Box<QueuePair>> {
        self.path.install(domain, pair)
    }

    /// Makes an installed life active while no other is.
    pub(crate) fn activate(&mut self, domain: usize, epoch: u32) -> Result<(), Refused> {
        takeover::activate(&mut self.serving, &mut self.path, domain, epoch)
    }

    /// Ends a life without a successor.
    pub(crate) fn detach(&mut self, domain: usize) -> Option<Box<QueuePair>> {
        takeover::detach(&mut self.serving, &mut self.path, &mut self.handover, domain)
    }

    /// Hands the ring to another domain. Returns what is left of the old life.
    pub(crate) fn take_over(&mut self, order: &TakeOver) -> Option<Box<QueuePair>> {
        let Self { serving, path, handover, .. } = self;
        let (remains, report) = takeover::take_over(serving, path, handover, order);
        self.shared.counters.takeovers.add(1);
        self.shared.report.write(&report);
        remains
    }

    /// Begins a planned switch: both domains receive from now on.
    pub(crate) fn overlap(&mut self, to: usize, epoch: u32) -> Result<(), Refused> {
        self.handover.overlap(&mut self.serving, &mut self.path, to, epoch)
    }

    /// Goes on with a planned switch: the ring changes hands when the first domain has no frames
    /// left. `reply` hears of it.
    pub(crate) fn hand_over(&mut self, now_ns: u64, reply: SyncSender<Reply>) {
        self.handover.hand_over(&mut self.serving, &mut self.path, now_ns, reply);
    }

    /// Ends a planned switch: the domain that does not serve is quiet.
    pub(crate) fn end_handover(&mut self, now_ns: u64) {
        self.handover.finish(&mut self.serving, &mut self.path, now_ns);
    }

    /// Begins a drill. Returns false if that cannot be.
    pub(crate) fn begin_drill(&mut self, number: u32, standby: usize) -> bool {
        self.drills.begin(&self.serving, &mut self.path, number, standby)
    }

    /// The drill is over, or abandoned.
    pub(crate) fn end_drill(&mut self, now_ns: u64) -> DrillSeen {
        self.drills.end(&self.serving, &mut self.path, now_ns)
    }

    /// Announces the guests as after a takeover, if a domain serves them.
    pub(crate) fn announce_now(&mut self, now_ns: u64) {
        if self.serving.path().is_some() && !self.serving.is_draining() {
            self.path.start_announcing(now_ns);
        }
    }

    /// Announces one guest, once, if a domain serves it.
    pub(crate) fn announce_guest(&mut self, guest: usize, now_ns: u64) {
        if self.serving.path().is_some() && !self.serving.is_draining() {
            self.path.announce_guest(guest, now_ns);
        }
    }

    /// Announces the guests once more, unless that is to come anyway. A failed NIC is silent: a
    /// frame that it sent last may have come after the last announcement, and have drawn the
    /// guests' addresses to its port.
    pub(crate) fn reannounce(&mut self, now_ns: u64) {
        if !self.path.is_announcing() {
            self.announce_now(now_ns);
        }
    }

    /// Changes a guest's virtqueues; [`Self::answer_rings`] follows.
    pub(crate) fn set_rings(&mut self, guest: usize, changes: [RingChange; RINGS]) -> RingsDone {
        self.path.set_rings(guest, changes)
    }

    /// Answers for a guest's changed rings: at once, or when its last frames are out.
    pub(crate) fn answer_rings(
        &mut self,
        guest: usize,
        now_ns: u64,
        done: RingsDone,
        reply: SyncSender<Reply>,
    ) {
        self.drains.answer_rings(&self.serving, &mut self.path, guest, now_ns, (done, reply));
    }

    /// A guest's virtqueue.
    pub(crate) fn ring(&mut self, guest: usize, ring: usize) -> Option<&mut Vring> {
        self.path.ring(guest, ring)
    }

    /// Descriptors by which domains wake the switchboard.
    pub(crate) fn notifiers(&self) -> impl Iterator<Item = RawFd> {
        self.path.notifiers()
    }
}

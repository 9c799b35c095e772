//! An engine with everything around it, turned by hand: no threads, no clock.

use std::sync::Arc;

use nic::NullNic;
use shared_ring::frame::MAX_MTU;

use super::*;
use crate::announce::{AnnounceConfig, Announced, Announcement};
use crate::command::RingChange;
use crate::domains::QueuePair;
use crate::engine::Engine;
use crate::shared::Shared;
use crate::takeover_order::{TakeOver, TakeOverReport};
use crate::tx_path::TxPath;
use crate::vlan::Tags;

pub(crate) const MS: u64 = 1_000_000;

pub(crate) struct Rig {
    pub(crate) engine: Engine,
    pub(crate) shared: Arc<Shared>,
    pub(crate) violations: Arc<Violations>,
    pub(crate) slots: Vec<Arc<DomainSlot>>,
    pub(crate) nics: [Arc<NullNic>; 2],
    pub(crate) guest: FakeGuest,
    /// Further guests: the one at place *n* has [`other_mac`]`(n)`.
    pub(crate) others: Vec<FakeGuest>,
    pub(crate) now: u64,
}

impl Rig {
    /// Two slots without lives, and a guest that is not connected.
    pub(crate) fn bare(guest: FakeGuest) -> Self {
        Self::with_others(guest, 0)
    }

    fn with_others(guest: FakeGuest, others: usize) -> Self {
        Self::of_mtu(guest, others, MAX_MTU)
    }

    /// Two slots without lives on a network with this MTU.
    pub(crate) fn of_mtu(guest: FakeGuest, others: usize, mtu: u16) -> Self {
        let (slots, nics) = slots();
        let macs: Vec<_> = std::iter::once(MAC).chain((0..others).map(other_mac)).collect();
        let pool = slots[0].tx_pool.clone();
        let shared = Arc::new(Shared::new(macs.len(), mtu).unwrap());
        let violations = Arc::new(Violations::default());
        let sink = violations.clone();
        let announce = AnnounceConfig::default();
        let tx = TxPath::new(pool, macs.len());
        let engine = Engine::new(slots.clone(), tx, &macs, &announce, sink, shared.clone());
        Self { engine, shared, violations, slots, nics, guest, others: Vec::new(), now: MS }
    }

    /// Domain 0 active in epoch 1, this guest connected.
    pub(crate) fn serving(guest: FakeGuest) -> (Self, FakeDomain) {
        let mut rig = Self::bare(guest);
        rig.connect();
        let domain = rig.install(0, 1);
        rig.engine.activate(0, 1).unwrap();
        rig.turn();
        (rig, domain)
    }

    /// The same with 64 empty receive buffers.
    pub(crate) fn new() -> (Self, FakeDomain) {
        let (mut rig, domain) = Self::serving(FakeGuest::new());
        for _ in 0..64 {
            rig.guest.rx.add(&[(2048, true)]);
        }
        rig.turn();
        (rig, domain)
    }

    /// Domain 0 active in epoch 1, and so many further guests beside the first, all connected with
    /// 64 empty receive buffers each.
    pub(crate) fn of_several(others: usize) -> (Self, FakeDomain) {
        let mut rig = Self::with_others(FakeGuest::new(), others);
        rig.connect();
        let domain = rig.install(0, 1);
        rig.engine.activate(0, 1).unwrap();
        rig.others = (0..others).map(|_| FakeGuest::new()).collect();
        for (n, guest) in rig.others.iter().enumerate() {
            let [rx, tx] = guest.vrings();
            rig.engine.set_rings(n + 1, [RingChange::Start(rx), RingChange::Start(tx)]);
        }
        for guest in rig.others.iter_mut().chain([&mut rig.guest]) {
            (0..64).for_each(|_| drop(guest.rx.add(&[(2048, true)])));
        }
        rig.turn();
        (rig, domain)
    }

    pub(crate) fn connect(&mut self) {
        let [rx, tx] = self.guest.vrings();
        self.engine.set_rings(0, [RingChange::Start(rx), RingChange::Start(tx)]);
    }

    pub(crate) fn install(&mut self, domain: usize, epoch: u32) -> FakeDomain {
        self.engine.detach(domain);
        prepare(&self.slots[domain]);
        let guests = self.shared.port_events.len();
        let pair = QueuePair::new(&self.slots[domain], epoch, guests).unwrap();
        self.engine.install(domain, Box::new(pair));
        FakeDomain::new(&self.slots[domain], epoch)
    }

    /// Turns until nothing moves.
    pub(crate) fn turn(&mut self) {
        for _ in 0..64 {
            if !self.engine.turn(self.now) {
                return;
            }
        }
        panic!("the engine never comes to rest");
    }

    /// One confirm tick later.
    pub(crate) fn tick(&mut self) {
        self.now += MS;
        self.turn();
    }

    pub(crate) fn take_over(&mut self, to: u8, epoch: u32) -> TakeOverReport {
        self.take_over_from(false, to, epoch)
    }

    /// Takes over from a domain whose NIC may be suspected not to answer.
    pub(crate) fn take_over_from(
        &mut self,
        nic_suspected: bool,
        to: u8,
        epoch: u32,
    ) -> TakeOverReport {
        let order = TakeOver { to: DomainId(to), epoch, verdict_ns: 1, nic_suspected };
        self.engine.take_over(&order);
        self.shared.report.read()
    }

    /// The guest sends frames of these numbers.
    pub(crate) fn send(&mut self, numbers: std::ops::Range<u32>) {
        for number in numbers {
            self.guest.tx.send(&frame(true, number, 100));
        }
        self.turn();
    }

    pub(crate) fn assert_no_violation(&self) {
        assert_eq!(self.violations.0.lock().unwrap()[..], []);
    }

    /// The one violation there was.
    pub(crate) fn violation(&self) -> Violation {
        let all = self.violations.0.lock().unwrap();
        assert_eq!(all.len(), 1, "{all:?}");
        all[0].2
    }
}

/// MAC of a further guest.
pub(crate) fn other_mac(n: usize) -> [u8; 6] {
    [0x52, 0x54, 0, 0, 1, n as u8]
}

/// A frame from one address to another, numbered in its body.
pub(crate) fn frame_to(to: [u8; 6], from: [u8; 6], number: u32, len: usize) -> Vec<u8> {
    let mut bytes = frame(true, number, len);
    bytes[..6].copy_from_slice(&to);
    bytes[6..12].copy_from_slice(&from);
    bytes
}

/// The number in the body of a frame.
pub(crate) fn number(frame: &[u8]) -> u32 {
    u32::from_le_bytes(frame[14..18].try_into().unwrap())
}

pub(crate) fn numbers(frames: &[Vec<u8>]) -> Vec<u32> {
    frames.iter().map(|frame| number(frame)).collect()
}

pub(crate) fn is_announcement(frame: &[u8]) -> bool {
    frame == Announcement::new((MAC, Tags::NONE), Announced::Nothing).bytes()
}

//! Taking a sample: the one place where the detectors' view of a domain is read.
//!
//! Each word of shared memory is read once. Values that the domain wrote are only compared, and
//! never used as an index without a bound.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use shared_ring::layout::{NIC_RX_DESCRIPTORS, NIC_TX_DESCRIPTORS, RX_SLOT_EMPTY};

use super::registers::RegisterCheck;
use super::sample::{Confirmations, Cursors, Mismatch, NicView, Sample};
use super::speed::LinkSpeed;
use microvm::domain::{DomainSlot, Life, VcpuState};
use nic::registers as reg;
use platform::clock::monotonic_ns;
use switchboard::Switchboard;

const DESCRIPTOR_DONE: u64 = 1 << 0;
/// How often heartbeat and parks are read again until they belong to the same moment.
const TRIES: u32 = 3;

/// Takes samples.
pub struct Sampler {
    switchboard: Arc<Switchboard>,
    registers: RegisterCheck,
}

impl Sampler {
    /// A sampler of domains that this switchboard serves, and whose NICs carry the guests' MACs.
    pub fn new(switchboard: Arc<Switchboard>, macs: Vec<[u8; 6]>) -> Self {
        let registers = RegisterCheck::new(macs, switchboard.mtu());
        Self { switchboard, registers }
    }

    /// Samples a domain that serves.
    pub fn sample(&self, slot: &DomainSlot, life: &Life) -> Sample {
        let vcpu = life.state();
        let (heartbeat, waits) = beats(slot, life);
        let cursors = cursors(slot);
        let counters = self.switchboard.counters();
        // The claims are read after the frames that await confirmation: frames that were claimed in
        // between must not look overdue.
        let awaiting = counters.tx_awaiting.get();
        let claimed = counters.tx_claimed.get();
        Sample {
            now_ns: monotonic_ns(),
            epoch: life.epoch(),
            vcpu,
            cpu_ns: life.cpu_clock().now_ns().unwrap_or(0),
            waits,
            interruptions: life.exits().interruptions,
            heartbeat,
            signalled: vcpu == VcpuState::Parked && life.is_signalled(),
            rx_completed: is_completed(slot),
            switchboard_asleep: slot.control().switchboard_asleep.0.load(Ordering::Acquire) != 0,
            cursors,
            nic: self.nic_view(slot),
            confirmations: Confirmations { claimed, awaiting, turns: counters.turns.get() },
        }
    }

    /// Samples a domain that stands by: its rings are empty, and its filters are shut on purpose. If
    /// its driver has the NIC, all of its registers are compared: a host that slept, or a reset
    /// behind our back, leaves a NIC that looks alive and takes no frame.
    pub fn sample_standby(&self, slot: &DomainSlot, life: &Life) -> Sample {
        let status = slot.nic.peek(reg::STATUS);
        let gone = status == reg::ALL_ONES;
        let mismatch = (!gone && life.is_attached())
            .then(|| self.registers.standby(&*slot.nic, slot.dma_iova()))
            .flatten();
        let nic = NicView {
            gone,
            link_up: !gone && status & reg::status::LU != 0,
            speed: LinkSpeed::of(status),
            mismatch,
            ..NicView::default()
        };
        Sample { nic, ..self.sample_blindly(slot, life) }
    }

    /// Samples a domain without its rings and without reading its NIC.
    pub fn sample_blindly(&self, slot: &DomainSlot, life: &Life) -> Sample {
        let vcpu = life.state();
        let (heartbeat, waits) = beats(slot, life);
        Sample {
            now_ns: monotonic_ns(),
            epoch: life.epoch(),
            vcpu,
            cpu_ns: life.cpu_clock().now_ns().unwrap_or(0),
            waits,
            interruptions: life.exits().interruptions,
            heartbeat,
            signalled: false,
            rx_completed: false,
            switchboard_asleep: false,
            cursors: Cursors::default(),
            nic: NicView::default(),
            confirmations: Confirmations::default(),
        }
    }

    fn nic_view(&self, slot: &DomainSlot) -> NicView {
        let nic = &*slot.nic;
        let status = nic.peek(reg::STATUS);
        if status == reg::ALL_ONES {
            return NicView { gone: true, ..NicView::default() };
        }
        let (rx, tx) = (reg::RX_QUEUE, reg::TX_QUEUE);
        let vectors = nic.peek(reg::EIMS);
        let (rx_tail, tx_tail) = (nic.peek(rx + reg::queue::TAIL), nic.peek(tx + reg::queue::TAIL));
        NicView {
            gone: false,
            link_up: status & reg::status::LU != 0,
            speed: LinkSpeed::of(status),
            mismatch: outside(rx + reg::queue::TAIL, rx_tail, NIC_RX_DESCRIPTORS)
                .or_else(|| outside(tx + reg::queue::TAIL, tx_tail, NIC_TX_DESCRIPTORS))
                .or_else(|| masked_link(vectors))
                .or_else(|| self.registers.serving(nic, slot.dma_iova())),
            masked: vectors & reg::VECTOR_QUEUES == 0,
            rx_head: nic.peek(rx + reg::queue::HEAD),
            rx_tail,
            tx_head: nic.peek(tx + reg::queue::HEAD),
            tx_tail,
            progress: nic.progress(),
        }
    }
}

/// A tail that is beyond the last descriptor: a NIC stops there, and no other register looks wrong.
fn outside(register: u32, tail: u32, descriptors: usize) -> Option<Mismatch> {
    let beyond = !(descriptors as u32 - 1);
    let found = tail & beyond;
    (found != 0).then_some(Mismatch { register, expected: 0, found })
}

/// Vector 1, by which the NIC tells of its link: nobody masks it.
fn masked_link(vectors: u32) -> Option<Mismatch> {
    let (register, expected) = (reg::EIMS, reg::VECTOR_OTHER);
    let found = vectors & expected;
    (found != expected).then_some(Mismatch { register, expected, found })
}

/// Heartbeat and number of parks of one moment: no heartbeat came between reading the two.
fn beats(slot: &DomainSlot, life: &Life) -> (u64, u64) {
    let status = slot.status();
    let mut before = status.heartbeat.load(Ordering::Acquire);
    let mut waits = life.exits().waits;
    for _ in 0..TRIES {
        let after = status.heartbeat.load(Ordering::Acquire);
        if after == before {
            break;
        }
        before = after;
        waits = life.exits().waits;
    }
    (before, waits)
}

/// The cursors of each ring are read in reverse of the order in which they move. So a sample may
/// show work as pending that is done already, and never work as done that is pending.
fn cursors(slot: &DomainSlot) -> Cursors {
    let (control, status) = (slot.control(), slot.status());
    let read = |cursor: &AtomicU32| cursor.load(Ordering::Acquire);
    Cursors {
        tx_read: read(&control.tx_done_consumed.0),
        tx_claimed: read(&status.tx_done_published.0),
        tx_taken: read(&status.tx_post_consumed.0),
        tx_posted: read(&control.tx_post_published.0),
        rx_read: read(&control.rx_done_consumed.0),
        rx_returned: read(&status.rx_done_published.0),
        rx_taken: read(&status.rx_provide_consumed.0),
        rx_provided: read(&control.rx_provide_published.0),
    }
}

/// Returns true if the NIC has filled the descriptor that the driver looks at next. It is not the
/// number of entries that were published: the answer to a drill takes a descriptor and no entry. A
/// descriptor without a buffer still shows its last use.
fn is_completed(slot: &DomainSlot) -> bool {
    let index = slot.status().rx_next.load(Ordering::Acquire) as usize % NIC_RX_DESCRIPTORS;
    slot.rx_write_back(index) & DESCRIPTOR_DONE != 0
        && slot.rx_slot(index).load(Ordering::Relaxed) != RX_SLOT_EMPTY
}

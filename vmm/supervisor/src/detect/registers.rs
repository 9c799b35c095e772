//! Registers of a NIC against what its driver has set up.
//!
//! A read of a real NIC takes a microsecond or two of the supervisor, and waits for a NIC that is ill,
//! so a sample does not read them all. Each sample of a domain that serves reads
//!
//! ```text
//!    6  status, interrupt mask, both heads, both tails     (`sampler`)
//!    7  CTRL, RCTL, TCTL, RXDCTL, TXDCTL, RAL0, RAH0       each time: no frame passes without them
//!    2  of all the others, in turn                         [`IN_TURN`] and two for each further guest
//!    1  of those that no driver writes, in turn            `nic::Nic::spoilt_register`
//!    1  of further addresses of guests, in turn, if any    `nic::Nic::spoilt_address`
//! ```
//! That is 16 whatever the number of guests, 17 where one has several addresses; with one guest
//! every register has been read after seven samples, with eight after fourteen. One that is found
//! wrong is read by the next sample again, because a verdict takes two. Of a standby all are read,
//! every 100 ms: 21, without the filters.
//!
//! Never among them: what a read changes (statistics, ICR, EICR, SWSM), and the PHY behind MDIC.

use std::sync::atomic::{AtomicUsize, Ordering};

use shared_ring::frame::longest_on_wire;
use shared_ring::igb_registers::attached;
use shared_ring::layout::{
    DMA_RX_RING_OFFSET, DMA_TX_RING_OFFSET, NIC_RX_DESCRIPTORS, NIC_TX_DESCRIPTORS,
};

use super::sample::Mismatch;
use nic::Nic;
use nic::registers::{self as reg, ctrl, dmacr, mrqc, queue, rctl};

/// Registers that take turns, read by one sample.
const EACH_SAMPLE: usize = 2;
/// Registers that take turns, without the further guests' addresses.
const IN_TURN: usize = 14;
const DESCRIPTOR_BYTES: usize = 16;

/// A register, the bits that count, and what they must be.
type Check = (u32, u32, u32);

/// Compares registers. One for all domains: only one serves at a time.
#[derive(Debug)]
pub(super) struct RegisterCheck {
    macs: Vec<[u8; 6]>,
    mtu: u16,
    /// The register that is next in its turn.
    next: AtomicUsize,
    /// The same of those that no driver writes.
    next_fixed: AtomicUsize,
    /// The same of guests' further addresses.
    next_added: AtomicUsize,
}

impl RegisterCheck {
    /// Of NICs that carry these guests' addresses, of which there is at least one, on a network with
    /// this MTU.
    pub(super) fn new(macs: Vec<[u8; 6]>, mtu: u16) -> Self {
        let [next, next_fixed, next_added] = [0; 3].map(AtomicUsize::new);
        Self { macs, mtu, next, next_fixed, next_added }
    }

    /// The first register found wrong of a NIC that serves, with rings at `dma_iova`.
    pub(super) fn serving(&self, nic: &dyn Nic, dma_iova: u64) -> Option<Mismatch> {
        let unicast = if nic.is_promiscuous() { rctl::UPE } else { 0 };
        units(attached::RCTL | attached::RCTL_FILTERS | unicast, attached::RCTL_BITS)
            .into_iter()
            .chain([self.address(0), self.address(1)])
            .find_map(|check| compare(nic, check))
            .or_else(|| self.take_turns(nic, dma_iova))
            // A wild store to one of these stops a NIC in ways that its other registers do not show.
            .or_else(|| next_of(&self.next_fixed, |number| nic.spoilt_register(number)))
            .or_else(|| next_of(&self.next_added, |number| nic.spoilt_address(number)))
    }

    /// The same of a NIC that stands by. Its filters are open at times, and are not compared.
    pub(super) fn standby(&self, nic: &dyn Nic, dma_iova: u64) -> Option<Mismatch> {
        let vectors = (reg::EIMS, reg::VECTOR_OTHER, reg::VECTOR_OTHER);
        units(attached::RCTL, attached::RCTL_BITS & !(attached::RCTL_FILTERS | rctl::UPE))
            .into_iter()
            .chain(in_turn(dma_iova, self.mtu))
            .chain([vectors])
            .find_map(|check| compare(nic, check))
    }

    fn take_turns(&self, nic: &dyn Nic, dma_iova: u64) -> Option<Mismatch> {
        let others = in_turn(dma_iova, self.mtu);
        let all = IN_TURN + 2 * (self.macs.len() - 1);
        let first = self.next.load(Ordering::Relaxed) % all;
        for place in (first..first + EACH_SAMPLE).map(|place| place % all) {
            let check = match place {
                0..IN_TURN => others[place],
                _ => self.address(2 + place - IN_TURN),
            };
            if let Some(mismatch) = compare(nic, check) {
                // The next sample begins here.
                self.next.store(place, Ordering::Relaxed);
                return Some(mismatch);
            }
        }
        self.next.store((first + EACH_SAMPLE) % all, Ordering::Relaxed);
        None
    }

    /// One half of a guest's receive address: two for each guest, the lower first.
    fn address(&self, half: usize) -> Check {
        let guest = half / 2;
        let entry = 8 * reg::guest_entries().nth(guest).unwrap_or(0) as u32;
        let (low, high) = reg::receive_address(self.macs[guest]);
        match half % 2 {
            0 => (reg::RAL0 + entry, u32::MAX, low),
            _ => (reg::RAH0 + entry, reg::RAH_AV | 0xffff, high | reg::RAH_AV),
        }
    }
}

/// What must be right for any frame to pass: bus master, speed not forced, units and queues on, no
/// loopback.
fn units(rctl: u32, rctl_bits: u32) -> [Check; 5] {
    let forced = ctrl::FRCSPD | ctrl::FRCDPLX;
    [
        (reg::CTRL, ctrl::GIO_MASTER_DISABLE | ctrl::SLU | forced, ctrl::SLU),
        (reg::RCTL, rctl_bits, rctl),
        (reg::TCTL, attached::TCTL_BITS, attached::TCTL & attached::TCTL_BITS),
        (reg::RXDCTL, queue::ENABLE, queue::ENABLE),
        (reg::TXDCTL, queue::ENABLE, queue::ENABLE),
    ]
}

/// What a driver sets up once, of any domain that has its NIC.
fn in_turn(dma_iova: u64, mtu: u16) -> [Check; IN_TURN] {
    let bytes = |descriptors: usize| (descriptors * DESCRIPTOR_BYTES) as u32;
    let (rx, tx) = (dma_iova + DMA_RX_RING_OFFSET, dma_iova + DMA_TX_RING_OFFSET);
    let interval = reg::eitr::INTERVAL_MASK << reg::eitr::INTERVAL_SHIFT;
    [
        (reg::RDBAL, queue::BASE_MASK, rx as u32),
        (reg::RDBAH, u32::MAX, (rx >> 32) as u32),
        (reg::RDLEN, queue::LENGTH_MASK, bytes(NIC_RX_DESCRIPTORS)),
        (reg::SRRCTL, attached::SRRCTL_BITS, attached::SRRCTL),
        (reg::RLPML, attached::RLPML_BITS, longest_on_wire(mtu)),
        (reg::TDBAL, queue::BASE_MASK, tx as u32),
        (reg::TDBAH, u32::MAX, (tx >> 32) as u32),
        (reg::TDLEN, queue::LENGTH_MASK, bytes(NIC_TX_DESCRIPTORS)),
        (reg::IVAR0, attached::IVAR0_BITS, attached::IVAR0),
        (reg::IVAR_MISC, attached::IVAR_MISC_BITS, attached::IVAR_MISC),
        (reg::EITR, interval, 0),
        (reg::EITR + 4, interval, 0),
        (reg::MRQC, mrqc::ENABLE | 7 << mrqc::DEFAULT_QUEUE_SHIFT, 0),
        // The 82576 has none, and reads 0.
        (reg::DMACR, dmacr::EN, 0),
    ]
}

/// Has the NIC compare the next of the registers that only it knows. One that is wrong is compared by
/// the next sample again.
fn next_of(
    next: &AtomicUsize,
    spoilt: impl FnOnce(usize) -> Option<(u32, u32, u32)>,
) -> Option<Mismatch> {
    let number = next.load(Ordering::Relaxed);
    let Some((register, expected, found)) = spoilt(number) else {
        next.store(number.wrapping_add(1), Ordering::Relaxed);
        return None;
    };
    Some(Mismatch { register, expected, found })
}

fn compare(nic: &dyn Nic, (register, bits, expected): Check) -> Option<Mismatch> {
    let found = nic.peek(register) & bits;
    (found != expected).then_some(Mismatch { register, expected, found })
}

#[cfg(test)]
mod tests;

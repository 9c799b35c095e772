//! A driver for the Intel igb family: i210, i211, 82576, and QEMU's model of the last.
//!
//! It does not know which of them it drives, nor whether the registers are hardware or software:
//! every step is one that all of them need or tolerate. The verbs are those of the seL4 device
//! driver framework: buffers are *provided* to the NIC and *returned* by it.
//!
//! One receive and one transmit queue, advanced descriptors, MSI-X with two vectors: 0 for the
//! queues, 1 for everything else. After the bring-up the driver never touches vector 1, the
//! statistics, or the receive filters again: these are the VMM's.

mod bring_up;
pub mod descriptor;
mod link;
mod offload;
mod receive;
#[cfg(test)]
mod tests;
mod transmit;
pub(crate) mod values;

use core::fmt;
use core::sync::atomic::{AtomicU16, Ordering, fence};

use shared_ring::igb_registers::{self as reg, queue};
use shared_ring::layout::{MAX_GUESTS, NIC_RX_DESCRIPTORS, NIC_TX_DESCRIPTORS};
use shared_ring::status::attach;
use shared_ring::{Entry, Role};

pub use receive::{ReceiveQueue, Received};
pub use transmit::{MAX_FRAME_BYTES, MAX_PARTS, MIN_FRAME_BYTES, TransmitQueue};

use crate::bar::Registers;
use crate::error::{BringUpError, DomainError, EntryError};
use descriptor::Descriptor;

/// Memory that the NIC and the driver share, and the table the VMM salvages by.
#[derive(Clone, Copy, Debug)]
pub struct NicMemory<'m> {
    /// The receive ring.
    pub rx_ring: &'m [Descriptor; NIC_RX_DESCRIPTORS],
    /// The transmit ring.
    pub tx_ring: &'m [Descriptor; NIC_TX_DESCRIPTORS],
    /// Which buffer each receive descriptor points at.
    pub rx_slots: &'m [AtomicU16; NIC_RX_DESCRIPTORS],
}

/// What the bring-up has to know.
#[derive(Clone, Copy, Debug)]
pub struct AttachPlan {
    /// I/O address of the receive ring.
    pub rx_ring_iova: u64,
    /// I/O address of the transmit ring.
    pub tx_ring_iova: u64,
    /// The address to receive for.
    pub mac: [u8; 6],
    /// Further ones; zeroes for none.
    pub other_macs: [[u8; 6]; MAX_GUESTS - 1],
    /// MTU of the network.
    pub mtu: u16,
    /// Filters are open from the start only for [`Role::Active`].
    pub role: Role,
}

/// How the bring-up went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attached {
    /// One of [`attach`].
    pub path: u32,
    /// Whether the link was up at the end. If not, negotiation is under way.
    pub link_up: bool,
}

impl fmt::Display for Attached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path == attach::RESET { "full reset" } else { "re-attach" };
        let link = if self.link_up { "up" } else { "negotiating" };
        write!(f, "{path}, link {link}")
    }
}

/// A NIC, attached or about to be.
#[derive(Debug)]
pub struct Igb<'m, R> {
    bar: R,
    /// Its receive queue.
    pub rx: ReceiveQueue<'m>,
    /// Its transmit queue.
    pub tx: TransmitQueue<'m>,
}

impl<'m, R: Registers> Igb<'m, R> {
    /// A NIC that is left alone as yet: its rings in memory, empty.
    pub fn new(bar: R, memory: NicMemory<'m>) -> Self {
        let rx = ReceiveQueue::new(memory.rx_ring, memory.rx_slots);
        let tx = TransmitQueue::new(memory.tx_ring);
        Self { bar, rx, tx }
    }

    /// Gives the NIC an empty buffer; there must be room.
    pub fn rx_provide(&mut self, iova: u64, buffer: u16) {
        self.rx.provide(iova, buffer);
    }

    /// Rings the receive doorbell if that is worth a register write. Returns true if it did.
    pub fn ring_receive(&mut self) -> bool {
        let Some(tail) = self.rx.doorbell() else { return false };
        self.ring(reg::RDT, tail);
        true
    }

    /// Takes the next received buffer.
    #[inline(always)]
    pub fn rx_return(&mut self) -> Option<Received> {
        self.rx.take()
    }

    /// Hands the NIC a part of a frame; there must be room. Returns true if that ended the frame.
    ///
    /// # Errors
    /// The entry is impossible.
    #[inline(always)]
    pub fn tx_provide(&mut self, entry: &Entry) -> Result<bool, EntryError> {
        self.tx.push(entry)
    }

    /// Rings the transmit doorbell if there are frames that the NIC does not know. Returns true if
    /// it did.
    #[inline(always)]
    pub fn ring_transmit(&mut self) -> bool {
        let Some(tail) = self.tx.doorbell() else { return false };
        self.ring(reg::TDT, tail);
        true
    }

    /// Sends a frame of the driver's own, which nobody claims; there must be room. What it returns
    /// is for [`Self::is_probe_sent`].
    pub fn send_probe(&mut self, iova: u64, bytes: u32) -> usize {
        let at = self.tx.push_probe(iova, bytes);
        self.ring_transmit();
        at
    }

    /// Returns true if the NIC reports that frame sent.
    pub fn is_probe_sent(&self, at: usize) -> bool {
        self.tx.is_done(at)
    }

    /// Claims the oldest frame if it has been sent, see [`TransmitQueue::claim`].
    pub fn tx_return(&mut self, each: impl FnMut(u16)) -> bool {
        self.tx.claim(each)
    }

    #[inline(always)]
    fn ring(&self, doorbell: u32, tail: u32) {
        // Descriptors in memory before the doorbell that shows them to the NIC. On x86 the store to
        // uncached memory keeps the order by itself; the fence keeps the compiler from moving it.
        fence(Ordering::Release);
        self.bar.write(doorbell, tail);
    }

    /// Keeps vector 0 quiet while the loop polls anyway.
    pub fn mask_queue_interrupt(&self) {
        self.bar.write(reg::EIMC, reg::VECTOR_QUEUES);
    }

    /// Lets vector 0 fire again. What completed meanwhile may fire or not: look once more.
    pub fn unmask_queue_interrupt(&self) {
        self.bar.write(reg::EIMS, reg::VECTOR_QUEUES);
    }

    /// Returns true if the NIC still answers, by one register read without side effects.
    ///
    /// # Errors
    /// It does not.
    pub fn check_presence(&self) -> Result<(), DomainError> {
        self.read(reg::STATUS).map(|_| ())
    }

    /// Looks whether the NIC is as the bring-up left it: present, queues enabled, the receive tail
    /// where we put it. Returns whether the link is up. Four register reads without side effects.
    ///
    /// # Errors
    /// It is gone, or no longer as it was.
    pub fn verify(&self) -> Result<bool, DomainError> {
        let status = self.read(reg::STATUS)?;
        let enabled = self.read(reg::RXDCTL)? & self.read(reg::TXDCTL)? & queue::ENABLE != 0;
        if !enabled {
            return Err(DomainError::NicInit(BringUpError::QueueDead));
        }
        if self.read(reg::RDT)? != self.rx.tail() {
            return Err(DomainError::NicInit(BringUpError::TailMoved));
        }
        Ok(status & reg::status::LU != 0)
    }

    /// Reads a register that is never all ones while the NIC is there.
    fn read(&self, offset: u32) -> Result<u32, DomainError> {
        match self.bar.read(offset) {
            reg::ALL_ONES => Err(DomainError::NicGone),
            value => Ok(value),
        }
    }

    /// Changes bits of a register: clears `clear`, then sets `set`.
    fn modify(&self, offset: u32, clear: u32, set: u32) -> Result<(), DomainError> {
        let old = self.read(offset)?;
        self.bar.write(offset, (old & !clear) | set);
        Ok(())
    }
}

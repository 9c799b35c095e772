//! The domain's memory as the driver sees it, see [`shared_ring::layout`].
//!
//! All of it is shared with the VMM or the NIC, so all of it is atomics behind shared references.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU64};

use shared_ring::entry::Slot;
use shared_ring::layout::{
    self, BUFFER_BYTES, LOG_BYTES, NIC_RX_DESCRIPTORS, NIC_TX_DESCRIPTORS, RING_ENTRIES, RX_BUFFERS,
};
use shared_ring::ring::RingMemory;
use shared_ring::{Consumer, ControlPage, Producer, StatusPage};

use crate::igb::NicMemory;
use crate::igb::descriptor::Descriptor;

/// Slots of one shared ring.
pub type RingSlots = [Slot; RING_ENTRIES];

/// Words of one receive buffer.
pub const BUFFER_WORDS: usize = BUFFER_BYTES / 8;

/// All receive buffers.
pub type RxPool = [[AtomicU64; BUFFER_WORDS]; RX_BUFFERS];

/// Where everything lies that a driver shares with others.
#[derive(Clone, Copy, Debug)]
pub struct DomainMemory<'m> {
    /// Written by the VMM.
    pub control: &'m ControlPage,
    /// Written by the domain.
    pub status: &'m StatusPage,
    /// Log text.
    pub log: &'m [AtomicU8; LOG_BYTES as usize],
    /// Shared with the NIC.
    pub nic: NicMemory<'m>,
    /// Frames to send.
    pub tx_post: &'m RingSlots,
    /// Empty receive buffers.
    pub rx_provide: &'m RingSlots,
    /// Frames claimed sent.
    pub tx_done: &'m RingSlots,
    /// Frames received.
    pub rx_done: &'m RingSlots,
    /// The receive buffers. A frame is none of the driver's business; a drill reads its own.
    pub rx_pool: &'m RxPool,
}

/// The domain's ends of the four shared rings.
#[derive(Debug)]
pub(crate) struct DomainRings {
    pub(crate) tx_post: Consumer,
    pub(crate) rx_provide: Consumer,
    pub(crate) tx_done: Producer,
    pub(crate) rx_done: Producer,
}

impl DomainMemory<'static> {
    /// The memory of this domain.
    ///
    /// # Safety
    /// The caller runs in a driver domain, whose memory map is that of [`shared_ring::layout`].
    pub unsafe fn of_this_domain() -> Self {
        // SAFETY: the layout maps each of these for the life of the domain, asserts that none
        // overlap, and aligns them to pages; all are made of atomics, valid for every bit pattern.
        unsafe {
            Self {
                control: at(layout::CONTROL_BASE),
                status: at(layout::STATUS_BASE),
                log: at(layout::LOG_BASE),
                nic: NicMemory {
                    rx_ring: at::<[Descriptor; NIC_RX_DESCRIPTORS]>(
                        layout::DMA_BASE + layout::DMA_RX_RING_OFFSET,
                    ),
                    tx_ring: at::<[Descriptor; NIC_TX_DESCRIPTORS]>(
                        layout::DMA_BASE + layout::DMA_TX_RING_OFFSET,
                    ),
                    rx_slots: at::<[AtomicU16; NIC_RX_DESCRIPTORS]>(layout::RX_SLOTS_BASE),
                },
                tx_post: at(layout::TX_POST_BASE),
                rx_provide: at(layout::RX_PROVIDE_BASE),
                tx_done: at(layout::TX_DONE_BASE),
                rx_done: at(layout::RX_DONE_BASE),
                rx_pool: at(layout::RX_POOL_BASE),
            }
        }
    }
}

/// # Safety
/// A valid, aligned `T`, made of atomics, lies at `address` for the life of the program.
unsafe fn at<T>(address: u64) -> &'static T {
    // SAFETY: as the caller promises.
    unsafe { &*(address as *const T) }
}

impl DomainMemory<'_> {
    /// The ends of the shared rings.
    ///
    /// # Safety
    /// Only once in the life of a domain, on rings that were zeroed before, and the memory outlives
    /// the ends.
    pub(crate) unsafe fn rings(&self) -> DomainRings {
        let ring = |slots: &RingSlots, published: &_, consumed: &_| RingMemory {
            slots: NonNull::from(&slots[0]),
            published: NonNull::from(published),
            consumed: NonNull::from(consumed),
        };
        let (control, status) = (self.control, self.status);
        let tx_post = ring(self.tx_post, &control.tx_post_published.0, &status.tx_post_consumed.0);
        let rx_provide =
            ring(self.rx_provide, &control.rx_provide_published.0, &status.rx_provide_consumed.0);
        let tx_done = ring(self.tx_done, &status.tx_done_published.0, &control.tx_done_consumed.0);
        let rx_done = ring(self.rx_done, &status.rx_done_published.0, &control.rx_done_consumed.0);
        // SAFETY: as the caller promises. The VMM has the other end of each.
        unsafe {
            DomainRings {
                tx_post: Consumer::new(tx_post),
                rx_provide: Consumer::new(rx_provide),
                tx_done: Producer::new(tx_done),
                rx_done: Producer::new(rx_done),
            }
        }
    }
}

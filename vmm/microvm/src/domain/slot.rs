//! A domain's slot: what outlives the driver in it.
//!
//! Memory, NIC, DMA mappings and eventfds are made once and stay; a driver that failed is built
//! anew in the same memory, so neither a rebuild nor a failover maps anything for DMA.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use shared_ring::layout::{self, BUFFER_BYTES, NIC_RX_DESCRIPTORS, RX_BUFFERS, TX_BUFFERS};
use shared_ring::ring::RingMemory;
use shared_ring::{Consumer, ControlPage, Producer, StatusPage};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::accounts::Accounts;
use nic::{DmaAccess, DmaArea, Nic, NicError};
use platform::memory::{MemoryError, SharedMemory};

/// Bytes of a NIC's descriptor.
const DESCRIPTOR_BYTES: u64 = 16;

/// Number of a domain, its place in the topology.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DomainId(pub u8);

impl DomainId {
    /// Place in an array of domains.
    #[inline]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// Why a slot could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SlotError {
    /// No memory.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The NIC refuses its mappings.
    #[error(transparent)]
    Nic(#[from] NicError),
    /// No eventfd.
    #[error("cannot create an eventfd")]
    EventFd(#[source] std::io::Error),
}

/// I/O address of a slot's DMA area, receive pool, and of the common transmit pool. Deliberately
/// unlike the guest-physical addresses: a driver that mixes them up fails in the first test.
const DMA_IOVA: u64 = 0x1000_0000;
const RX_POOL_IOVA: u64 = 0x2000_0000;
const TX_POOL_IOVA: u64 = 0x4000_0000;
/// Distance between the I/O addresses of two slots, for the case that they share one NIC.
const SLOT_IOVA_STRIDE: u64 = 0x0100_0000;

/// The permanent part of a domain.
pub struct DomainSlot {
    /// Its number.
    pub id: DomainId,
    /// Its name in the topology.
    pub name: String,
    /// All its RAM, see [`shared_ring::layout`].
    pub ram: Arc<SharedMemory>,
    /// The common transmit pool.
    pub tx_pool: Arc<SharedMemory>,
    /// Its NIC.
    pub nic: Arc<dyn Nic>,
    /// Wakes its vCPU thread when it is parked: the switchboard's kick, and the release of a spare.
    pub kick: EventFd,
    /// Rung by the domain's NOTIFY: the switchboard has something to read.
    pub notify: EventFd,
    /// What became of the frames that its NIC received.
    pub accounts: Accounts,
    /// The newest life whose driver has attached the NIC; 0 before the first.
    attached: AtomicU32,
}

impl DomainSlot {
    /// Makes the memory and maps it for the NIC.
    ///
    /// # Errors
    /// No memory, no descriptors, or the NIC refuses.
    pub fn new(
        id: DomainId,
        name: &str,
        nic: Arc<dyn Nic>,
        tx_pool: Arc<SharedMemory>,
    ) -> Result<Self, SlotError> {
        let ram = Arc::new(SharedMemory::new(c"warmspare-domain", layout::RAM_BYTES)?);
        let event = || EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map_err(SlotError::EventFd);
        let (kick, notify, name) = (event()?, event()?, name.to_owned());
        let attached = AtomicU32::new(0);
        let accounts = Accounts::default();
        let slot = Self { id, name, ram, tx_pool, nic, kick, notify, accounts, attached };
        slot.nic.map_dma(&slot.dma_areas())?;
        Ok(slot)
    }

    /// The driver of this life has the NIC. On its vCPU thread, before it sends anything: what the
    /// NIC counted until now was sent by another life, maybe of the domain that had the NIC before.
    pub fn note_attached(&self, epoch: u32) {
        self.nic.take_sent();
        self.attached.store(epoch, Ordering::Release);
    }

    /// Returns true if the driver of this life has the NIC: from then on it is programmed with this
    /// slot's rings and no other's.
    #[inline]
    pub fn is_attached(&self, epoch: u32) -> bool {
        self.attached.load(Ordering::Acquire) == epoch
    }

    /// Returns true if the two have one NIC between them.
    #[inline]
    pub fn shares_nic(&self, other: &Self) -> bool {
        std::ptr::addr_eq(Arc::as_ptr(&self.nic), Arc::as_ptr(&other.nic))
    }

    /// A common transmit pool.
    ///
    /// # Errors
    /// No memory.
    pub fn new_tx_pool() -> Result<Arc<SharedMemory>, MemoryError> {
        let bytes = (TX_BUFFERS * BUFFER_BYTES) as u64;
        Ok(Arc::new(SharedMemory::new(c"warmspare-tx", bytes)?))
    }

    /// Exactly what the slot's NIC may reach.
    pub fn dma_areas(&self) -> [DmaArea; 3] {
        let area = |iova, memory: &Arc<SharedMemory>, offset, len, access| DmaArea {
            iova,
            memory: memory.clone(),
            offset,
            len,
            access,
        };
        let (ram, rw) = (&self.ram, DmaAccess::ReadWrite);
        let rx_bytes = (RX_BUFFERS * BUFFER_BYTES) as u64;
        [
            area(self.dma_iova(), ram, layout::DMA_BASE, layout::DMA_BYTES, rw),
            area(self.rx_pool_iova(), ram, layout::RX_POOL_BASE, rx_bytes, rw),
            area(TX_POOL_IOVA, &self.tx_pool, 0, self.tx_pool.len(), DmaAccess::Read),
        ]
    }

    /// I/O address of the DMA area.
    pub fn dma_iova(&self) -> u64 {
        DMA_IOVA + u64::from(self.id.0) * SLOT_IOVA_STRIDE
    }

    /// I/O address of the receive pool.
    pub fn rx_pool_iova(&self) -> u64 {
        RX_POOL_IOVA + u64::from(self.id.0) * SLOT_IOVA_STRIDE
    }

    /// I/O address of a transmit buffer.
    #[inline]
    pub fn tx_iova(buffer: u16) -> u64 {
        TX_POOL_IOVA + u64::from(buffer) * BUFFER_BYTES as u64
    }

    /// The page the VMM writes.
    #[inline]
    pub fn control(&self) -> &ControlPage {
        self.fixed(layout::CONTROL_BASE)
    }

    /// The page the domain writes.
    #[inline]
    pub fn status(&self) -> &StatusPage {
        self.fixed(layout::STATUS_BASE)
    }

    /// Which buffer a receive descriptor points at, as the domain says.
    #[inline]
    pub fn rx_slot(&self, descriptor: usize) -> &AtomicU16 {
        let index = (descriptor % NIC_RX_DESCRIPTORS) as u64;
        self.fixed(layout::RX_SLOTS_BASE + 2 * index)
    }

    /// Second word of a receive descriptor, which the NIC writes back: status 19:0, errors 31:20,
    /// length 47:32 (i210 datasheet, advanced receive descriptors). Acquire: it writes the frame
    /// before it.
    #[inline]
    pub fn rx_write_back(&self, descriptor: usize) -> u64 {
        let index = (descriptor % NIC_RX_DESCRIPTORS) as u64;
        let word = layout::DMA_BASE + layout::DMA_RX_RING_OFFSET + index * DESCRIPTOR_BYTES + 8;
        self.fixed::<AtomicU64>(word).load(Ordering::Acquire)
    }

    #[inline]
    fn fixed<T: platform::memory::SharedShape>(&self, offset: u64) -> &T {
        match self.ram.shape(offset) {
            Ok(shape) => shape,
            // The layout is constant, asserted at compile time to fit, and the RAM is whole.
            Err(_) => unreachable!("the memory map lies within a domain's RAM"),
        }
    }

    /// Memory of the four rings: TX_POST, RX_PROVIDE, TX_DONE, RX_DONE.
    fn rings(&self) -> [RingMemory; 4] {
        let (control, status) = (self.control(), self.status());
        let ring = |base, published: &AtomicU32, consumed: &AtomicU32| RingMemory {
            slots: NonNull::from(self.fixed::<shared_ring::entry::Slot>(base)),
            published: NonNull::from(published),
            consumed: NonNull::from(consumed),
        };
        let (post, posted) = (&control.tx_post_published.0, &status.tx_post_consumed.0);
        let (provide, provided) = (&control.rx_provide_published.0, &status.rx_provide_consumed.0);
        let (done, heard) = (&status.tx_done_published.0, &control.tx_done_consumed.0);
        let (received, read) = (&status.rx_done_published.0, &control.rx_done_consumed.0);
        [
            ring(layout::TX_POST_BASE, post, posted),
            ring(layout::RX_PROVIDE_BASE, provide, provided),
            ring(layout::TX_DONE_BASE, done, heard),
            ring(layout::RX_DONE_BASE, received, read),
        ]
    }

    /// The VMM's ends of the rings, for one life of the domain. The rings must be zeroed.
    ///
    /// # Safety
    /// One set of these is used for each life, and none of an earlier life any more.
    pub unsafe fn host_rings(&self) -> HostRings {
        let [tx_post, rx_provide, tx_done, rx_done] = self.rings();
        // SAFETY: the slots lie in RAM that `_ram` keeps mapped as long as the ends live; that
        // there is one set the caller promises.
        unsafe {
            HostRings {
                tx_post: Producer::new(tx_post),
                rx_provide: Producer::new(rx_provide),
                tx_done: Consumer::new(tx_done),
                rx_done: Consumer::new(rx_done),
                _ram: self.ram.clone(),
            }
        }
    }

    /// The domain's ends of the rings, for what stands in a domain's place in tests and benchmarks.
    ///
    /// # Safety
    /// As for [`Self::host_rings`], and no domain runs in this slot.
    pub unsafe fn domain_rings(&self) -> DomainRings {
        let [tx_post, rx_provide, tx_done, rx_done] = self.rings();
        // SAFETY: as above.
        unsafe {
            DomainRings {
                tx_post: Consumer::new(tx_post),
                rx_provide: Consumer::new(rx_provide),
                tx_done: Producer::new(tx_done),
                rx_done: Producer::new(rx_done),
                _ram: self.ram.clone(),
            }
        }
    }
}

/// The VMM's ends of a domain's rings.
pub struct HostRings {
    /// Frames to send.
    pub tx_post: Producer,
    /// Empty receive buffers.
    pub rx_provide: Producer,
    /// Frames that the domain claims sent.
    pub tx_done: Consumer,
    /// Frames received.
    pub rx_done: Consumer,
    _ram: Arc<SharedMemory>,
}

/// The domain's ends of its rings.
pub struct DomainRings {
    /// Frames to send.
    pub tx_post: Consumer,
    /// Empty receive buffers.
    pub rx_provide: Consumer,
    /// Frames claimed sent.
    pub tx_done: Producer,
    /// Frames received.
    pub rx_done: Producer,
    _ram: Arc<SharedMemory>,
}

//! The virtio-mmio transport of `virtio-drivers`, with notifications taken out of its hands, and
//! its memory for virtqueues.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use app_guest::layout;
use app_guest::vring::Words;
use virtio_drivers::transport::mmio::{MmioError, MmioTransport, VirtIOHeader};
use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus, Transport};
use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr, Result};

use crate::runtime::memory;

/// Queues of the device: receive and transmit.
pub(crate) const QUEUES: usize = 2;

/// VIRTIO_F_EVENT_IDX.
const EVENT_IDX: u64 = 1 << 29;
/// Offset of QueueNotify (virtio 1.3 §4.2.2).
const QUEUE_NOTIFY: u64 = 0x50;

/// What was learned while the driver set the device up.
pub(crate) struct Learned {
    features: AtomicU64,
    queues: [QueuePlace; QUEUES],
}

/// Where the two rings of a queue lie; 0 if it was not set up.
struct QueuePlace {
    entries: AtomicU64,
    driver_area: AtomicU64,
    device_area: AtomicU64,
}

impl QueuePlace {
    const fn nowhere() -> Self {
        Self {
            entries: AtomicU64::new(0),
            driver_area: AtomicU64::new(0),
            device_area: AtomicU64::new(0),
        }
    }
}

/// Of the one device.
pub(crate) static LEARNED: Learned =
    Learned { features: AtomicU64::new(0), queues: [const { QueuePlace::nowhere() }; QUEUES] };

impl Learned {
    /// The negotiated features.
    pub(crate) fn features(&self) -> u64 {
        self.features.load(Ordering::Relaxed)
    }

    /// Returns true if notifications go by event index.
    pub(crate) fn event_idx(&self) -> bool {
        self.features() & EVENT_IDX != 0
    }

    /// The words of a queue that was set up.
    pub(crate) fn words(&self, queue: usize) -> Option<Words<'static>> {
        let place = &self.queues[queue];
        let entries = place.entries.load(Ordering::Relaxed);
        let driver_area = place.driver_area.load(Ordering::Relaxed);
        let device_area = place.device_area.load(Ordering::Relaxed);
        if entries == 0 {
            return None;
        }
        // SAFETY: the addresses are those of the rings in memory of `QueueMemory`, which is never
        // given back; 16-bit words at even addresses (virtio 1.3 §2.7), shared with the device,
        // atomics on this side.
        let word = |address: u64| unsafe { &*(address as *const AtomicU16) };
        Some(Words {
            avail_flags: word(driver_area),
            avail_idx: word(driver_area + 2),
            used_event: word(driver_area + 4 + 2 * entries),
            used_flags: word(device_area),
            used_idx: word(device_area + 2),
            avail_event: word(device_area + 4 + 8 * entries),
        })
    }
}

/// Rings the device's bell: an ioeventfd, no exit to the VMM's user space.
pub(crate) fn notify(queue: u32) {
    let register = (layout::DEVICE_BASE + QUEUE_NOTIFY) as *mut u32;
    // SAFETY: a register of the device, mapped and aligned.
    unsafe { register.write_volatile(queue) };
}

/// [`MmioTransport`], but `notify` does nothing: [`app_guest::vring`] says when to ring.
pub(crate) struct QuietTransport {
    inner: MmioTransport<'static>,
}

impl QuietTransport {
    /// The device of the memory map. To be called once.
    pub(crate) fn new() -> core::result::Result<Self, MmioError> {
        let header: NonNull<VirtIOHeader> =
            NonNull::without_provenance(nonzero(layout::DEVICE_BASE));
        // SAFETY: the registers of a virtio-mmio device, mapped for the guest's whole life.
        let inner = unsafe { MmioTransport::new(header, layout::DEVICE_BYTES as usize)? };
        Ok(Self { inner })
    }
}

fn nonzero(address: u64) -> core::num::NonZeroUsize {
    match core::num::NonZeroUsize::new(address as usize) {
        Some(address) => address,
        None => unreachable!("nothing of the memory map lies at 0"),
    }
}

impl Transport for QuietTransport {
    fn device_type(&self) -> DeviceType {
        self.inner.device_type()
    }

    fn read_device_features(&mut self) -> u64 {
        self.inner.read_device_features()
    }

    fn write_driver_features(&mut self, features: u64) {
        LEARNED.features.store(features, Ordering::Relaxed);
        self.inner.write_driver_features(features);
    }

    fn max_queue_size(&mut self, queue: u16) -> u32 {
        self.inner.max_queue_size(queue)
    }

    fn notify(&mut self, _queue: u16) {}

    fn get_status(&self) -> DeviceStatus {
        self.inner.get_status()
    }

    fn set_status(&mut self, status: DeviceStatus) {
        self.inner.set_status(status);
    }

    fn set_guest_page_size(&mut self, bytes: u32) {
        self.inner.set_guest_page_size(bytes);
    }

    fn requires_legacy_layout(&self) -> bool {
        self.inner.requires_legacy_layout()
    }

    fn queue_set(
        &mut self,
        queue: u16,
        size: u32,
        descriptors: PhysAddr,
        driver_area: PhysAddr,
        device_area: PhysAddr,
    ) {
        let place = &LEARNED.queues[usize::from(queue)];
        place.entries.store(size.into(), Ordering::Relaxed);
        place.driver_area.store(driver_area, Ordering::Relaxed);
        place.device_area.store(device_area, Ordering::Relaxed);
        self.inner.queue_set(queue, size, descriptors, driver_area, device_area);
    }

    fn queue_unset(&mut self, queue: u16) {
        self.inner.queue_unset(queue);
    }

    fn queue_used(&mut self, queue: u16) -> bool {
        self.inner.queue_used(queue)
    }

    fn ack_interrupt(&mut self) -> InterruptStatus {
        self.inner.ack_interrupt()
    }

    fn read_config_generation(&self) -> u32 {
        self.inner.read_config_generation()
    }

    fn read_config_space<T>(&self, offset: usize) -> Result<T>
    where
        T: zerocopy::FromBytes + zerocopy::IntoBytes,
    {
        self.inner.read_config_space(offset)
    }

    fn write_config_space<T>(&mut self, offset: usize, value: T) -> Result<()>
    where
        T: zerocopy::IntoBytes + zerocopy::Immutable,
    {
        self.inner.write_config_space(offset, value)
    }
}

/// Memory for virtqueues: given out page by page and never taken back, as the one device is driven
/// until the guest ends. Guest-virtual and guest-physical addresses are the same.
pub(crate) struct QueueMemory;

// SAFETY: `dma_alloc` gives out whole pages, zeroed by the VMM, each once (`memory::take` sees to
// it), or says 0 for none. Addresses are the same on both sides, so sharing is the identity.
unsafe impl Hal for QueueMemory {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        match memory::take_queue_pages(pages) {
            Some(area) => (area.as_ptr() as PhysAddr, NonNull::from(area).cast()),
            None => (0, NonNull::dangling()),
        }
    }

    unsafe fn dma_dealloc(_: PhysAddr, _: NonNull<u8>, _: usize) -> i32 {
        0
    }

    unsafe fn mmio_phys_to_virt(address: PhysAddr, _: usize) -> NonNull<u8> {
        NonNull::without_provenance(nonzero(address))
    }

    unsafe fn share(buffer: NonNull<[u8]>, _: BufferDirection) -> PhysAddr {
        buffer.as_ptr().cast::<u8>() as PhysAddr
    }

    unsafe fn unshare(_: PhysAddr, _: NonNull<[u8]>, _: BufferDirection) {}
}

const _: () = assert!(PAGE_SIZE as u64 == layout::PAGE_BYTES);

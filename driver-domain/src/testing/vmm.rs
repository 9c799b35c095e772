//! The VMM's side of a domain: its memory, its ends of the rings, and its calls.

use std::cell::{Cell, RefCell};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU64, Ordering};

use shared_ring::control::CONTROL_MAGIC;
use shared_ring::entry::Slot;
use shared_ring::hypercall::PanicCode;
use shared_ring::layout::{
    BUFFER_BYTES, LOG_BYTES, NIC_RX_DESCRIPTORS, NIC_TX_DESCRIPTORS, RING_ENTRIES, RX_BUFFERS,
};
use shared_ring::ring::RingMemory;
use shared_ring::{ABI_VERSION, Consumer, ControlPage, Entry, Producer, Role, StatusPage};

use crate::hypercalls::Hypercalls;
use crate::igb::NicMemory;
use crate::igb::descriptor::Descriptor;
use crate::memory::{BUFFER_WORDS, DomainMemory, RxPool};

/// I/O addresses as the VMM would give them; unlike every other address.
pub(super) const DMA_IOVA: u64 = 0x1_1000_0000;
const RX_POOL_IOVA: u64 = 0x2000_0000;
const TX_POOL_IOVA: u64 = 0x4000_0000;
const EPOCH: u16 = 0x51;

/// Memory of a domain; lives as long as the test process, as a domain's does.
pub struct TestMemory {
    /// What the domain gets.
    pub domain: DomainMemory<'static>,
}

fn leak<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

fn array<T: Default, const N: usize>() -> &'static [T; N] {
    leak(std::array::from_fn(|_| T::default()))
}

fn rx_pool() -> &'static RxPool {
    // On the heap from the start: two megabytes are too many for a test's stack.
    let buffers = (0..RX_BUFFERS).map(|_| std::array::from_fn(|_| AtomicU64::new(0)));
    let buffers: Box<[[AtomicU64; BUFFER_WORDS]]> = buffers.collect();
    match <&RxPool>::try_from(&*Box::leak(buffers)) {
        Ok(pool) => pool,
        Err(_) => unreachable!("as many buffers as the pool has"),
    }
}

fn status_page() -> &'static StatusPage {
    // SAFETY: the page says of itself that all-zero memory is a valid value.
    leak(unsafe { std::mem::zeroed() })
}

impl TestMemory {
    /// Zeroed memory with a valid control page.
    pub fn new(role: Role) -> Self {
        let control = leak(ControlPage::default());
        control.magic.store(CONTROL_MAGIC, Ordering::Relaxed);
        control.abi_version.store(ABI_VERSION, Ordering::Relaxed);
        control.epoch.store(u32::from(EPOCH), Ordering::Relaxed);
        control.role.store(role as u32, Ordering::Relaxed);
        control.tsc_khz.store(2_000_000, Ordering::Relaxed);
        control.dma_iova.store(DMA_IOVA, Ordering::Relaxed);
        control.rx_pool_iova.store(RX_POOL_IOVA, Ordering::Relaxed);
        control.set_macs(&[[0x52, 0x54, 0, 0xaa, 0xbb, 0xcc]]);
        let nic = NicMemory {
            rx_ring: array::<Descriptor, NIC_RX_DESCRIPTORS>(),
            tx_ring: array::<Descriptor, NIC_TX_DESCRIPTORS>(),
            rx_slots: array::<AtomicU16, NIC_RX_DESCRIPTORS>(),
        };
        Self {
            domain: DomainMemory {
                control,
                status: status_page(),
                log: array::<AtomicU8, { LOG_BYTES as usize }>(),
                nic,
                tx_post: array::<Slot, RING_ENTRIES>(),
                rx_provide: array::<Slot, RING_ENTRIES>(),
                tx_done: array::<Slot, RING_ENTRIES>(),
                rx_done: array::<Slot, RING_ENTRIES>(),
                rx_pool: rx_pool(),
            },
        }
    }

    /// The VMM's ends of the rings.
    pub fn vmm_rings(&self) -> VmmRings {
        let DomainMemory { control, status, .. } = self.domain;
        let ring = |slots: &[Slot; RING_ENTRIES], published: &_, consumed: &_| RingMemory {
            slots: NonNull::from(&slots[0]),
            published: NonNull::from(published),
            consumed: NonNull::from(consumed),
        };
        let d = &self.domain;
        // SAFETY: the memory is never freed, and a test makes these ends once.
        unsafe {
            VmmRings {
                tx_post: Producer::new(ring(
                    d.tx_post,
                    &control.tx_post_published.0,
                    &status.tx_post_consumed.0,
                )),
                rx_provide: Producer::new(ring(
                    d.rx_provide,
                    &control.rx_provide_published.0,
                    &status.rx_provide_consumed.0,
                )),
                tx_done: Consumer::new(ring(
                    d.tx_done,
                    &status.tx_done_published.0,
                    &control.tx_done_consumed.0,
                )),
                rx_done: Consumer::new(ring(
                    d.rx_done,
                    &status.rx_done_published.0,
                    &control.rx_done_consumed.0,
                )),
            }
        }
    }

    /// The log text so far.
    pub fn log_text(&self) -> String {
        let len = self.domain.status.log_written.load(Ordering::Acquire) as usize;
        let bytes = self.domain.log.iter().take(len).map(|b| b.load(Ordering::Relaxed)).collect();
        String::from_utf8(bytes).expect("the log is text")
    }
}

/// The VMM's ends of the rings, and the entries it would publish.
pub struct VmmRings {
    /// Frames to send.
    pub tx_post: Producer,
    /// Empty receive buffers.
    pub rx_provide: Producer,
    /// Frames claimed sent.
    pub tx_done: Consumer,
    /// Frames received.
    pub rx_done: Consumer,
}

impl VmmRings {
    /// The entry of a frame in one buffer.
    pub fn frame(buffer: u16, len: u16) -> Entry {
        let iova = TX_POOL_IOVA + u64::from(buffer) * BUFFER_BYTES as u64;
        let frame_len = u32::from(len);
        Entry { iova, buffer, len, frame_len, epoch: EPOCH, ..Entry::default() }
    }

    /// The entry of an empty receive buffer.
    pub fn empty(buffer: u16) -> Entry {
        let iova = RX_POOL_IOVA + u64::from(buffer) * BUFFER_BYTES as u64;
        Entry { iova, buffer, len: BUFFER_BYTES as u16, epoch: EPOCH, ..Entry::default() }
    }

    /// Publishes frames.
    pub fn post(&mut self, entries: impl IntoIterator<Item = Entry>) {
        for entry in entries {
            self.tx_post.push(entry).expect("room in TX_POST");
        }
        self.tx_post.publish();
    }

    /// Publishes empty receive buffers.
    pub fn provide(&mut self, buffers: impl IntoIterator<Item = u16>) {
        for buffer in buffers {
            self.rx_provide.push(Self::empty(buffer)).expect("room in RX_PROVIDE");
        }
        self.rx_provide.publish();
    }

    /// Takes the numbers of all buffers that were claimed sent.
    pub fn take_sent(&mut self) -> Vec<u16> {
        let next = || self.tx_done.pop().expect("a possible cursor");
        let sent = std::iter::from_fn(next).inspect(|e| assert_eq!(e.epoch, EPOCH));
        let sent = sent.map(|entry| entry.buffer).collect();
        self.tx_done.release();
        sent
    }

    /// Takes all received entries.
    pub fn take_received(&mut self) -> Vec<Entry> {
        let next = || self.rx_done.pop().expect("a possible cursor");
        let received = std::iter::from_fn(next).inspect(|e| assert_eq!(e.epoch, EPOCH)).collect();
        self.rx_done.release();
        received
    }
}

/// Something that a test does while the domain waits; the number is how often it has waited.
type OnWait = Box<dyn FnMut(u32)>;

#[derive(Default)]
struct Calls {
    ready: Cell<u32>,
    waits: Cell<u32>,
    notifies: Cell<u32>,
    panics: RefCell<Vec<PanicCode>>,
    on_wait: RefCell<Option<OnWait>>,
}

/// Counts the calls of a domain. Clones share the counts.
#[derive(Clone, Default)]
pub struct FakeCalls(Rc<Calls>);

impl FakeCalls {
    /// Runs `then` inside each WAIT.
    pub fn on_wait(&self, then: impl FnMut(u32) + 'static) {
        *self.0.on_wait.borrow_mut() = Some(Box::new(then));
    }

    /// READY calls so far.
    pub fn ready_calls(&self) -> u32 {
        self.0.ready.get()
    }

    /// WAIT calls so far.
    pub fn waits(&self) -> u32 {
        self.0.waits.get()
    }

    /// NOTIFY calls so far.
    pub fn notifies(&self) -> u32 {
        self.0.notifies.get()
    }
}

fn count(calls: &Cell<u32>) {
    calls.set(calls.get() + 1);
}

impl Hypercalls for FakeCalls {
    fn ready(&self) {
        count(&self.0.ready);
    }

    fn wait(&self) {
        count(&self.0.waits);
        if let Some(then) = self.0.on_wait.borrow_mut().as_mut() {
            then(self.0.waits.get());
        }
    }

    fn notify(&self) {
        count(&self.0.notifies);
    }

    fn panic(&self, code: PanicCode) {
        self.0.panics.borrow_mut().push(code);
    }
}

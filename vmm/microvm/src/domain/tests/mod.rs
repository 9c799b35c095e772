//! Lives of tiny domains on real KVM, with a NIC that only takes notes.

mod costs;
mod ends;
mod holding;
mod images;
mod memory;
mod parking;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use shared_ring::Role;
use shared_ring::abi::{ImageKind, ImageNote};
use shared_ring::frame::DEFAULT_MTU;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::{DomainEvents, DomainId, DomainSlot, Fault, Life, LifeError, PrepareConfig};
use crate::kvm::Image;
use crate::kvm::testing::image_bytes;
use nic::{BarAccess, BarPages, BarRegisters, DmaArea, Nic, NicError};

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long it waits for what must not.
const QUIET: Duration = Duration::from_millis(60);

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];

/// What a load from a register of a [`NotedNic`] gives.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Loads {
    /// One more than its offset.
    Offset,
    /// What was stored last, else 0; STATUS says that the link is up.
    Stored,
    /// All ones: the device is gone.
    Gone,
}

/// A NIC without an engine: it only notes what is stored.
struct NotedNic {
    queue: EventFd,
    link: EventFd,
    stores: Mutex<Vec<(u32, u32)>>,
    panics: AtomicBool,
    loads: Loads,
    pages: Option<[BarPages; 1]>,
}

impl NotedNic {
    fn new(loads: Loads, pages: Option<[BarPages; 1]>) -> Arc<Self> {
        let event = || EventFd::new(EFD_NONBLOCK).unwrap();
        let (stores, panics) = (Mutex::default(), AtomicBool::new(false));
        Arc::new(Self { queue: event(), link: event(), stores, panics, loads, pages })
    }

    fn stored(&self, offset: u32) -> u32 {
        const STATUS: u32 = 8;
        const LINK_UP: u32 = 2;
        let stores = self.stores.lock().unwrap();
        let last = stores.iter().rev().find(|(register, _)| *register == offset);
        last.map_or(if offset == STATUS { LINK_UP } else { 0 }, |(_, value)| *value)
    }
}

impl BarRegisters for NotedNic {
    fn read(&self, offset: u32) -> u32 {
        match self.loads {
            Loads::Offset => offset + 1,
            Loads::Stored => self.stored(offset),
            Loads::Gone => u32::MAX,
        }
    }

    fn write(&self, offset: u32, value: u32) {
        assert!(!self.panics.load(Ordering::SeqCst), "this panic is part of the test");
        self.stores.lock().unwrap().push((offset, value));
    }
}

impl Nic for NotedNic {
    fn name(&self) -> &str {
        "noted"
    }
    fn shut_units(&self) {}
    fn open_filters(&self) {}
    fn take_sent(&self) -> u32 {
        0
    }
    fn link_up(&self) -> bool {
        true
    }
    fn shut_filters(&self) {}
    fn accept_probes(&self, _to: Option<[u8; 6]>) {}
    fn take_received(&self) -> u32 {
        0
    }
    fn queue_event(&self) -> &EventFd {
        &self.queue
    }
    fn link_event(&self) -> &EventFd {
        &self.link
    }
    fn acknowledge_link(&self) -> bool {
        true
    }
    fn map_dma(&self, _: &[DmaArea]) -> Result<(), NicError> {
        Ok(())
    }
    fn quiesce(&self) -> Result<(), NicError> {
        Ok(())
    }
    fn enable_bus_master(&self) -> Result<(), NicError> {
        Ok(())
    }
    fn reset(&self) -> Result<(), NicError> {
        Ok(())
    }
    fn bar(&self) -> BarAccess<'_> {
        self.pages.as_ref().map_or(BarAccess::Trapped(self), |pages| BarAccess::Mapped(pages))
    }
    fn arm_first_sent(&self) {}
    fn first_sent_ns(&self) -> Option<u64> {
        None
    }
    fn progress(&self) -> u64 {
        0
    }
    fn peek(&self, register: u32) -> u32 {
        self.read(register)
    }
    fn poke(&self, register: u32, value: u32) {
        self.write(register, value);
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Event {
    Ready(u32),
    /// Epoch, fault, when the vCPU was last entered.
    Failed(u32, Fault, u64),
}

struct Listener(Sender<Event>);

impl DomainEvents for Listener {
    fn ready(&self, id: DomainId, epoch: u32) {
        assert_eq!(id, DomainId(3));
        self.0.send(Event::Ready(epoch)).unwrap();
    }

    fn failed(&self, id: DomainId, epoch: u32, fault: &Fault, entered_ns: u64) {
        assert_eq!(id, DomainId(3));
        self.0.send(Event::Failed(epoch, *fault, entered_ns)).unwrap();
    }
}

/// A slot with a noted NIC, and what is heard of its lives.
struct Stage {
    slot: Arc<DomainSlot>,
    nic: Arc<NotedNic>,
    sender: Sender<Event>,
    heard: Receiver<Event>,
}

impl Stage {
    fn new() -> Self {
        Self::with_nic(NotedNic::new(Loads::Offset, None))
    }

    fn with_nic(nic: Arc<NotedNic>) -> Self {
        let tx_pool = DomainSlot::new_tx_pool().unwrap();
        let slot = DomainSlot::new(DomainId(3), "test", nic.clone(), tx_pool).unwrap();
        let (sender, heard) = channel();
        Self { slot: Arc::new(slot), nic, sender, heard }
    }

    fn prepare(&self, epoch: u32, role: Role) {
        let (shares_nic, macs, mtu) = (false, &[MAC][..], DEFAULT_MTU);
        self.slot.prepare(&PrepareConfig { epoch, role, shares_nic, macs, mtu }).unwrap();
    }

    fn try_start(&self, image: Image, epoch: u32) -> Result<Life, LifeError> {
        let events = Arc::new(Listener(self.sender.clone()));
        Life::start(self.slot.clone(), Arc::new(image), epoch, events)
    }

    /// Prepares the slot and starts a domain of this code.
    fn start(&self, code: &[u8], epoch: u32, role: Role) -> Life {
        self.prepare(epoch, role);
        self.try_start(domain_image(code), epoch).unwrap()
    }

    fn hear(&self) -> Event {
        self.heard.recv_timeout(PATIENCE).expect("something is heard of the domain")
    }

    fn hear_fault(&self) -> Fault {
        match self.hear() {
            Event::Failed(_, fault, _) => fault,
            Event::Ready(_) => self.hear_fault(),
        }
    }

    fn word(&self, address: u64) -> u32 {
        let mut bytes = [0; 4];
        self.slot.ram.read(address, &mut bytes).unwrap();
        u32::from_le_bytes(bytes)
    }
}

fn domain_image(code: &[u8]) -> Image {
    Image::parse(&image_bytes(code, Some(ImageNote::of(ImageKind::Driver)))).unwrap()
}

/// Waits until something holds, and fails the test if it never does.
fn eventually(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_micros(200));
    }
}

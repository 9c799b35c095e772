//! The real driver against the emulated NIC, both in this process: memory, DMA window and rings as
//! in a domain, only without a vCPU in between.

#![expect(clippy::unwrap_used, reason = "the whole file is a test, its helpers included")]

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use driver_domain::igb::{Attached, NicMemory};
use driver_domain::memory::DomainMemory;
use driver_domain::{Clock, Domain, Hypercalls, Registers, serve};
use microvm::domain::{DomainId, DomainSlot, HostRings};
use nic::emulated::EmulatedNic;
use nic::wire::{EthernetSwitch, MAX_FRAME_BYTES, Port, Wire};
use nic::{BarAccess, Nic};
use platform::memory::SharedMemory;
use shared_ring::control::CONTROL_MAGIC;
use shared_ring::hypercall::PanicCode;
use shared_ring::layout::{self, BUFFER_BYTES};
use shared_ring::{ABI_VERSION, Entry, EntryFlags, Role};

const MAC: [u8; 6] = [0x52, 0x54, 0, 1, 2, 3];
const PEER: [u8; 6] = [2, 0, 0, 0, 0, 9];
const EVERYONE: [u8; 6] = [0xff; 6];

struct Bar(Arc<EmulatedNic>);

impl Registers for Bar {
    fn read(&self, offset: u32) -> u32 {
        let BarAccess::Trapped(registers) = self.0.bar() else { panic!("a model traps") };
        registers.read(offset)
    }

    fn write(&self, offset: u32, value: u32) {
        let BarAccess::Trapped(registers) = self.0.bar() else { panic!("a model traps") };
        registers.write(offset, value);
    }
}

/// Hypercalls that do nothing: the test drives the domain turn by turn, so there is no thread to
/// wake.
struct NoCalls;

impl Hypercalls for NoCalls {
    fn ready(&self) {}
    fn wait(&self) {}
    fn notify(&self) {}
    fn panic(&self, code: PanicCode) {
        panic!("the driver gives up: {code:?}");
    }
}

struct Wall(Instant);

impl Clock for Wall {
    fn now_us(&self) -> u64 {
        self.0.elapsed().as_micros() as u64
    }
}

struct Bench {
    nic: Arc<EmulatedNic>,
    port: Arc<Port>,
    peer: Arc<Port>,
    slot: DomainSlot,
    tx_pool: Arc<SharedMemory>,
}

/// One life of a driver on the bench.
struct Life<'m> {
    domain: Domain<'m, Bar, NoCalls>,
    attached: Attached,
    rings: HostRings,
    slot: &'m DomainSlot,
}

fn frame(to: [u8; 6], from: [u8; 6], len: usize, mark: u8) -> Vec<u8> {
    let mut frame = [&to[..], &from[..], &[0x88, 0xb5]].concat();
    frame.resize(len, mark);
    frame
}

impl Bench {
    fn new() -> Self {
        let switch = EthernetSwitch::new();
        let port = switch.attach("a").unwrap();
        let peer = switch.attach("peer").unwrap();
        let nic = EmulatedNic::new("a", MAC, port.clone()).unwrap();
        let tx_pool = DomainSlot::new_tx_pool().unwrap();
        let slot = DomainSlot::new(DomainId(0), "a", nic.clone(), tx_pool.clone()).unwrap();
        nic.enable_bus_master().unwrap();
        Self { nic, port, peer, slot, tx_pool }
    }

    /// Starts a driver that attaches to the NIC in whatever state its predecessor left it.
    fn live(&self, role: Role) -> Life<'_> {
        let slot = &self.slot;
        let len = (layout::LOG_BASE + layout::LOG_BYTES - layout::CONTROL_BASE) as usize;
        slot.ram.clear(layout::CONTROL_BASE, len).unwrap();
        let rings = (layout::RX_POOL_BASE - layout::TX_POST_BASE) as usize;
        slot.ram.clear(layout::TX_POST_BASE, rings).unwrap();
        let control = slot.control();
        control.magic.store(CONTROL_MAGIC, Ordering::Relaxed);
        control.abi_version.store(ABI_VERSION, Ordering::Relaxed);
        control.role.store(role as u32, Ordering::Relaxed);
        control.tsc_khz.store(1_000_000, Ordering::Relaxed);
        control.dma_iova.store(slot.dma_iova(), Ordering::Relaxed);
        control.rx_pool_iova.store(slot.rx_pool_iova(), Ordering::Relaxed);
        control.set_macs(&[MAC]);
        // SAFETY: these are the only host rings in this test.
        let mut rings = unsafe { slot.host_rings() };
        for buffer in 0..1000 {
            provide(slot, &mut rings, buffer);
        }
        let (memory, bar) = (domain_memory(slot), Bar(self.nic.clone()));
        // SAFETY: the rings were just zeroed, and the life before has ended: tests drop it first.
        let mut domain = unsafe { Domain::new(memory, bar, NoCalls) }.unwrap();
        let attached = domain.attach(&Wall(Instant::now())).unwrap();
        Life { domain, attached, rings, slot }
    }

    fn peer_has(&self) -> Option<Vec<u8>> {
        let mut into = vec![0; MAX_FRAME_BYTES];
        self.peer.receive(&mut into).map(|len| into[..len].to_vec())
    }
}

fn provide(slot: &DomainSlot, rings: &mut HostRings, buffer: u16) {
    let iova = slot.rx_pool_iova() + u64::from(buffer) * BUFFER_BYTES as u64;
    let entry = Entry { iova, buffer, len: BUFFER_BYTES as u16, ..Entry::default() };
    rings.rx_provide.push(entry).unwrap();
    rings.rx_provide.publish();
}

fn domain_memory(slot: &DomainSlot) -> DomainMemory<'_> {
    let base = slot.ram.host_address();
    // SAFETY: the layout places each of these inside the RAM, aligned and apart from each other;
    // all are atomics, valid for every bit pattern, and the RAM is mapped as long as the slot.
    unsafe {
        DomainMemory {
            control: slot.control(),
            status: slot.status(),
            log: &*((base + layout::LOG_BASE) as *const _),
            nic: NicMemory {
                rx_ring: &*((base + layout::DMA_BASE + layout::DMA_RX_RING_OFFSET) as *const _),
                tx_ring: &*((base + layout::DMA_BASE + layout::DMA_TX_RING_OFFSET) as *const _),
                rx_slots: &*((base + layout::RX_SLOTS_BASE) as *const _),
            },
            tx_post: &*((base + layout::TX_POST_BASE) as *const _),
            rx_provide: &*((base + layout::RX_PROVIDE_BASE) as *const _),
            tx_done: &*((base + layout::TX_DONE_BASE) as *const _),
            rx_done: &*((base + layout::RX_DONE_BASE) as *const _),
            rx_pool: &*((base + layout::RX_POOL_BASE) as *const _),
        }
    }
}

impl Life<'_> {
    fn turn(&mut self) {
        serve::turn(&mut self.domain, Domain::rx_return, Domain::tx_provide).unwrap();
    }

    fn post(&mut self, pool: &SharedMemory, buffer: u16, frame: &[u8], entry: Entry) {
        pool.write(u64::from(buffer) * BUFFER_BYTES as u64, frame).unwrap();
        let (iova, len) = (DomainSlot::tx_iova(buffer), frame.len() as u16);
        let frame_len = u32::from(len);
        let entry = Entry { iova, buffer, len, frame_len, ..entry };
        self.rings.tx_post.push(entry).unwrap();
        self.rings.tx_post.publish();
    }

    /// Runs turns of the driver until `holds` returns true, or fails the test.
    fn turn_until(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !holds(self) {
            assert!(Instant::now() < deadline, "never happened: {what}");
            self.turn();
            std::thread::yield_now();
        }
    }

    fn claimed(&mut self) -> Option<u16> {
        let entry = self.rings.tx_done.pop().unwrap()?;
        self.rings.tx_done.release();
        Some(entry.buffer)
    }

    /// Returns the next received frame and gives its buffer back.
    fn received(&mut self) -> Option<Vec<u8>> {
        let entry = self.rings.rx_done.pop().unwrap()?;
        self.rings.rx_done.release();
        let mut bytes = vec![0; usize::from(entry.len)];
        let at = layout::RX_POOL_BASE + u64::from(entry.buffer) * BUFFER_BYTES as u64;
        self.slot.ram.read(at, &mut bytes).unwrap();
        assert_eq!(entry.flags, EntryFlags::NONE);
        provide(self.slot, &mut self.rings, entry.buffer);
        Some(bytes)
    }
}

#[test]
fn the_driver_attaches_without_a_reset_and_keeps_the_link() {
    let bench = Bench::new();
    for _ in 0..3 {
        let life = bench.live(Role::Active);
        assert_eq!(life.attached.path, shared_ring::status::attach::REATTACH);
        assert!(life.attached.link_up);
    }
    assert_eq!(bench.nic.faults(), Default::default());
}

#[test]
fn frames_go_both_ways_many_times_round_the_rings() {
    let bench = Bench::new();
    let mut life = bench.live(Role::Active);
    let mut confirmed = 0;
    for round in 0..2000_u16 {
        let (buffer, len) = (round % 1024, 60 + usize::from(round) % 1455);
        let out = frame(PEER, MAC, len, round as u8);
        let back = frame(MAC, PEER, len, !(round as u8));
        life.post(&bench.tx_pool, buffer, &out, Entry::default());
        bench.peer.send(&back);

        let (mut claimed, mut sent, mut received) = (None, None, None);
        life.turn_until("there and back", |life| {
            claimed = claimed.or_else(|| life.claimed());
            sent = sent.take().or_else(|| bench.peer_has());
            received = received.take().or_else(|| life.received());
            claimed.is_some() && sent.is_some() && received.is_some()
        });

        assert_eq!((claimed, sent, received), (Some(buffer), Some(out), Some(back)));
        confirmed += bench.nic.take_sent();
    }
    assert_eq!(confirmed, 2000, "the NIC confirms what the driver claims");
    assert_eq!(bench.nic.faults(), Default::default());
}

#[test]
fn bursts_lose_nothing_that_fits_the_rings() {
    let bench = Bench::new();
    let mut life = bench.live(Role::Active);
    for burst in 0..20_u16 {
        for number in 0..400_u16 {
            let out = frame(PEER, MAC, 200, number as u8);
            life.post(&bench.tx_pool, (burst * 400 + number) % 1024, &out, Entry::default());
            bench.peer.send(&frame(MAC, PEER, 200, number as u8));
        }
        let (mut claimed, mut sent, mut received) = (0, 0, 0);
        life.turn_until("the whole burst", |life| {
            claimed += std::iter::from_fn(|| life.claimed()).count();
            while let Some(got) = bench.peer_has() {
                assert_eq!(got, frame(PEER, MAC, 200, sent as u8));
                sent += 1;
            }
            while let Some(got) = life.received() {
                assert_eq!(got, frame(MAC, PEER, 200, received as u8));
                received += 1;
            }
            (claimed, sent, received) == (400, 400, 400)
        });
    }
}

#[test]
fn a_standby_hears_nothing_until_its_filters_open() {
    let bench = Bench::new();
    let mut life = bench.live(Role::Standby);
    bench.peer.send(&frame(EVERYONE, PEER, 100, 1));
    bench.peer.send(&frame(MAC, PEER, 100, 2));
    // The NIC receives in order: that the third frame arrives first shows that these two were
    // dropped.
    std::thread::sleep(Duration::from_millis(20));

    bench.nic.open_filters();
    bench.peer.send(&frame(MAC, PEER, 100, 3));

    let mut received = None;
    life.turn_until("a frame", |life| {
        received = life.received();
        received.is_some()
    });
    assert_eq!(received, Some(frame(MAC, PEER, 100, 3)));
}

#[test]
fn a_successor_takes_the_nic_over_from_a_driver_that_died_at_work() {
    let bench = Bench::new();
    for round in 0..20_u8 {
        let mut life = bench.live(Role::Active);
        assert_eq!(life.attached.path, shared_ring::status::attach::REATTACH);
        let out = frame(PEER, MAC, 300, round);
        life.post(&bench.tx_pool, 0, &out, Entry::default());
        life.turn_until("it works", |_| bench.peer_has() == Some(out.clone()));
        for number in 1..200 {
            life.post(&bench.tx_pool, number, &frame(PEER, MAC, 1000, 0xdd), Entry::default());
            bench.peer.send(&frame(MAC, PEER, 1000, 0xdd));
        }
        life.turn();
        drop(life);

        bench.nic.shut_units();
        if round % 2 == 0 {
            bench.nic.quiesce().unwrap();
            bench.nic.enable_bus_master().unwrap();
        }
        while bench.peer_has().is_some() {}
    }
    assert_eq!(bench.nic.faults().dma, 0);
}

#[test]
fn a_dead_link_does_not_keep_a_successor_from_attaching() {
    let bench = Bench::new();
    let mut life = bench.live(Role::Active);
    bench.port.set_link(false);
    life.post(&bench.tx_pool, 0, &frame(PEER, MAC, 300, 1), Entry::default());
    life.turn();
    std::thread::sleep(Duration::from_millis(5));
    drop(life);

    let mut life = bench.live(Role::Active);

    assert_eq!(life.attached.path, shared_ring::status::attach::RESET, "the queue cannot drain");
    bench.port.set_link(true);
    let out = frame(PEER, MAC, 300, 2);
    life.post(&bench.tx_pool, 0, &out, Entry::default());
    // The driver found no link and negotiates, which takes half a second.
    life.turn_until("it works", |_| bench.peer_has() == Some(out.clone()));
}

#[test]
fn the_nic_fills_in_the_checksum_that_an_entry_asks_for() {
    let bench = Bench::new();
    let mut life = bench.live(Role::Active);
    let mut out = frame(PEER, MAC, 14 + 20 + 8 + 32, 0x5a);
    out[12..14].copy_from_slice(&[8, 0]);
    let sum = |bytes: &[u8]| {
        let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
        let total: u32 = words.sum();
        ((total & 0xffff) + (total >> 16)) as u16
    };
    out[14..24].copy_from_slice(&[0x45, 0, 0, 60, 0, 0, 0, 0, 64, 17]);
    out[38..40].copy_from_slice(&40_u16.to_be_bytes());
    let pseudo_header = [&out[26..34], &[0, 17, 0, 40]].concat();
    let seed = sum(&pseudo_header);
    out[40..42].copy_from_slice(&seed.to_be_bytes());
    let offload =
        Entry { flags: EntryFlags::CHECKSUM, csum_start: 34, csum_offset: 6, ..Entry::default() };

    life.post(&bench.tx_pool, 7, &out, offload);

    let mut sent = None;
    life.turn_until("a frame", |_| {
        sent = bench.peer_has();
        sent.is_some()
    });
    let sent = sent.unwrap();
    let whole = sum(&[&pseudo_header[..], &sent[34..]].concat());
    assert_eq!(whole, 0xffff, "the checksum holds");
    assert_eq!(sent[42..], out[42..]);
}

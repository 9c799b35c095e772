//! A bench: a NIC and a peer at one switch, memory, and a driver of a few lines.

use std::time::{Duration, Instant};

use super::super::*;
use crate::DmaAccess;
use crate::registers::{gpie, queue};
use crate::wire::{EthernetSwitch, MAX_FRAME_BYTES, Port};
use platform::memory::SharedMemory;

pub(super) const MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x10];
pub(super) const PEER: [u8; 6] = [2, 0, 0, 0, 0, 0x20];
pub(super) const EVERYONE: [u8; 6] = [0xff; 6];

/// Where the NIC finds what the memory holds: rings and receive buffers first, then transmit
/// buffers that it may only read.
pub(super) const IOVA: u64 = 0x1000_0000;
pub(super) const READ_ONLY_IOVA: u64 = 0x4000_0000;
pub(super) const RX_RING: u64 = 0;
pub(super) const TX_RING: u64 = 0x4000;
const RX_BUFFERS: u64 = 0x8000;
pub(super) const BUFFER_BYTES: u64 = 2048;
pub(super) const READ_ONLY: u64 = 0x8_0000;
pub(super) const MEMORY_BYTES: u64 = 0x10_0000;

/// Ready descriptor: done, end of packet.
pub(super) const DD: u64 = 1;
/// Second word of a transmit descriptor: advanced data, one frame, reported.
pub(super) const WHOLE_FRAME: u64 = 0x2b30_0000;

pub(super) struct Bench {
    pub(super) nic: Arc<EmulatedNic>,
    pub(super) port: Arc<Port>,
    pub(super) peer: Arc<Port>,
    pub(super) memory: Arc<SharedMemory>,
    pub(super) entries: u32,
}

pub(super) fn frame(to: [u8; 6], from: [u8; 6], len: usize) -> Vec<u8> {
    let mut frame = [&to[..], &from[..], &[0x88, 0xb5]].concat();
    let payload = (0..len - frame.len()).map(|byte| byte as u8);
    frame.extend(payload);
    frame
}

/// Waits until `holds`, or fails the test.
pub(super) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(Duration::from_micros(200));
    }
}

impl Bench {
    /// A NIC that no driver has touched, its bus mastering on.
    pub(super) fn bare() -> Self {
        let switch = EthernetSwitch::new();
        let port = switch.attach("nic").unwrap();
        let peer = switch.attach("peer").unwrap();
        let memory = Arc::new(SharedMemory::new(c"bench", MEMORY_BYTES).unwrap());
        let nic = EmulatedNic::new("test", MAC, port.clone()).unwrap();
        let area = |iova, offset, len, access| DmaArea {
            iova,
            memory: memory.clone(),
            offset,
            len,
            access,
        };
        let read_only_bytes = MEMORY_BYTES - READ_ONLY - 0x1000;
        nic.map_dma(&[
            area(IOVA, 0, READ_ONLY, DmaAccess::ReadWrite),
            area(READ_ONLY_IOVA, READ_ONLY, read_only_bytes, DmaAccess::Read),
        ])
        .unwrap();
        nic.enable_bus_master().unwrap();
        Self { nic, port, peer, memory, entries: 64 }
    }

    /// With a driver attached: rings of 64, receive ring full, filters as after a reset, vectors
    /// as the driver domain has them.
    pub(super) fn new() -> Self {
        Self::with_ring(64)
    }

    pub(super) fn with_ring(entries: u32) -> Self {
        let bench = Self { entries, ..Self::bare() };
        bench.attach();
        bench.post_all();
        bench
    }

    pub(super) fn read(&self, offset: u32) -> u32 {
        self.nic.read(offset)
    }

    pub(super) fn write(&self, offset: u32, value: u32) {
        self.nic.write(offset, value);
    }

    /// Programs the NIC; posts no receive buffers.
    pub(super) fn attach(&self) {
        self.write(reg::EIMC, u32::MAX);
        self.disable_queues();
        for (block, ring) in [(reg::RX_QUEUE, RX_RING), (reg::TX_QUEUE, TX_RING)] {
            self.write(block + queue::BASE_LOW, (IOVA + ring) as u32);
            self.write(block + queue::BASE_HIGH, 0);
            self.write(block + queue::LENGTH, self.entries * 16);
        }
        self.write(reg::RX_QUEUE + queue::SRRCTL, 0x0200_0002);
        self.memory.clear(RX_RING, 0x8000).unwrap();
        self.write(reg::RXDCTL, queue::ENABLE);
        self.write(reg::TXDCTL, queue::ENABLE);
        self.write(reg::RCTL, rctl::EN | rctl::BAM | rctl::SECRC);
        self.write(reg::TCTL, tctl::EN | tctl::PSP);
        self.write(reg::GPIE, gpie::MULTIPLE_MSIX | gpie::NSICR);
        self.write(reg::IVAR0, 0x8080);
        self.write(reg::IVAR_MISC, 0x8100);
        self.write(reg::EIAC, 3);
        self.read(reg::ICR);
        self.write(reg::EICR, u32::MAX);
        self.write(reg::IMS, icr::LSC);
        self.write(reg::EIMS, 3);
    }

    pub(super) fn disable_queues(&self) {
        self.write(reg::RXDCTL, 0);
        self.write(reg::TXDCTL, 0);
        eventually("the queues stop", || !self.is_on(reg::RXDCTL) && !self.is_on(reg::TXDCTL));
    }

    pub(super) fn is_on(&self, control: u32) -> bool {
        self.read(control) & queue::ENABLE != 0
    }

    /// Posts a buffer in every receive descriptor but one.
    pub(super) fn post_all(&self) {
        for index in 0..self.entries {
            self.post(index, self.rx_iova(index));
        }
        self.write(reg::RDT, self.entries - 1);
        self.settle();
    }

    /// Writes a receive descriptor, without telling the NIC.
    pub(super) fn post(&self, index: u32, iova: u64) {
        self.put(RX_RING, index, [iova, 0]);
    }

    pub(super) fn rx_offset(&self, index: u32) -> u64 {
        RX_BUFFERS + u64::from(index) * BUFFER_BYTES
    }

    pub(super) fn rx_iova(&self, index: u32) -> u64 {
        IOVA + self.rx_offset(index)
    }

    pub(super) fn put(&self, ring: u64, index: u32, words: [u64; 2]) {
        let at = ring + u64::from(index) * 16;
        self.memory.write(at, &words[0].to_le_bytes()).unwrap();
        self.memory.write(at + 8, &words[1].to_le_bytes()).unwrap();
    }

    pub(super) fn get(&self, ring: u64, index: u32) -> [u64; 2] {
        let at = ring + u64::from(index) * 16;
        [at, at + 8].map(|at| {
            let mut word = [0; 8];
            self.memory.read(at, &mut word).unwrap();
            u64::from_le_bytes(word)
        })
    }

    pub(super) fn is_done(&self, ring: u64, index: u32) -> bool {
        let [_, word] = self.get(ring, index);
        // Receive: bit 0 of the third word; transmit: of the fourth.
        if ring == RX_RING { word & DD != 0 } else { word >> 32 & DD != 0 }
    }

    /// Length and status of a receive descriptor that is done.
    pub(super) fn received(&self, index: u32) -> (u64, u64) {
        eventually("a receive descriptor is done", || self.is_done(RX_RING, index));
        let [_, word] = self.get(RX_RING, index);
        (word >> 32 & 0xffff, word & 0xffff_ffff)
    }

    pub(super) fn bytes(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.memory.read(offset, &mut bytes).unwrap();
        bytes
    }

    /// Puts bytes into a transmit buffer and says where the NIC finds them.
    pub(super) fn load(&self, buffer: u32, bytes: &[u8]) -> u64 {
        let offset = u64::from(buffer) * BUFFER_BYTES;
        self.memory.write(READ_ONLY + offset, bytes).unwrap();
        READ_ONLY_IOVA + offset
    }

    /// Writes a transmit descriptor for a whole frame, without telling the NIC.
    pub(super) fn put_frame(&self, index: u32, frame: &[u8]) {
        let iova = self.load(index, frame);
        let len = frame.len() as u64;
        self.put(TX_RING, index, [iova, WHOLE_FRAME | len | len << 46]);
    }

    /// Sends a frame by descriptor `index`.
    pub(super) fn send(&self, index: u32, frame: &[u8]) {
        self.put_frame(index, frame);
        self.write(reg::TDT, (index + 1) % self.entries);
    }

    /// Waits until the engine has done all that was asked of it.
    pub(super) fn settle(&self) {
        for _ in 0..2 {
            self.nic.settle("settle").unwrap();
        }
    }

    /// Next frame that the peer gets.
    pub(super) fn peer_gets(&self) -> Vec<u8> {
        let mut frame = None;
        eventually("the peer gets a frame", || {
            frame = self.peer_has();
            frame.is_some()
        });
        frame.unwrap()
    }

    pub(super) fn peer_has(&self) -> Option<Vec<u8>> {
        let mut into = vec![0; MAX_FRAME_BYTES];
        self.peer.receive(&mut into).map(|len| into[..len].to_vec())
    }

    pub(super) fn messages(&self, event: &EventFd) -> u64 {
        event.read().unwrap_or(0)
    }
}

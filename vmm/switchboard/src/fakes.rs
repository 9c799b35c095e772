//! The other sides of the switchboard, played by tests: a NIC, a domain, a guest.

pub(crate) mod rig;
pub(crate) mod tcp;

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use shared_ring::layout::*;
use shared_ring::{Entry, EntryFlags};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use microvm::domain::{DomainId, DomainRings, DomainSlot};
use nic::NullNic;

use crate::port::{
    Call, DirtyLog, Foreign, GuestMemory, Kick, MappedRegion, Marks, Offloads, RegionSpec, Vring,
    VringConfig,
};
use crate::violation::{Violation, ViolationSink};

/// Remembers violations.
#[derive(Default)]
pub(crate) struct Violations(pub(crate) Mutex<Vec<(DomainId, u32, Violation)>>);

impl ViolationSink for Violations {
    fn violation(&self, id: DomainId, epoch: u32, violation: Violation) {
        self.0.lock().unwrap().push((id, epoch, violation));
    }
}

/// Zeroes what belongs to one life, as a rebuild does.
pub(crate) fn prepare(slot: &DomainSlot) {
    slot.ram.clear(CONTROL_BASE, (RX_POOL_BASE - CONTROL_BASE) as usize).unwrap();
}

/// The driver's side of one life.
pub(crate) struct FakeDomain {
    pub(crate) slot: Arc<DomainSlot>,
    epoch: u32,
    pub(crate) rings: DomainRings,
    /// Entries taken from TX_POST and not claimed.
    pub(crate) in_hand: VecDeque<Entry>,
    /// Buffers taken from RX_PROVIDE.
    pub(crate) buffers: VecDeque<Entry>,
}

impl FakeDomain {
    pub(crate) fn new(slot: &Arc<DomainSlot>, epoch: u32) -> Self {
        slot.note_attached(epoch);
        // SAFETY: a test makes one fake for each life, and runs no domain.
        let rings = unsafe { slot.domain_rings() };
        let (in_hand, buffers) = (VecDeque::new(), VecDeque::new());
        Self { slot: slot.clone(), epoch, rings, in_hand, buffers }
    }

    /// Takes up to `most` posted entries in hand and returns the frames they make.
    pub(crate) fn take_posted(&mut self, most: usize) -> Vec<Vec<u8>> {
        let mut frames: Vec<Vec<u8>> = Vec::new();
        let mut more = false;
        for _ in 0..most {
            let Some(entry) = self.rings.tx_post.pop().unwrap() else { break };
            assert_eq!(entry.epoch, self.epoch as u16);
            assert_eq!(entry.iova, DomainSlot::tx_iova(entry.buffer));
            let mut bytes = vec![0; usize::from(entry.len)];
            let offset = u64::from(entry.buffer) * BUFFER_BYTES as u64;
            self.slot.tx_pool.read(offset, &mut bytes).unwrap();
            match frames.last_mut().filter(|_| more) {
                Some(frame) => frame.extend(bytes),
                None => frames.push(bytes),
            }
            more = entry.flags.contains(EntryFlags::MORE);
            self.in_hand.push_back(entry);
        }
        self.rings.tx_post.release();
        frames
    }

    /// Claims the oldest `count` buffers in hand.
    pub(crate) fn claim(&mut self, count: usize) {
        for _ in 0..count {
            let entry = self.in_hand.pop_front().unwrap();
            self.claim_raw(Entry { buffer: entry.buffer, ..self.entry() });
        }
    }

    pub(crate) fn claim_raw(&mut self, entry: Entry) {
        self.rings.tx_done.push(entry).unwrap();
        self.rings.tx_done.publish();
    }

    /// An entry of this life, otherwise empty.
    pub(crate) fn entry(&self) -> Entry {
        Entry { epoch: self.epoch as u16, ..Entry::default() }
    }

    /// Takes an empty receive buffer.
    pub(crate) fn take_buffer(&mut self) -> Entry {
        while let Some(entry) = self.rings.rx_provide.pop().unwrap() {
            self.buffers.push_back(entry);
        }
        self.rings.rx_provide.release();
        self.buffers.pop_front().expect("an empty receive buffer")
    }

    /// Has the NIC write a frame into an empty buffer.
    pub(crate) fn dma(&mut self, frame: &[u8]) -> u16 {
        let buffer = self.take_buffer().buffer;
        let offset = RX_POOL_BASE + u64::from(buffer) * BUFFER_BYTES as u64;
        self.slot.ram.write(offset, frame).unwrap();
        buffer
    }

    /// Receives a frame and publishes it.
    pub(crate) fn receive(&mut self, frame: &[u8]) {
        for entry in self.receive_parts(frame) {
            self.rings.rx_done.push(entry).unwrap();
        }
        self.rings.rx_done.publish();
    }

    /// Has the NIC write a frame into as many buffers as it takes. Returns the entries of it.
    pub(crate) fn receive_parts(&mut self, frame: &[u8]) -> Vec<Entry> {
        let parts = frame.chunks(BUFFER_BYTES);
        let last = parts.len() - 1;
        let entry = |(n, part): (usize, &[u8])| {
            let flags = if n < last { EntryFlags::MORE } else { EntryFlags::NONE };
            let (buffer, len) = (self.dma(part), part.len() as u16);
            Entry { buffer, len, flags, ..self.entry() }
        };
        parts.enumerate().map(entry).collect()
    }

    pub(crate) fn receive_raw(&mut self, entry: Entry) {
        self.rings.rx_done.push(entry).unwrap();
        self.rings.rx_done.publish();
    }

    /// Completes a receive descriptor without publishing it.
    pub(crate) fn complete(&mut self, descriptor: usize, frame: &[u8]) {
        self.complete_part(descriptor, frame, true);
    }

    /// The same with a part of a frame.
    pub(crate) fn complete_part(&mut self, descriptor: usize, part: &[u8], is_last: bool) {
        let buffer = self.dma(part);
        self.slot.rx_slot(descriptor).store(buffer, Ordering::Relaxed);
        let end = if is_last { 0b10 } else { 0 };
        self.write_back(descriptor, 1 | end | (part.len() as u64) << 32);
    }

    pub(crate) fn write_back(&self, descriptor: usize, word: u64) {
        let offset = DMA_BASE + DMA_RX_RING_OFFSET + 16 * descriptor as u64 + 8;
        self.slot.ram.shape::<AtomicU64>(offset).unwrap().store(word, Ordering::Release);
    }

    pub(crate) fn notify(&self) {
        if self.slot.control().switchboard_asleep.0.load(Ordering::SeqCst) != 0 {
            self.slot.notify.write(1).unwrap();
        }
    }
}

/// Descriptors of a fake guest's virtqueues.
pub(crate) const QUEUE: u16 = 256;
/// Bytes of a fake guest's memory.
pub(crate) const GUEST_BYTES: u64 = 4 << 20;
/// Bytes of a log that covers it.
pub(crate) const LOG_BYTES: u64 = (GUEST_BASE + GUEST_BYTES) / 4096 / 8;
/// Where a fake guest's memory begins, guest-physical; not zero, so that offsets show.
pub(crate) const GUEST_BASE: u64 = 0x10_0000;

/// Bytes of the buffer of a descriptor's own.
const BUFFER_OF_DESCRIPTOR: usize = 4096;

/// The driver's side of a virtqueue. Descriptor *i* has a buffer of 4 KiB of its own.
pub(crate) struct FakeRing {
    memory: Arc<GuestMemoryMmap<()>>,
    pub(crate) base: u64,
    buffers: u64,
    next: u16,
    pub(crate) available: u16,
    seen: u16,
    pub(crate) kick: EventFd,
    pub(crate) call: EventFd,
}

const NEXT: u16 = 1;
const WRITE: u16 = 2;

impl FakeRing {
    fn new(memory: &Arc<GuestMemoryMmap<()>>, index: u64) -> Self {
        let event = || EventFd::new(EFD_NONBLOCK).unwrap();
        Self {
            memory: memory.clone(),
            base: GUEST_BASE + index * 0x4000,
            buffers: GUEST_BASE + 0x10_0000 * (index + 1),
            next: 0,
            available: 0,
            seen: 0,
            kick: event(),
            call: event(),
        }
    }

    pub(crate) fn descriptors(&self) -> u64 {
        self.base
    }
    pub(crate) fn avail(&self) -> u64 {
        self.base + 0x1000
    }
    pub(crate) fn used(&self) -> u64 {
        self.base + 0x2000
    }

    /// Address of a descriptor's own buffer.
    pub(crate) fn buffer(&self, descriptor: u16) -> u64 {
        self.buffers + u64::from(descriptor) * BUFFER_OF_DESCRIPTOR as u64
    }

    pub(crate) fn set_descriptor(&self, n: u16, address: u64, len: u32, flags: u16, next: u16) {
        let at = self.descriptors() + 16 * u64::from(n);
        let word = u64::from(len) | u64::from(flags) << 32 | u64::from(next) << 48;
        self.memory.write_obj(address, GuestAddress(at)).unwrap();
        self.memory.write_obj(word, GuestAddress(at + 8)).unwrap();
    }

    /// Makes a chain available that begins at a descriptor.
    pub(crate) fn offer(&mut self, head: u16) {
        let at = self.avail() + 4 + 2 * u64::from(self.available % QUEUE);
        self.memory.write_obj(head, GuestAddress(at)).unwrap();
        self.available = self.available.wrapping_add(1);
        let index = GuestAddress(self.avail() + 2);
        self.memory.store(self.available, index, Ordering::Release).unwrap();
    }

    /// Makes a chain of buffers available: `(bytes, writable)` each. Returns its descriptors.
    pub(crate) fn add(&mut self, parts: &[(u32, bool)]) -> Vec<u16> {
        let chain = self.chain(parts);
        self.offer(chain[0]);
        chain
    }

    /// Describes a chain of buffers without making it available.
    pub(crate) fn chain(&mut self, parts: &[(u32, bool)]) -> Vec<u16> {
        let first = self.next;
        let at = |n: usize| (first + n as u16) % QUEUE;
        for (n, (len, writable)) in parts.iter().enumerate() {
            let more = if n + 1 < parts.len() { NEXT } else { 0 };
            let flags = more | if *writable { WRITE } else { 0 };
            self.set_descriptor(at(n), self.buffer(at(n)), *len, flags, at(n + 1));
        }
        self.next = at(parts.len());
        (0..parts.len()).map(at).collect()
    }

    /// Sends a frame behind an empty header.
    pub(crate) fn send(&mut self, frame: &[u8]) {
        self.send_behind(&[0; 12], frame);
    }

    /// Sends a frame behind a header, in as few buffers as hold both.
    pub(crate) fn send_behind(&mut self, header: &[u8; 12], frame: &[u8]) {
        let bytes = [header.as_slice(), frame].concat();
        let pieces: Vec<&[u8]> = bytes.chunks(BUFFER_OF_DESCRIPTOR).collect();
        let parts: Vec<_> = pieces.iter().map(|piece| (piece.len() as u32, false)).collect();
        let chain = self.chain(&parts);
        for (descriptor, piece) in chain.iter().zip(&pieces) {
            let address = GuestAddress(self.buffer(*descriptor));
            self.memory.write_slice(piece, address).unwrap();
        }
        self.offer(chain[0]);
    }

    /// The next chain that came back: head and bytes.
    pub(crate) fn take_used(&mut self) -> Option<(u16, u32)> {
        let index = GuestAddress(self.used() + 2);
        if self.memory.load::<u16>(index, Ordering::Acquire).unwrap() == self.seen {
            return None;
        }
        let at = self.used() + 4 + 8 * u64::from(self.seen % QUEUE);
        self.seen = self.seen.wrapping_add(1);
        let [head, bytes]: [u32; 2] = [
            self.memory.read_obj(GuestAddress(at)).unwrap(),
            self.memory.read_obj(GuestAddress(at + 4)).unwrap(),
        ];
        Some((head as u16, bytes))
    }

    /// Number of chains that came back.
    pub(crate) fn drain_used(&mut self) -> usize {
        std::iter::from_fn(|| self.take_used()).count()
    }

    /// The next received frame, from chains of one buffer each, with its header.
    pub(crate) fn take_received(&mut self) -> Option<(Vec<u8>, Vec<u8>)> {
        let (head, bytes) = self.take_used()?;
        let mut whole = self.read(self.buffer(head), bytes as usize);
        let merged = whole.get(10).copied().unwrap_or(1);
        for _ in 1..merged {
            let (head, bytes) = self.take_used().expect("all parts of a merged frame at once");
            whole.extend(self.read(self.buffer(head), bytes as usize));
        }
        let frame = whole.split_off(12.min(whole.len()));
        Some((whole, frame))
    }

    pub(crate) fn read(&self, address: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.memory.read_slice(&mut bytes, GuestAddress(address)).unwrap();
        bytes
    }

    /// Asks for an interrupt when the used index passes `index` (EVENT_IDX).
    pub(crate) fn set_used_event(&self, index: u16) {
        let at = GuestAddress(self.avail() + 4 + 2 * u64::from(QUEUE));
        self.memory.store(index, at, Ordering::Release).unwrap();
    }

    /// At which available index the device wants a kick (EVENT_IDX).
    pub(crate) fn avail_event(&self) -> u16 {
        let at = GuestAddress(self.used() + 4 + 8 * u64::from(QUEUE));
        self.memory.load(at, Ordering::Acquire).unwrap()
    }

    pub(crate) fn kick(&self) {
        self.kick.write(1).unwrap();
    }

    /// Interrupts since the last call.
    pub(crate) fn calls(&self) -> u64 {
        self.call.read().unwrap_or(0)
    }
}

/// A guest with its memory and two virtqueues.
pub(crate) struct FakeGuest {
    pub(crate) file: File,
    pub(crate) memory: Arc<GuestMemoryMmap<()>>,
    pub(crate) rx: FakeRing,
    pub(crate) tx: FakeRing,
    pub(crate) mergeable: bool,
    pub(crate) event_idx: bool,
    /// Where writes are marked, of [`LOG_BYTES`].
    pub(crate) log: Option<File>,
    /// Signalled after marks.
    pub(crate) logged: EventFd,
}

/// A memfd of so many bytes.
pub(crate) fn memfd(bytes: u64) -> File {
    // SAFETY: a C string; the fresh descriptor has one owner.
    let file = unsafe {
        let fd = libc::memfd_create(c"guest".as_ptr(), libc::MFD_CLOEXEC);
        assert!(fd >= 0);
        File::from_raw_fd(fd)
    };
    file.set_len(bytes).unwrap();
    file
}

/// The same file as a front-end passes it.
pub(crate) fn foreign(file: &File) -> Foreign {
    file.try_clone().unwrap().into()
}

/// The pages that are marked in a log that a whole file is.
pub(crate) fn marked_pages(file: &File) -> Vec<usize> {
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    std::os::unix::fs::FileExt::read_exact_at(file, &mut bytes, 0).unwrap();
    (0..8 * bytes.len()).filter(|page| bytes[page / 8] >> (page % 8) & 1 != 0).collect()
}

/// A duplicate of a descriptor.
pub(crate) fn duplicate(fd: &impl AsRawFd) -> OwnedFd {
    // SAFETY: a fresh descriptor with one owner.
    unsafe { OwnedFd::from_raw_fd(libc::dup(fd.as_raw_fd())) }
}

impl FakeGuest {
    pub(crate) fn new() -> Self {
        let file = memfd(GUEST_BYTES);
        let offset = vm_memory::FileOffset::new(file.try_clone().unwrap(), 0);
        let range = (GuestAddress(GUEST_BASE), GUEST_BYTES as usize, Some(offset));
        let memory = Arc::new(GuestMemoryMmap::from_ranges_with_files([range]).unwrap());
        let (rx, tx) = (FakeRing::new(&memory, 0), FakeRing::new(&memory, 1));
        let (log, logged) = (None, EventFd::new(EFD_NONBLOCK).unwrap());
        Self { file, memory, rx, tx, mergeable: true, event_idx: false, log, logged }
    }

    /// The memory as a back-end maps it.
    pub(crate) fn shared(&self) -> Arc<GuestMemory> {
        let spec = RegionSpec {
            guest_address: GUEST_BASE,
            bytes: GUEST_BYTES,
            user_address: 0x7000_0000,
            file_offset: 0,
        };
        let region = Arc::new(MappedRegion::map(spec, &foreign(&self.file)).unwrap());
        Arc::new(GuestMemory::new(&[region]).unwrap())
    }

    pub(crate) fn config(&self, ring: &FakeRing, memory: &Arc<GuestMemory>) -> VringConfig {
        VringConfig {
            size: u32::from(QUEUE),
            descriptors: ring.descriptors(),
            available: ring.avail(),
            used: ring.used(),
            memory: memory.clone(),
            kick: Kick::new(duplicate(&ring.kick)),
            call: Call::new(duplicate(&ring.call)).unwrap(),
            error: Call::default(),
            enabled: true,
            event_idx: self.event_idx,
            mergeable: self.mergeable,
            header_bytes: 12,
            offloads: Offloads { checksums: true, tcp4: true, tcp6: true },
            marks: self.marks(ring),
        }
    }

    /// Everything is marked once there is a log.
    fn marks(&self, ring: &FakeRing) -> Marks {
        let log = self.log.as_ref();
        let log = log.map(|file| Arc::new(DirtyLog::map(LOG_BYTES, 0, &foreign(file)).unwrap()));
        let used = log.clone().map(|log| (log, ring.used()));
        Marks { frames: log, used, call: Call::new(duplicate(&self.logged)).unwrap() }
    }

    /// Both virtqueues, as a connection would start them.
    pub(crate) fn vrings(&self) -> [Box<Vring>; 2] {
        let memory = self.shared();
        [&self.rx, &self.tx].map(|ring| Box::new(Vring::new(self.config(ring, &memory)).unwrap()))
    }
}

/// The guest's MAC in tests.
pub(crate) const MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 2];

/// A frame of `len` bytes from a station to the guest, or from the guest, numbered in its body.
pub(crate) fn frame(from_guest: bool, number: u32, len: usize) -> Vec<u8> {
    let mut frame = vec![number as u8; len];
    let other = [0x52, 0x54, 0, 0, 0, 1];
    let (to, from) = if from_guest { (other, MAC) } else { (MAC, other) };
    frame[..6].copy_from_slice(&to);
    frame[6..12].copy_from_slice(&from);
    frame[12..14].copy_from_slice(&[0x88, 0xb5]);
    if len >= 18 {
        frame[14..18].copy_from_slice(&number.to_le_bytes());
    }
    frame
}

/// Two slots on fake NICs with a common pool.
pub(crate) fn slots() -> (Vec<Arc<DomainSlot>>, [Arc<NullNic>; 2]) {
    let pool = DomainSlot::new_tx_pool().unwrap();
    let nics = [NullNic::new().unwrap(), NullNic::new().unwrap()];
    let slot = |n: usize| {
        let id = DomainId(n as u8);
        let slot = DomainSlot::new(id, ["a", "b"][n], nics[n].clone(), pool.clone()).unwrap();
        prepare(&slot);
        Arc::new(slot)
    };
    (vec![slot(0), slot(1)], nics)
}

//! The driver's side of a virtqueue, which tests can use correctly or incorrectly.

use std::sync::Arc;

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::memory::{GUEST_BASE, GuestRam};

/// Descriptor flag: another descriptor follows (virtio 1.3, 2.7.5).
pub const NEXT: u16 = 1;
/// Descriptor flag: the device writes to the buffer.
pub const WRITE: u16 = 2;

/// Number of descriptors of a ring, each with a buffer of its own.
const SIZE: u16 = 256;
const BUFFER_BYTES: u64 = 4096;

/// A virtqueue as its driver sees it.
pub struct DriverRing {
    ram: Arc<GuestRam>,
    /// Index of the queue: 0 receives, 1 transmits.
    pub index: u32,
    base: u64,
    buffers: u64,
    next: u16,
    available: u16,
    seen: u16,
    kick: EventFd,
    call: EventFd,
}

impl DriverRing {
    pub(super) fn new(ram: &Arc<GuestRam>, index: u32) -> Self {
        let event = || EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).expect("an eventfd");
        Self {
            ram: ram.clone(),
            index,
            base: GUEST_BASE + u64::from(index) * 0x4000,
            buffers: GUEST_BASE + 0x10_0000 * (u64::from(index) + 1),
            next: 0,
            available: 0,
            seen: 0,
            kick: event(),
            call: event(),
        }
    }

    /// Number of descriptors.
    pub fn size(&self) -> u16 {
        SIZE
    }

    /// Guest-physical address of the descriptor table.
    pub fn descriptors(&self) -> u64 {
        self.base
    }

    /// Guest-physical address of the available ring.
    pub fn avail(&self) -> u64 {
        self.base + 0x1000
    }

    /// Guest-physical address of the used ring.
    pub fn used(&self) -> u64 {
        self.base + 0x2000
    }

    /// Address of a descriptor's own buffer of 4 KiB.
    pub fn buffer(&self, descriptor: u16) -> u64 {
        self.buffers + u64::from(descriptor) * BUFFER_BYTES
    }

    /// The eventfd for kicks.
    pub fn kick_event(&self) -> &EventFd {
        &self.kick
    }

    /// The eventfd for calls (interrupts).
    pub fn call_event(&self) -> &EventFd {
        &self.call
    }

    /// Writes a descriptor into the table.
    pub fn set_descriptor(&self, n: u16, address: u64, len: u32, flags: u16, next: u16) {
        self.write_descriptor(self.descriptors() + 16 * u64::from(n), address, len, flags, next);
    }

    /// Writes a descriptor at any address, for indirect tables.
    pub fn write_descriptor(&self, at: u64, address: u64, len: u32, flags: u16, next: u16) {
        let mut bytes = address.to_le_bytes().to_vec();
        bytes.extend(len.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        bytes.extend(next.to_le_bytes());
        self.ram.write(at, &bytes);
    }

    /// Makes a chain available that begins at a descriptor, without a kick.
    pub fn offer(&mut self, head: u16) {
        let at = self.avail() + 4 + 2 * u64::from(self.available % SIZE);
        self.ram.write(at, &head.to_le_bytes());
        self.available = self.available.wrapping_add(1);
        self.ram.store(self.avail() + 2, self.available);
    }

    /// Head of the chain that [`Self::add`] will make.
    pub fn next_head(&self) -> u16 {
        self.next
    }

    /// Makes a chain of buffers available, given as `(bytes, flags)` each; returns its head.
    pub fn add(&mut self, parts: &[(u32, u16)]) -> u16 {
        let first = self.next;
        let at = |n: usize| (first + n as u16) % SIZE;
        for (n, (len, flags)) in parts.iter().enumerate() {
            let more = if n + 1 < parts.len() { NEXT } else { 0 };
            self.set_descriptor(at(n), self.buffer(at(n)), *len, flags | more, at(n + 1));
        }
        self.next = at(parts.len());
        self.offer(first);
        first
    }

    /// Describes a chain of a single buffer in each descriptor, and enters the chains in turn in
    /// the available ring, for [`Self::repeat`]. Nothing is made available.
    pub fn prepare(&mut self, parts: &[(u32, u16); 1]) {
        for n in 0..SIZE {
            let (len, flags) = parts[0];
            self.set_descriptor(n, self.buffer(n), len, flags, 0);
            self.ram.write(self.avail() + 4 + 2 * u64::from(n), &n.to_le_bytes());
        }
    }

    /// Makes the next chains of [`Self::prepare`] available, in turn. The device must have used
    /// them, and in order.
    pub fn repeat(&mut self, chains: u16) {
        self.available = self.available.wrapping_add(chains);
        self.ram.store(self.avail() + 2, self.available);
    }

    /// Number of chains made available that have not come back.
    pub fn outstanding(&self) -> u16 {
        self.available.wrapping_sub(self.used_index())
    }

    /// Number of chains made available so far, modulo 2^16.
    pub fn available(&self) -> u16 {
        self.available
    }

    /// The device's position in the used ring.
    pub fn used_index(&self) -> u16 {
        self.ram.load(self.used() + 2)
    }

    /// Returns head and byte count of the next chain that came back.
    pub fn take_used(&mut self) -> Option<(u16, u32)> {
        if self.used_index() == self.seen {
            return None;
        }
        let at = self.used() + 4 + 8 * u64::from(self.seen % SIZE);
        self.seen = self.seen.wrapping_add(1);
        let element = self.ram.read(at, 8);
        let word = |from| {
            let bytes: [u8; 4] = element[from..from + 4].try_into().unwrap_or_default();
            u32::from_le_bytes(bytes)
        };
        Some((word(0) as u16, word(4)))
    }

    /// Tells the device to check the ring.
    pub fn kick(&self) {
        // A full eventfd is readable already.
        let _ = self.kick.write(1);
    }

    /// Returns how many interrupts came since the last time that this was called.
    pub fn calls(&self) -> u64 {
        self.call.read().unwrap_or(0)
    }
}

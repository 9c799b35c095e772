//! The transmit engine (i210 datasheet §7.2): descriptors → frame → wire → write-back.

use std::sync::atomic::Ordering;

use super::cache::DescriptorCache;
use super::device::Device;
use super::dma::{Descriptor, DmaView};
use super::frame_check::frame_check;
use super::offload::{BadContext, Context};
use super::queue::{Phase, Ring};
use super::segment::segments;
use super::statistics::Counter;
use crate::registers::tctl;
use crate::wire::MAX_FRAME_BYTES;

/// Descriptors of one turn.
const BATCH: usize = 64;
/// Descriptors on the chip.
const FETCHED: usize = 24;
/// Most bytes of a packet to be cut into segments, headers included.
const LARGEST_PACKET_BYTES: usize = (64 << 10) + 512;
/// Shorter packets confuse the hardware even where it pads (§7.2.1).
const LEAST_PACKET_BYTES: usize = 17;
const LEAST_FRAME_BYTES: usize = 60;
const FRAME_CHECK_BYTES: usize = 4;

/// Fields of a descriptor's second word.
mod field {
    pub(super) const LENGTH: u64 = 0xffff;
    pub(super) const TYPE_SHIFT: u32 = 20;
    pub(super) const TYPE_CONTEXT: u64 = 2;
    pub(super) const TYPE_DATA: u64 = 3;
    pub(super) const EOP: u64 = 1 << 24;
    pub(super) const IFCS: u64 = 1 << 25;
    pub(super) const RS: u64 = 1 << 27;
    pub(super) const DEXT: u64 = 1 << 29;
    pub(super) const TSE: u64 = 1 << 31;
    pub(super) const DONE: u64 = 1 << 32;
    pub(super) const CONTEXT_INDEX: u64 = 1 << 36;
    pub(super) const IXSM: u64 = 1 << 40;
    pub(super) const TXSM: u64 = 1 << 41;
    pub(super) const PAYLOAD_SHIFT: u32 = 46;
}

/// Transmit queue 0.
pub(super) struct Transmitter {
    cache: DescriptorCache<FETCHED>,
    contexts: [Context; 2],
    packet: Packet,
    segment: Box<[u8]>,
}

/// A packet that is being put together from its descriptors.
struct Packet {
    bytes: Box<[u8]>,
    len: usize,
    /// Second word of the first descriptor: all flags count there.
    flags: Option<u64>,
    /// A part could not be read, or there is no room for it.
    is_broken: bool,
}

impl Packet {
    fn clear(&mut self) {
        (self.len, self.flags, self.is_broken) = (0, None, false);
    }

    fn append(&mut self, [address, word]: Descriptor, dma: &DmaView<'_>) {
        self.flags.get_or_insert(word);
        let len = (word & field::LENGTH) as usize;
        let place = self.bytes.get_mut(self.len..self.len + len);
        let is_read = place.is_some_and(|place| dma.read(address, place).is_ok());
        self.is_broken |= !is_read;
        self.len += if is_read { len } else { 0 };
    }
}

/// A packet that does not go out: the descriptors contradict each other or the wire.
struct Refused;

impl From<BadContext> for Refused {
    fn from(_: BadContext) -> Self {
        Self
    }
}

impl Transmitter {
    pub(super) fn new() -> Self {
        let bytes = |count| vec![0; count].into_boxed_slice();
        let packet =
            Packet { bytes: bytes(LARGEST_PACKET_BYTES), len: 0, flags: None, is_broken: false };
        Self {
            cache: DescriptorCache::new(),
            contexts: [Context::new([0; 2]); 2],
            packet,
            segment: bytes(MAX_FRAME_BYTES),
        }
    }

    /// Sends what the tail has released; says whether there is more that could go out now.
    pub(super) fn turn(&mut self, device: &Device, dma: &DmaView<'_>) -> bool {
        let mut reported = false;
        let mut more = true;
        for _ in 0..BATCH {
            match self.step(device, dma) {
                Some(reports) => reported |= reports,
                None => {
                    more = false;
                    break;
                }
            }
        }
        if reported {
            device.interrupts.raise_transmit();
        }
        more
    }

    /// Uses one descriptor and says whether it was reported; `None` if there is nothing to do.
    fn step(&mut self, device: &Device, dma: &DmaView<'_>) -> Option<bool> {
        let position = device.tx.position();
        if self.cache.follow(position) {
            self.packet.clear();
        }
        let ring = device.tx.ring();
        match position.phase {
            Phase::Disabled => return None,
            Phase::Enabled if device.may_master() => self.cache.refill(&ring, dma),
            Phase::Draining if self.may_let_go(device) => {
                self.cache.clear();
                self.packet.clear();
                device.tx.drained(position.generation);
                return None;
            }
            _ => {}
        }
        if !device.may_transmit() {
            return None;
        }
        let descriptor = self.cache.first()?;
        let reports = self.consume(device, dma, &ring, descriptor);
        self.cache.pop(&ring);
        device.tx.advance(position.generation, self.cache.head()).then_some(reports)
    }

    /// A queue that is told to stop sends what was fetched, or drops it where the unit is off. It
    /// can do neither while the link is down, and then never stops, short of a reset.
    fn may_let_go(&self, device: &Device) -> bool {
        let unit_off = device.transmit_control.load(Ordering::SeqCst) & tctl::EN == 0;
        self.cache.is_empty() || (unit_off && device.link_up()) || !device.may_master()
    }

    fn consume(
        &mut self,
        device: &Device,
        dma: &DmaView<'_>,
        ring: &Ring,
        descriptor: Descriptor,
    ) -> bool {
        let word = descriptor[1];
        let kind = word >> field::TYPE_SHIFT & 0xf;
        if word & field::DEXT == 0 || kind == field::TYPE_DATA {
            self.packet.append(descriptor, dma);
            if word & field::EOP != 0 {
                if self.emit(device).is_err() {
                    device.count_descriptor_fault();
                }
                self.packet.clear();
            }
        } else if kind == field::TYPE_CONTEXT {
            self.contexts[context_index(word)] = Context::new(descriptor);
        } else {
            device.count_descriptor_fault();
        }
        self.report(device, dma, ring, word)
    }

    /// Writes back what the driver asked to have reported, after the frame is on the wire.
    fn report(&self, device: &Device, dma: &DmaView<'_>, ring: &Ring, word: u64) -> bool {
        if word & field::RS == 0 {
            return false;
        }
        let index = self.cache.head();
        let _ = match device.tx.head_write_back() {
            Some(address) => {
                let next = if index + 1 < ring.entries { index + 1 } else { 0 };
                dma.write_u32(address, next)
            }
            None => dma.write_descriptor_status(ring.address(index), word | field::DONE),
        };
        true
    }

    fn emit(&mut self, device: &Device) -> Result<(), Refused> {
        let flags = self.packet.flags.unwrap_or(0);
        let len = self.packet.len;
        if self.packet.is_broken {
            return Err(Refused);
        }
        if len == 0 {
            // A null packet: drivers end with one what a predecessor may have left half done.
            return Ok(());
        }
        let is_advanced = flags & field::DEXT != 0;
        if is_advanced && flags & field::TSE != 0 {
            return self.emit_segments(device, flags);
        }
        let announced = (flags >> field::PAYLOAD_SHIFT) as usize;
        let longest = MAX_FRAME_BYTES.min(device.settings.longest_packet());
        if len > longest || (is_advanced && announced != len) {
            return Err(Refused);
        }
        let frame = &mut self.packet.bytes[..len];
        if is_advanced {
            let context = &self.contexts[context_index(flags)];
            if flags & field::IXSM != 0 {
                context.insert_ip(frame)?;
            }
            if flags & field::TXSM != 0 {
                context.insert_transport(frame, 0)?;
            }
        }
        let len = self.finish(device, flags)?;
        device.put_on_wire(&self.packet.bytes[..len]);
        Ok(())
    }

    /// Padding and frame check sequence: how much of the packet is a frame.
    fn finish(&mut self, device: &Device, flags: u64) -> Result<usize, Refused> {
        let len = self.packet.len;
        if flags & field::IFCS == 0 {
            // The driver says that the last four bytes are the check sequence. If they are not,
            // whoever receives the frame drops it.
            let (frame, check) =
                self.packet.bytes[..len].split_last_chunk::<FRAME_CHECK_BYTES>().ok_or(Refused)?;
            let is_frame = frame.len() >= LEAST_FRAME_BYTES && *check == frame_check(frame);
            return if is_frame { Ok(frame.len()) } else { Err(Refused) };
        }
        let pads = device.transmit_control.load(Ordering::SeqCst) & tctl::PSP != 0;
        if len >= LEAST_FRAME_BYTES {
            return Ok(len);
        }
        if !pads || len < LEAST_PACKET_BYTES {
            return Err(Refused);
        }
        self.packet.bytes[len..LEAST_FRAME_BYTES].fill(0);
        Ok(LEAST_FRAME_BYTES)
    }

    fn emit_segments(&mut self, device: &Device, flags: u64) -> Result<(), Refused> {
        let context = self.contexts[context_index(flags)];
        let packet = &self.packet.bytes[..self.packet.len];
        let headers = context.transport_at() + context.transport_bytes;
        let announced = (flags >> field::PAYLOAD_SHIFT) as usize;
        if flags & field::TXSM == 0 || headers + announced != packet.len() {
            return Err(Refused);
        }
        let insert_ip = flags & field::IXSM != 0;
        segments(&context, packet, insert_ip, &mut self.segment, |segment| {
            device.put_on_wire(segment);
            device.may_transmit()
        })?;
        device.statistics.count(Counter::Tsctc);
        Ok(())
    }
}

/// The i210 keeps two contexts a queue; one bit of the index counts.
fn context_index(word: u64) -> usize {
    usize::from(word & field::CONTEXT_INDEX != 0)
}

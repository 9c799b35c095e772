//! The receive engine (i210 datasheet §7.1): wire → filters → descriptor → buffer → write-back.

use std::sync::atomic::Ordering;

use super::cache::DescriptorCache;
use super::device::Device;
use super::dma::DmaView;
use super::frame_check::frame_check;
use super::offload::examine;
use super::queue::{Phase, Ring};
use super::statistics::Counter;
use crate::registers::{icr, queue, rctl};
use crate::totals::Total;
use crate::wire::MAX_FRAME_BYTES;
use platform::clock::monotonic_ns;

/// Frames of one turn: some 30 µs, and the transmit side does not wait longer for its turn.
const BATCH: usize = 32;
/// Descriptors on the chip.
const FETCHED: usize = 16;
/// Shorter frames were padded by their sender's NIC, or come from one that is not a NIC.
const LEAST_FRAME_BYTES: usize = 60;
/// Longest frame without RCTL.LPE, and with a VLAN tag.
const LONGEST_FRAME_BYTES: usize = 1514;
const VLAN_TAG_BYTES: usize = 4;
const FRAME_CHECK_BYTES: usize = 4;
const DONE: u32 = 1 << 0;
const END_OF_PACKET: u32 = 1 << 1;

/// What became of a frame.
enum Fate {
    /// In memory, its descriptor written back.
    Received,
    /// Not wanted, or lost: what is to be counted.
    Dropped(Total),
}

/// What a turn found on the wire.
pub(super) struct Received {
    /// Frames, wanted or not.
    pub(super) any: bool,
    /// There may be more.
    pub(super) more: bool,
}

/// Receive queue 0.
pub(super) struct Receiver {
    cache: DescriptorCache<FETCHED>,
    frame: Box<[u8]>,
    /// When the frames of this turn were found, `CLOCK_MONOTONIC` nanoseconds.
    found_ns: u64,
}

impl Receiver {
    pub(super) fn new() -> Self {
        let frame = vec![0; MAX_FRAME_BYTES + FRAME_CHECK_BYTES].into_boxed_slice();
        Self { cache: DescriptorCache::new(), frame, found_ns: 0 }
    }

    /// Takes what is on the wire, and interrupts once, at the end: the driver's thread has a higher
    /// priority than this engine's, and would otherwise run for the first frame alone.
    pub(super) fn turn(&mut self, device: &Device, dma: &DmaView<'_>) -> Received {
        self.follow(device, dma);
        let (mut taken, mut wanted) = (0, 0);
        while taken < BATCH {
            let Some(len) = self.next(device) else { break };
            if taken == 0 {
                self.found_ns = monotonic_ns();
            }
            taken += 1;
            match self.accept(device, dma, len) {
                Fate::Received => wanted += 1,
                Fate::Dropped(why) => device.totals.add(why, 1),
            }
        }
        if wanted > 0 {
            device.totals.add(Total::Received, wanted);
            device.interrupts.raise_receive();
        }
        Received { any: taken > 0, more: taken == BATCH }
    }

    /// A turn in which what is on the wire stays there.
    pub(super) fn hold(&mut self, device: &Device, dma: &DmaView<'_>) -> Received {
        self.follow(device, dma);
        Received { any: false, more: false }
    }

    /// The next frame in [`Self::frame`], and its length: 0 for one that loopback keeps out.
    fn next(&mut self, device: &Device) -> Option<usize> {
        let frame = &mut self.frame[..MAX_FRAME_BYTES];
        if let Some(len) = device.loopback.take(frame) {
            return Some(len);
        }
        let len = device.wire.receive(frame)?;
        Some(if device.loops_back() { 0 } else { len })
    }

    /// Follows the queue's registers: fetches ahead while it is on, lets go when it goes off.
    fn follow(&mut self, device: &Device, dma: &DmaView<'_>) {
        let position = device.rx.position();
        self.cache.follow(position);
        match position.phase {
            Phase::Enabled if device.may_master() => self.cache.refill(&device.rx.ring(), dma),
            Phase::Draining => {
                // No frame is in hand between two turns, so all that is left are empty buffers.
                self.cache.clear();
                device.rx.drained(position.generation);
            }
            _ => {}
        }
    }

    fn accept(&mut self, device: &Device, dma: &DmaView<'_>, len: usize) -> Fate {
        let control = device.receive_control.load(Ordering::SeqCst);
        if len == 0 || !device.link_up() {
            return Fate::Dropped(Total::Deaf);
        }
        if control & rctl::EN == 0 {
            return self.refuse(device, Total::Deaf);
        }
        let len = self.pad(len);
        device.statistics.count_seen(len);
        let frame = &self.frame[..len];
        let Some(destination) = frame.first_chunk::<6>() else {
            return Fate::Dropped(Total::TooShort);
        };
        if !device.filters.pass(*destination, control) {
            // Frames for others are none that the guests miss.
            return match *destination == device.mac {
                true => self.refuse(device, Total::Filtered),
                false => Fate::Dropped(Total::Filtered),
            };
        }
        if is_too_long(frame, control, device.longest_packet.load(Ordering::Acquire)) {
            device.statistics.count(Counter::Roc);
            return Fate::Dropped(Total::TooLong);
        }
        let settings = &device.settings;
        if !settings.holds_received(len) || !settings.is_for_first_queue(frame) {
            device.statistics.count(Counter::Mpc);
            return self.refuse(device, Total::Missed);
        }
        self.store(device, dma, len, control)
    }

    /// A frame that the guests miss cannot be taken in.
    fn refuse(&self, device: &Device, why: Total) -> Fate {
        device.arrivals.refused(self.found_ns);
        Fate::Dropped(why)
    }

    fn pad(&mut self, len: usize) -> usize {
        if len >= LEAST_FRAME_BYTES {
            return len;
        }
        self.frame[len..LEAST_FRAME_BYTES].fill(0);
        LEAST_FRAME_BYTES
    }

    fn store(&mut self, device: &Device, dma: &DmaView<'_>, len: usize, control: u32) -> Fate {
        let position = device.rx.position();
        self.cache.follow(position);
        if position.phase != Phase::Enabled || !device.may_master() {
            device.statistics.count(Counter::Mpc);
            return self.refuse(device, Total::Missed);
        }
        let split = device.rx.split();
        if split >> queue::SRRCTL_TYPE_SHIFT & 7 != queue::TYPE_ADVANCED_ONE_BUFFER {
            device.count_descriptor_fault();
            return Fate::Dropped(Total::Unusable);
        }
        let stored = self.with_frame_check(len, control);
        let ring = device.rx.ring();
        let buffer_bytes = buffer_bytes(split, control);
        let needed = stored.div_ceil(buffer_bytes);
        if self.cache.is_stuck() || (ring.available(self.cache.head()) as usize) < needed {
            device.statistics.count(Counter::Rnbc);
            device.statistics.count(Counter::Mpc);
            device.interrupts.raise_other(icr::RX_MISS);
            device.totals.add(Total::NoBuffer, 1);
            return self.refuse(device, Total::Missed);
        }
        if !self.fill(device, dma, &ring, stored, buffer_bytes) {
            device.statistics.count(Counter::Mpc);
            return Fate::Dropped(Total::Missed);
        }
        device.statistics.count_received(&self.frame[..len]);
        Fate::Received
    }

    /// Without RCTL.SECRC the host gets the frame check sequence too.
    fn with_frame_check(&mut self, len: usize, control: u32) -> usize {
        if control & rctl::SECRC != 0 {
            return len;
        }
        let check = frame_check(&self.frame[..len]);
        self.frame[len..len + FRAME_CHECK_BYTES].copy_from_slice(&check);
        len + FRAME_CHECK_BYTES
    }

    /// Spreads the frame over as many buffers as it takes. `false` if the queue went away.
    fn fill(
        &mut self,
        device: &Device,
        dma: &DmaView<'_>,
        ring: &Ring,
        len: usize,
        buffer_bytes: usize,
    ) -> bool {
        let report = examine(&self.frame[..len], device.receive_checksum.load(Ordering::Acquire));
        let generation = self.cache.generation();
        for (number, part) in self.frame[..len].chunks(buffer_bytes).enumerate() {
            self.cache.refill(ring, dma);
            let Some([buffer, _]) = self.cache.first() else { return false };
            // A write that the IOMMU stops is lost without the NIC's knowledge: it goes on as if
            // nothing had happened, and the fault is counted.
            let _ = dma.write(buffer, part);
            let is_last = (number + 1) * buffer_bytes >= len;
            let last = if is_last { END_OF_PACKET | report.status } else { 0 };
            let status = u64::from(DONE | last) | (part.len() as u64) << 32;
            let descriptor = self.cache.head();
            device.arrivals.received(descriptor, self.found_ns);
            let address = ring.address(descriptor);
            let _ = dma.write_descriptor(address, [u64::from(report.kind), status]);
            self.cache.pop(ring);
            if !device.rx.advance(generation, self.cache.head()) {
                return false;
            }
        }
        true
    }
}

fn buffer_bytes(split: u32, control: u32) -> usize {
    match (split & queue::SRRCTL_BUFFER_KIB) as usize {
        0 => 2048 >> (control >> rctl::BSIZE_SHIFT & 3),
        kib => kib * 1024,
    }
}

fn is_too_long(frame: &[u8], control: u32, longest_packet: u32) -> bool {
    if control & rctl::LPE != 0 {
        return frame.len() + FRAME_CHECK_BYTES > (longest_packet & 0x3fff) as usize;
    }
    let is_tagged = frame.get(12..14) == Some(&[0x81, 0x00]);
    frame.len() > LONGEST_FRAME_BYTES + if is_tagged { VLAN_TAG_BYTES } else { 0 }
}

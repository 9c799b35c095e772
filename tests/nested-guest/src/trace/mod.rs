//! Comparison of the emulated NIC with QEMU's igb: both get the same writes, descriptors and
//! frames, and must show the same results.
//!
//! A trace is a function that operates a NIC and notes what it observes, as text under a label. It
//! runs once on each NIC; every label must read the same on both, except those listed in
//! [`differences`] with their reason. A listed difference that no longer shows is a failure too.

mod differences;
mod offload;
mod receive;
mod transmit;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nic::emulated::EmulatedNic;
use nic::registers::{self as reg, queue};
use nic::vfio::VfioNic;
use nic::wire::{EthernetSwitch, MAX_FRAME_BYTES, Port, Wire};
use nic::{BarRegisters, Nic};
use platform::realtime::pin_to;
use warmspare_tests::nested::protocol::PROCESSORS;

pub(crate) use differences::{Difference, EXPECTED};

use crate::link::{RawWire, STATIONS, test_frame};
use crate::rig::{BUFFER, RAM_IOVA, RX_BUFFERS, RX_RING, Rig, TX_BUFFERS, TX_RING};

/// Address of the NIC under test, and of its peer.
pub(crate) const NIC: [u8; 6] = station(0xa);
const PEER: [u8; 6] = station(0xb);

const fn station(last: u8) -> [u8; 6] {
    let [a, b, c, d, e] = STATIONS;
    [a, b, c, d, e, last]
}

/// How many naps on each processor everything that was set off may take to come to rest. Only naps
/// during which the processor did not stand still count.
const REST_NAPS: u32 = 20;
const NAP: Duration = Duration::from_millis(1);
/// A nap that lasts longer than this does not count: the machine stood still.
const LONG_NAP: Duration = Duration::from_millis(3);
/// The wait for rest ends after this time, even if too few naps have counted.
const REST_DEADLINE: Duration = Duration::from_secs(5);
/// A frame that has not left after this time is held back on the wire.
const HELD_BACK: Duration = Duration::from_millis(200);

/// All traces, by name.
pub(crate) const TRACES: [(&str, Trace); 12] = [
    ("registers", transmit::registers),
    ("transmit", transmit::whole_frames),
    ("batch", transmit::batch),
    ("chain", transmit::chain),
    ("short", transmit::short_frames),
    ("tail-while-off", transmit::tail_while_off),
    ("checksum", offload::checksum),
    ("segmentation", offload::segmentation),
    ("receive", receive::sizes),
    ("filters", receive::filters),
    ("interrupts", receive::interrupts),
    ("reattach", receive::reattach),
];

/// A function that operates a NIC and notes what it observes.
pub(crate) type Trace = fn(&mut Tracer<'_>) -> Result<()>;

/// What a trace noted: pairs of label and text.
pub(crate) type Notes = Vec<(String, String)>;

/// The other end of the wire.
trait Peer {
    fn send(&self, frame: &[u8]) -> Result<()>;
    fn take(&self) -> Option<Vec<u8>>;
}

impl Peer for RawWire {
    fn send(&self, frame: &[u8]) -> Result<()> {
        let before = self.departed()?;
        Self::send(self, frame)?;
        // A NIC that takes no frames holds the frame back. That is no error: the trace observes it.
        self.wait_departed(before + 1, HELD_BACK)?;
        Ok(())
    }

    fn take(&self) -> Option<Vec<u8>> {
        self.receive()
    }
}

impl Peer for Port {
    fn send(&self, frame: &[u8]) -> Result<()> {
        Wire::send(self, frame);
        Ok(())
    }

    fn take(&self) -> Option<Vec<u8>> {
        let mut bytes = vec![0; MAX_FRAME_BYTES];
        let len = self.receive(&mut bytes)?;
        bytes.truncate(len);
        Some(bytes)
    }
}

/// Runs a trace on a fresh emulated NIC.
pub(crate) fn on_emulated(trace: Trace) -> Result<Notes> {
    let switch = EthernetSwitch::new();
    let peer = switch.attach("peer")?;
    let nic = EmulatedNic::new("trace", NIC, switch.attach("nic")?)?;
    nic.enable_bus_master()?;
    run(&*nic, &*nic, &*peer, trace)
}

/// Runs a trace on a freshly opened real NIC.
pub(crate) fn on_real(nic: &Arc<VfioNic>, trace: Trace) -> Result<Notes> {
    let wire = RawWire::open()?;
    nic.enable_bus_master()?;
    run(&**nic, nic.registers(), &wire, trace)
}

fn run(
    nic: &dyn Nic,
    registers: &dyn BarRegisters,
    peer: &dyn Peer,
    trace: Trace,
) -> Result<Notes> {
    let mut rig = Rig::new(nic, registers)?;
    rig.bring_link_up().context("the link does not come up")?;
    rig.attach(NIC)?;
    let mut tracer = Tracer { rig, nic, peer, notes: Vec::new() };
    tracer.rest();
    while peer.take().is_some() {}
    tracer.take_interrupts();
    trace(&mut tracer)?;
    Ok(tracer.notes)
}

/// A NIC under trace. It starts attached, with its filters shut.
pub(crate) struct Tracer<'a> {
    rig: Rig<'a>,
    nic: &'a dyn Nic,
    peer: &'a dyn Peer,
    notes: Notes,
}

impl Tracer<'_> {
    fn note(&mut self, label: &str, text: impl Into<String>) {
        self.notes.push((label.to_owned(), text.into()));
    }

    fn write(&self, offset: u32, value: u32) {
        self.rig.write(offset, value);
    }

    fn rest(&self) {
        let begin = Instant::now();
        for processor in PROCESSORS {
            let mut naps = 0;
            while naps < REST_NAPS && begin.elapsed() < REST_DEADLINE {
                let nap = Instant::now();
                // If pinning is refused, the thread naps on the processor it happens to be on.
                let _ = pin_to(processor..processor + 1);
                std::thread::sleep(NAP);
                naps += u32::from(nap.elapsed() < LONG_NAP);
            }
        }
        let _ = pin_to(PROCESSORS);
    }

    /// Notes some bits of a register.
    fn note_register(&mut self, label: &str, offset: u32, mask: u32) {
        let value = self.rig.read(offset) & mask;
        self.note(label, format!("{value:#010x}"));
    }

    /// Puts bytes into a transmit buffer and returns the I/O address at which the NIC finds them.
    fn load(&self, buffer: u64, bytes: &[u8]) -> Result<u64> {
        let offset = TX_BUFFERS + buffer * BUFFER;
        self.rig.ram.write(offset, bytes)?;
        Ok(RAM_IOVA + offset)
    }

    fn put_tx(&self, index: u64, words: [u64; 2]) -> Result<()> {
        self.put(TX_RING, index, words)
    }

    fn put(&self, ring: u64, index: u64, words: [u64; 2]) -> Result<()> {
        for (word, at) in words.into_iter().zip([0, 8]) {
            self.rig.ram.write(ring + index * 16 + at, &word.to_le_bytes())?;
        }
        Ok(())
    }

    fn get(&self, ring: u64, index: u64) -> Result<[u32; 4]> {
        let mut bytes = [0; 16];
        self.rig.ram.read(ring + index * 16, &mut bytes)?;
        let word = |i: usize| u32::from_le_bytes([0, 1, 2, 3].map(|byte| bytes[4 * i + byte]));
        Ok([word(0), word(1), word(2), word(3)])
    }

    /// Rings the transmit doorbell and waits until everything has come to rest.
    fn transmit_to(&self, tail: u32) {
        self.write(reg::TX_QUEUE + queue::TAIL, tail);
        self.rest();
    }

    /// Notes which transmit descriptors are done.
    fn note_tx_done(&mut self, label: &str, indices: std::ops::Range<u64>) -> Result<()> {
        let done: Result<Vec<_>> =
            indices.map(|index| Ok(self.get(TX_RING, index)?[3] & 1)).collect();
        self.note(label, format!("done {:?}", done?));
        Ok(())
    }

    /// Notes every frame that has reached the peer.
    fn note_frames(&mut self, label: &str) {
        let mut text = Vec::new();
        while let Some(frame) = self.peer.take() {
            text.push(show(&frame));
        }
        self.note(label, text.join(", "));
    }

    /// Notes each frame that has reached the peer under a label of its own, and their number.
    fn note_each_frame(&mut self, label: &str) {
        let mut count = 0;
        while let Some(frame) = self.peer.take() {
            count += 1;
            self.note(&format!("{label} {count}"), show(&frame));
        }
        self.note(label, format!("{count}"));
    }

    /// Sends a test frame from the peer.
    fn arrive(&self, to: [u8; 6], number: u8, len: usize) -> Result<()> {
        self.peer.send(&test_frame(to, PEER, number, len))
    }

    /// Notes the write-back of a receive descriptor, and the frame.
    fn note_rx(&mut self, label: &str, index: u64) -> Result<()> {
        const DD_EOP: u32 = 0b11;
        const ERRORS: u32 = 0xfff0_0000;
        let [.., status, length] = self.get(RX_RING, index)?;
        if status & 1 == 0 {
            self.note(label, "nothing");
            return Ok(());
        }
        let length = length & 0xffff;
        let mut frame = vec![0; length as usize];
        self.rig.ram.read(RX_BUFFERS + index * BUFFER, &mut frame)?;
        let (ends, errors) = (status & DD_EOP, status & ERRORS);
        self.note(label, format!("ends {ends:#x} errors {errors:#x} {}", show(&frame)));
        Ok(())
    }

    fn take_interrupts(&self) -> [bool; 2] {
        [self.nic.queue_event(), self.nic.link_event()].map(|event| event.read().is_ok())
    }

    /// Notes which vectors have fired since the last call. The number of times is not noted: it
    /// depends on timing.
    fn note_interrupts(&mut self, label: &str) {
        let [queues, other] = self.take_interrupts();
        self.note(label, format!("queues {queues} other {other}"));
    }
}

/// Describes a frame by its length and a checksum, which is enough to tell frames apart and short
/// enough to read. An IP packet's headers are added: they are what offloading changes.
fn show(frame: &[u8]) -> String {
    const HEADERS: std::ops::Range<usize> = 14..54;
    let sum = frame.iter().fold(0u32, |sum, byte| sum.rotate_left(5) ^ u32::from(*byte));
    let headers = frame.get(HEADERS).filter(|_| frame[12..14] == [8, 0]).unwrap_or_default();
    let headers: String = headers.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{} bytes ({sum:08x}) {headers}", frame.len())
}

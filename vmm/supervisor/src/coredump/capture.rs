//! A copy of everything that a failed domain has left, made before its memory is used again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use super::elf::{Area, flags};
use super::notes;
use microvm::domain::{AllRegisters, DomainSlot, Fault, Life, MemoryArea, Outcome, memory_areas};
use microvm::kvm::{FXSAVE_BYTES, Image, Registers};
use platform::clock::monotonic_ns;
use switchboard::QuarantinedFrame;

/// What a capture cannot read from the domain.
#[derive(Clone, Debug)]
pub struct CaptureConfig {
    /// The detector in one word, which becomes part of the folder's name.
    pub cause: &'static str,
    /// Why the domain failed, in one line.
    pub text: String,
    /// When the verdict fell, `CLOCK_MONOTONIC` nanoseconds.
    pub verdict_ns: u64,
    /// Whether the domain served the ring.
    pub was_active: bool,
    /// Poison frames of this failure.
    pub poison: Vec<QuarantinedFrame>,
}

/// The cursors of both sides of a ring.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(super) struct RingCursors {
    pub(super) published: u32,
    pub(super) consumed: u32,
}

/// The cursors of all rings as they were in memory. Those that the domain writes cannot be trusted.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(super) struct Cursors {
    pub(super) tx_post: RingCursors,
    pub(super) tx_done: RingCursors,
    pub(super) rx_provide: RingCursors,
    pub(super) rx_done: RingCursors,
    /// The receive descriptor that the driver would have read next.
    pub(super) rx_next: u32,
    /// Turns of the domain's loop.
    pub(super) heartbeat: u64,
    /// Not zero if the domain was parked or about to park.
    pub(super) parked: u32,
}

/// A copy of a domain.
pub struct Capture {
    pub(super) config: CaptureConfig,
    pub(super) domain: String,
    pub(super) epoch: u32,
    pub(super) registers: Option<Registers>,
    pub(super) vector_registers: Option<[u8; FXSAVE_BYTES]>,
    pub(super) signal: i32,
    pub(super) areas: Vec<Area>,
    pub(super) log: String,
    pub(super) cursors: Cursors,
    pub(super) image: Arc<Image>,
    /// Wall-clock time of the capture, milliseconds since 1970.
    pub(super) captured_unix_ms: u64,
}

impl Capture {
    /// Copies what `life` left in `slot`: a few megabytes, which takes a few milliseconds. The vCPU
    /// should be out of the guest and the NIC quiet; if they are not, the copy is inconsistent, and
    /// nothing else is affected.
    pub fn of(slot: &DomainSlot, life: &Life, config: CaptureConfig) -> Self {
        let outcome = life.outcome();
        let fault = outcome.as_ref().and_then(|outcome| outcome.fault);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            config,
            domain: slot.name.clone(),
            epoch: life.epoch(),
            registers: outcome.as_ref().and_then(program_registers),
            vector_registers: life.vector_registers(),
            signal: notes::signal(fault.as_ref()),
            areas: memory_areas(life.image()).iter().map(|area| copy(slot, area)).collect(),
            log: life.log_since(0).0,
            cursors: cursors(slot),
            image: life.image_handle(),
            captured_unix_ms: now.as_millis() as u64,
        }
    }

    /// The notes of the core file.
    pub(super) fn notes(&self) -> Vec<u8> {
        notes::notes(&notes::Facts {
            registers: self.registers,
            vector_registers: self.vector_registers.as_ref(),
            signal: self.signal,
            epoch: self.epoch,
            domain: &self.domain,
            cause: &format!("{}: {}", self.config.cause, self.config.text),
            build_id: self.image.build_id(),
        })
    }
}

/// Room for the copy of a domain that is alive, allocated before the domain is stopped.
pub struct LiveCapture {
    areas: Vec<(MemoryArea, Vec<u8>)>,
    was_active: bool,
}

impl LiveCapture {
    /// Allocates the room and touches every page of it.
    pub fn prepare(slot: &DomainSlot, life: &Life, was_active: bool) -> Self {
        let room = |area: MemoryArea| {
            let mut bytes = vec![0; area.len as usize];
            // Only the pages matter here; the content is read again later.
            let _ = slot.ram.read(area.address, &mut bytes);
            (area, bytes)
        };
        Self { areas: memory_areas(life.image()).into_iter().map(room).collect(), was_active }
    }

    /// Copies a domain that is stopped, in a few milliseconds at most.
    pub fn take(self, slot: &DomainSlot, life: &Life, registers: AllRegisters) -> Capture {
        let copy = |(area, mut bytes): (MemoryArea, Vec<u8>)| {
            let _ = slot.ram.read(area.address, &mut bytes);
            life.hide_breakpoints(area.address, &mut bytes);
            Area { address: area.address, rights: rights(&area), bytes }
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Capture {
            config: CaptureConfig {
                cause: "request",
                text: "the domain lives on".into(),
                verdict_ns: monotonic_ns(),
                was_active: self.was_active,
                poison: Vec::new(),
            },
            domain: slot.name.clone(),
            epoch: life.epoch(),
            registers: Some(registers.general),
            vector_registers: Some(registers.vector),
            signal: libc::SIGSTOP,
            areas: self.areas.into_iter().map(copy).collect(),
            log: life.log_since(0).0,
            cursors: cursors(slot),
            image: life.image_handle(),
            captured_unix_ms: now.as_millis() as u64,
        }
    }
}

/// Registers of the domain's program. After an exception KVM holds those of the ring 0 stub, and
/// the crash record holds the program's.
fn program_registers(outcome: &Outcome) -> Option<Registers> {
    match outcome.fault {
        Some(Fault::Exception(record)) => Some(record.registers),
        _ => outcome.registers,
    }
}

fn copy(slot: &DomainSlot, area: &MemoryArea) -> Area {
    let mut bytes = vec![0; area.len as usize];
    // Every area lies within the domain's RAM. One that did not would be copied as zeroes.
    let _ = slot.ram.read(area.address, &mut bytes);
    Area { address: area.address, rights: rights(area), bytes }
}

fn rights(area: &MemoryArea) -> u32 {
    let right = |has, flag| if has { flag } else { 0 };
    right(area.read, flags::READ)
        | right(area.write, flags::WRITE)
        | right(area.execute, flags::EXECUTE)
}

fn cursors(slot: &DomainSlot) -> Cursors {
    let (control, status) = (slot.control(), slot.status());
    let ring = |published: &shared_ring::control::Cursor,
                consumed: &shared_ring::control::Cursor| {
        let read = |cursor: &shared_ring::control::Cursor| cursor.0.load(Ordering::Relaxed);
        RingCursors { published: read(published), consumed: read(consumed) }
    };
    Cursors {
        tx_post: ring(&control.tx_post_published, &status.tx_post_consumed),
        tx_done: ring(&status.tx_done_published, &control.tx_done_consumed),
        rx_provide: ring(&control.rx_provide_published, &status.rx_provide_consumed),
        rx_done: ring(&status.rx_done_published, &control.rx_done_consumed),
        rx_next: status.rx_next.load(Ordering::Relaxed),
        heartbeat: status.heartbeat.load(Ordering::Relaxed),
        parked: status.parked.load(Ordering::Relaxed),
    }
}

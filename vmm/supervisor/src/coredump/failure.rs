//! The description of a failure, `failure.json` (schema `warmspare.failure/1`).

use serde::Serialize;

use super::capture::{Capture, Cursors};
use super::files::{CORE_FILE, IMAGE_FILE};
use microvm::kvm::Registers;
use switchboard::QuarantinedFrame;

/// A failure in the form in which it is written as JSON.
#[derive(Debug, Serialize)]
pub(super) struct Failure<'a> {
    schema: &'static str,
    /// Version of the VMM.
    vmm_version: &'static str,
    domain: &'a str,
    epoch: u32,
    /// The detector.
    cause: &'a str,
    /// Why, in one line.
    text: &'a str,
    was_active: bool,
    captured_unix_ms: u64,
    verdict_monotonic_ns: u64,
    /// Build id of the driver's program; the core file's notes contain it too.
    build_id: String,
    /// Function and offset, if the program counter lies in one.
    location: Option<String>,
    registers: Option<Hexadecimal>,
    cursors: &'a Cursors,
    /// The domain's log ring.
    log: Vec<&'a str>,
    /// Frames that were dropped as poison: the domain was at each of them at two failures.
    poison_frames: Vec<PoisonFrame>,
    core: &'static str,
    image: &'static str,
    /// How to look at it, in this folder.
    debugger: String,
}

#[derive(Debug, Serialize)]
struct Hexadecimal {
    rip: String,
    rsp: String,
    rbp: String,
    rflags: String,
}

#[derive(Debug, Serialize)]
struct PoisonFrame {
    takeover: u64,
    hex: String,
}

impl<'a> Failure<'a> {
    pub(super) fn of(capture: &'a Capture) -> Self {
        let config = &capture.config;
        Self {
            schema: "warmspare.failure/1",
            vmm_version: env!("CARGO_PKG_VERSION"),
            domain: &capture.domain,
            epoch: capture.epoch,
            cause: config.cause,
            text: &config.text,
            was_active: config.was_active,
            captured_unix_ms: capture.captured_unix_ms,
            verdict_monotonic_ns: config.verdict_ns,
            build_id: hex(capture.image.build_id()),
            location: capture.registers.and_then(|registers| location(capture, &registers)),
            registers: capture.registers.as_ref().map(hexadecimal),
            cursors: &capture.cursors,
            log: capture.log.lines().collect(),
            poison_frames: config.poison.iter().map(poison).collect(),
            core: CORE_FILE,
            image: IMAGE_FILE,
            debugger: format!("gdb {IMAGE_FILE} {CORE_FILE}"),
        }
    }
}

fn location(capture: &Capture, registers: &Registers) -> Option<String> {
    let (name, offset) = capture.image.symbol_at(registers.rip)?;
    Some(format!("{name}+{offset:#x}"))
}

fn hexadecimal(registers: &Registers) -> Hexadecimal {
    let word = |value: u64| format!("{value:#x}");
    Hexadecimal {
        rip: word(registers.rip),
        rsp: word(registers.rsp),
        rbp: word(registers.general.rbp),
        rflags: word(registers.rflags),
    }
}

fn poison(frame: &QuarantinedFrame) -> PoisonFrame {
    PoisonFrame { takeover: frame.takeover, hex: hex(&frame.bytes) }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

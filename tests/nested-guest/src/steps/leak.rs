//! A faulty driver that has its NIC send memory that does not belong to the driver.
//!
//! The transmit path of the domain that serves is replaced by code that points every transmit
//! descriptor at one I/O address and gives the whole ring to the NIC. The effects are these: the
//! kernel logs a DMA fault; VFIO does not report it; what goes on the wire instead, if anything
//! does, is up to the NIC. Memory that the NIC may read is sent: the aim at the transmit pool shows
//! that the test would find leaked memory.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::fault::Site;
use nic::registers::{TX_QUEUE, queue};
use platform::clock::monotonic_ns;
use serde_json::{Value, json};
use shared_ring::layout::{BAR_BASE, DMA_BASE, DMA_TX_RING_OFFSET, NIC_TX_DESCRIPTORS};
use supervisor::topology::Policy;

use super::aim::Aim;
use super::isolation::fault_lines;
use super::service::{Service, Setup};
use crate::link::{RawWire, STATIONS, test_frame};
use crate::report::Report;
use crate::rig::TX_COMMAND;

/// Time between two datagrams, long enough that a domain does not reach the buffers aimed at.
const PERIOD: Duration = Duration::from_millis(20);
const SECRET_BYTES: usize = 300;
/// How long what the NIC was given may take to arrive at the sender's host.
const ARRIVAL: Duration = Duration::from_millis(300);

/// Tries each aim, back and forth between the domains.
pub(super) fn leak(report: &Report) -> Result<Value> {
    let setup = Setup { period: PERIOD, ..Setup::of(Policy::FastSpare)? };
    let mut service = Service::start(report, &setup)?;
    let wire = RawWire::open()?;
    let mut seen = Vec::new();
    for (number, aim) in (1..).zip(Aim::ALL) {
        let faults_before = fault_lines();
        let secret = test_frame([0xff; 6], station(number), number, SECRET_BYTES);
        wire.clear();
        service.suffer("leak", |service, id, life| {
            let (iova, hit) = aim.target(&service.system.slots()[1 - id.index()]);
            if let Some((memory, offset)) = hit {
                memory.write(offset, &secret)?;
            }
            let path = life.image().symbol(Site::Tx.symbol()).context("no transmit path")?;
            let at_ns = monotonic_ns();
            life.inject(path.address, &send_everything_from(iova))?;
            Ok((aim.name(), at_ns))
        })?;
        let leaked = is_heard(&wire, &secret);
        ensure!(leaked == (aim == Aim::ReadOnly), "{}: on the wire: {leaked}", aim.name());
        let faults = fault_lines().saturating_sub(faults_before);
        let verdict = service.last_verdict();
        seen.push(json!({ "aim": aim.name(), "verdict": verdict, "kernel_log_lines": faults }));
    }
    let mut detail = service.finish()?.close(report)?;
    detail["aims"] = json!(seen);
    Ok(detail)
}

fn station(number: u8) -> [u8; 6] {
    let [a, b, c, d, e] = STATIONS;
    [a, b, c, d, e, number]
}

fn is_heard(wire: &RawWire, secret: &[u8]) -> bool {
    let end = Instant::now() + ARRIVAL;
    while Instant::now() < end {
        if wire.receive_within(ARRIVAL).is_some_and(|frame| frame == secret) {
            return true;
        }
    }
    false
}

/// Makes code that points all transmit descriptors of the domain at one I/O address, gives them to
/// the NIC, and does nothing more.
fn send_everything_from(iova: u64) -> Vec<u8> {
    let ring = (DMA_BASE + DMA_TX_RING_OFFSET) as u32;
    let tail = BAR_BASE as u32 + TX_QUEUE + queue::TAIL;
    let second_word =
        u64::from(TX_COMMAND | SECRET_BYTES as u32) | u64::from((SECRET_BYTES as u32) << 14) << 32;
    let mut code = Vec::new();
    let mut add = |opcode: &[u8], operand: &[u8]| {
        code.extend_from_slice(opcode);
        code.extend_from_slice(operand);
    };
    add(&[0xb8], &ring.to_le_bytes()); // mov eax, ring
    add(&[0xb9], &(NIC_TX_DESCRIPTORS as u32).to_le_bytes()); // mov ecx, descriptors
    add(&[0x48, 0xba], &iova.to_le_bytes()); // mov rdx, iova
    add(&[0x48, 0xbe], &second_word.to_le_bytes()); // mov rsi, second word
    add(&[0x48, 0x89, 0x10], &[]); // next: mov [rax], rdx
    add(&[0x48, 0x89, 0x70, 8], &[]); // mov [rax + 8], rsi
    add(&[0x83, 0xc0, 16], &[]); // add eax, 16
    add(&[0xff, 0xc9], &[]); // dec ecx
    add(&[0x75], &(-14i8).to_le_bytes()); // jnz next
    add(&[0xb8], &tail.to_le_bytes()); // mov eax, tail
    add(&[0xc7, 0x00], &(NIC_TX_DESCRIPTORS as u32 - 1).to_le_bytes()); // mov dword [rax], last
    add(&[0xeb, 0xfe], &[]); // jmp to itself
    code
}

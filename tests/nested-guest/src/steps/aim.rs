//! A faulty driver that aims its NIC's DMA at memory that does not belong to the driver.
//!
//! The receive descriptors of the domain that serves are corrupted in its memory, under the running
//! driver, so that its NIC is told to write what it receives elsewhere. The effects are these: the
//! kernel logs a DMA fault; VFIO does not report it; the NIC (QEMU's model does, and the i210 may)
//! completes the descriptor as if all were well; the driver does not notice, and publishes a buffer
//! that was never written. The switchboard finds the buffer's cleared header, which no frame has,
//! and that leads to the verdict.

use std::time::Duration;

use anyhow::{Result, ensure};
use microvm::domain::{DomainId, DomainSlot, Life};
use platform::clock::monotonic_ns;
use platform::memory::SharedMemory;
use serde_json::{Value, json};
use shared_ring::layout::{
    BUFFER_BYTES, DMA_BASE, DMA_RX_RING_OFFSET, NIC_RX_DESCRIPTORS, RX_BUFFERS, RX_POOL_BASE,
    TX_BUFFERS,
};
use supervisor::topology::Policy;

use super::isolation::{NOWHERE_IOVA, fault_lines};
use super::service::{Service, Setup};
use crate::report::Report;

/// Time between two datagrams, long enough that a domain does not reach the buffers watched.
const PERIOD: Duration = Duration::from_millis(20);
const DESCRIPTOR_BYTES: u64 = 16;
/// Bytes that the test writes where the DMA is aimed. The switchboard clears only the head of a
/// buffer.
const MARK: [u8; 1024] = [0x5a; 1024];
const MARK_OFFSET: u64 = 512;
const LAST_RX_BUFFER: u64 = RX_BUFFERS as u64 - 1;
/// A transmit buffer that low traffic never reaches: the lowest free one is taken first.
const QUIET_TX_BUFFER: u16 = TX_BUFFERS as u16 / 2;

/// Where the DMA is aimed.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Aim {
    /// The receive pool of the other domain.
    Neighbour,
    /// The transmit pool, which the NIC may read.
    ReadOnly,
    /// An I/O address at which nothing is mapped.
    Nowhere,
}

impl Aim {
    pub(super) const ALL: [Self; 3] = [Self::Neighbour, Self::ReadOnly, Self::Nowhere];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Neighbour => "the neighbour's pool",
            Self::ReadOnly => "the transmit pool",
            Self::Nowhere => "nowhere",
        }
    }

    /// Returns the I/O address, and the memory that would be hit.
    pub(super) fn target(self, neighbour: &DomainSlot) -> (u64, Option<(&SharedMemory, u64)>) {
        let buffer = LAST_RX_BUFFER * BUFFER_BYTES as u64;
        let tx = u64::from(QUIET_TX_BUFFER) * BUFFER_BYTES as u64;
        match self {
            Self::Neighbour => {
                let hit = (&*neighbour.ram, RX_POOL_BASE + buffer);
                (neighbour.rx_pool_iova() + buffer, Some(hit))
            }
            Self::ReadOnly => {
                (DomainSlot::tx_iova(QUIET_TX_BUFFER), Some((&*neighbour.tx_pool, tx)))
            }
            Self::Nowhere => (NOWHERE_IOVA, None),
        }
    }
}

/// Tries each aim, back and forth between the domains.
pub(super) fn aim(report: &Report) -> Result<Value> {
    let setup = Setup { period: PERIOD, ..Setup::of(Policy::FastSpare)? };
    let mut service = Service::start(report, &setup)?;
    let mut seen = Vec::new();
    for aim in Aim::ALL {
        let faults_before = fault_lines();
        let failed = service.suffer("aim", |service, id, _: &Life| {
            let slots = service.system.slots();
            let (iova, hit) = aim.target(&slots[1 - id.index()]);
            if let Some((memory, offset)) = hit {
                memory.write(offset + MARK_OFFSET, &MARK)?;
            }
            let at_ns = monotonic_ns();
            misdirect(&slots[id.index()], iova)?;
            Ok((aim.name(), at_ns))
        })?;
        let verdict = service.last_verdict();
        ensure!(verdict == "protocol", "{}: found as {verdict}", aim.name());
        ensure!(is_untouched(&service, failed, aim)?, "{} was written", aim.name());
        let faults = fault_lines().saturating_sub(faults_before);
        seen.push(json!({ "aim": aim.name(), "verdict": verdict, "kernel_log_lines": faults }));
    }
    let mut detail = service.finish()?.close(report)?;
    detail["aims"] = json!(seen);
    Ok(detail)
}

/// Points all receive descriptors of a domain at one I/O address.
fn misdirect(slot: &DomainSlot, iova: u64) -> Result<()> {
    for descriptor in 0..NIC_RX_DESCRIPTORS as u64 {
        let at = DMA_BASE + DMA_RX_RING_OFFSET + descriptor * DESCRIPTOR_BYTES;
        slot.ram.write(at, &iova.to_le_bytes())?;
    }
    Ok(())
}

fn is_untouched(service: &Service<'_>, failed: DomainId, aim: Aim) -> Result<bool> {
    let neighbour = &service.system.slots()[1 - failed.index()];
    let (_, Some((memory, offset))) = aim.target(neighbour) else { return Ok(true) };
    let mut found = [0; MARK.len()];
    memory.read(offset + MARK_OFFSET, &mut found)?;
    Ok(found == MARK)
}

//! Tests of what a faulty NIC cannot do, and of how it is silenced.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use nic::Nic;
use serde_json::{Value, json};

use super::devices::open_both;
use super::frames::{ARRIVAL, MAC_A, MAC_B, SENDER, SILENCE, rig, wait_event};
use super::ms;
use crate::link::{RawWire, test_frame};
use crate::report::Report;
use crate::rig::{RAM_BYTES, READ_ONLY_IOVA};
use crate::sys;

/// Number of frames that are sent to a silenced NIC.
const LATE_FRAMES: u8 = 20;
/// An I/O address at which nothing is mapped.
pub(super) const NOWHERE_IOVA: u64 = 0x7000_0000;

/// The IOMMU confines a NIC: its DMA writes to the read-only area, to the other NIC's memory (same
/// I/O address, other container) and to an unmapped address change nothing.
pub(super) fn confinement(_: &Report) -> Result<Value> {
    let [a, b] = open_both()?;
    let wire = RawWire::open()?;
    let (mut rig_a, _) = rig(&a, MAC_A)?;
    let (rig_b, _) = rig(&b, MAC_B)?;
    a.open_filters();
    rig_a.read_only.write(0, &[0x5a; RAM_BYTES as usize])?;
    let faults_before = fault_lines();

    let mut seen = Vec::new();
    for (what, iova) in [("read-only", READ_ONLY_IOVA), ("unmapped", NOWHERE_IOVA)] {
        rig_a.post(rig_a.next_rx(), iova)?;
        wire.pass(&test_frame(MAC_A, SENDER, 7, 300))?;
        let done = wait_done(&rig_a)?;
        rig_a.skip_rx()?;
        seen.push(json!({ "aim": what, "descriptor_completed": done }));
    }

    let mut bytes = vec![0; RAM_BYTES as usize];
    rig_a.read_only.read(0, &mut bytes)?;
    ensure!(bytes.iter().all(|byte| *byte == 0x5a), "the read-only area was written");
    // B's memory lies at the same I/O address as A's, in its own container. It must be untouched
    // but for the descriptors that the rig itself wrote.
    rig_b.ram.read(0x2000, &mut bytes[..0x4000])?;
    ensure!(bytes[..0x4000].iter().all(|byte| *byte == 0), "B's memory was written");
    let frame = test_frame(MAC_A, SENDER, 9, 300);
    wire.pass(&frame)?;
    let got = rig_a.receive(ARRIVAL)?.context("it receives nothing after the faults")?;
    ensure!(got == frame, "it receives something else after the faults");
    let faults = fault_lines().saturating_sub(faults_before);
    ensure!(faults > 0, "the kernel logged no fault");
    let sent = send_from_nowhere(&*a, &mut rig_a, &wire)?;
    Ok(json!({ "writes": seen, "read": sent, "kernel_log_lines": faults }))
}

/// Has the NIC send memory that it may not read, and returns what can be observed of that. A frame
/// may go out, but it must contain nothing of the rig's memory.
fn send_from_nowhere(
    nic: &dyn Nic,
    rig: &mut crate::rig::Rig<'_>,
    wire: &RawWire,
) -> Result<Value> {
    const LEN: usize = 300;
    wire.clear();
    nic.take_sent();
    // An error unless the NIC writes the descriptor back as done.
    rig.send_at(NOWHERE_IOVA, LEN as u32).context("sending from an unmapped address")?;
    let on_the_wire = wire.receive_within(SILENCE);
    let ours = |frame: &Vec<u8>| frame.windows(8).any(|bytes| bytes == [0x5a; 8]);
    ensure!(!on_the_wire.as_ref().is_some_and(ours), "memory that it may not read was sent");
    Ok(json!({ "on_the_wire": on_the_wire.is_some(), "counted": nic.take_sent() }))
}

fn wait_done(rig: &crate::rig::Rig<'_>) -> Result<bool> {
    let start = Instant::now();
    while start.elapsed() < ARRIVAL {
        if rig.is_rx_done()? {
            return Ok(true);
        }
        std::thread::sleep(SILENCE / 50);
    }
    Ok(false)
}

pub(super) fn fault_lines() -> usize {
    sys::kernel_log().lines().filter(|line| line.contains("DMAR") && line.contains("fault")).count()
}

/// After a quiesce the NIC writes nothing to memory; then it is attached again, without a reset and
/// without losing its link.
pub(super) fn quiesce(_: &Report) -> Result<Value> {
    let [a, _b] = open_both()?;
    let wire = RawWire::open()?;
    let (mut rig, _) = rig(&a, MAC_A)?;
    let (mut quiesce_ms, mut reattach_ms) = (Vec::new(), Vec::new());
    for round in 0..3u8 {
        a.open_filters();
        let frame = test_frame(MAC_A, SENDER, round, 120);
        wire.pass(&frame)?;
        ensure!(rig.receive(ARRIVAL)?.as_ref() == Some(&frame), "nothing received, round {round}");

        let start = Instant::now();
        a.quiesce()?;
        quiesce_ms.push(ms(start.elapsed()));
        ensure!(!a.is_bus_master()?, "it is still bus master");
        rig.ram.write(0, &[0xee; RAM_BYTES as usize])?;
        // No NIC takes these frames: they wait, and go out when the NIC is attached again.
        let before = wire.departed()?;
        for number in 0..LATE_FRAMES {
            wire.send(&test_frame(MAC_A, SENDER, number, 400))?;
        }
        std::thread::sleep(SILENCE);
        let mut bytes = vec![0; RAM_BYTES as usize];
        rig.ram.read(0, &mut bytes)?;
        ensure!(bytes.iter().all(|byte| *byte == 0xee), "memory was written after a quiesce");

        let start = Instant::now();
        a.enable_bus_master()?;
        rig.attach(MAC_A)?;
        reattach_ms.push(ms(start.elapsed()));
        ensure!(a.is_bus_master()? && a.link_up(), "no bus master or no link afterwards");
        // The frames that QEMU's wire held back meanwhile arrive now, at filters that are shut.
        let all = before + u64::from(LATE_FRAMES);
        ensure!(wire.wait_departed(all, ARRIVAL)?, "frames are held back on the wire");
        ensure!(rig.receive(SILENCE)?.is_none(), "a late frame came through shut filters");
        while a.queue_event().read().is_ok() {}
    }
    Ok(json!({ "quiesce_ms": quiesce_ms, "reattach_ms": reattach_ms }))
}

/// A full reset loses the registers and keeps MSI-X and the mappings; the link has to be brought up
/// again.
pub(super) fn reset(_: &Report) -> Result<Value> {
    let [a, _b] = open_both()?;
    let wire = RawWire::open()?;
    let (mut rig, _) = rig(&a, MAC_A)?;
    a.open_filters();
    let start = Instant::now();
    a.reset()?;
    let reset_ms = ms(start.elapsed());
    ensure!(!a.is_bus_master()?, "a reset leaves bus master on");
    a.enable_bus_master()?;
    let link = rig.bring_link_up()?;
    rig.attach(MAC_A)?;
    a.open_filters();
    while a.queue_event().read().is_ok() {}
    let frame = test_frame(MAC_A, SENDER, 3, 120);
    wire.pass(&frame)?;
    wait_event(a.queue_event(), ARRIVAL).context("no interrupt after the reset")?;
    ensure!(rig.receive(ARRIVAL)?.as_ref() == Some(&frame), "nothing received after the reset");
    Ok(json!({ "reset_ms": reset_ms, "link_up_ms": ms(link) }))
}

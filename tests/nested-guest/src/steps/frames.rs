//! Frames through real VFIO: link, transmit, receive, interrupts, filters, cable.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nic::Nic;
use nic::vfio::VfioNic;
use serde_json::{Value, json};
use vmm_sys_util::eventfd::EventFd;

use super::devices::open_both;
use super::{cost_ns, ms};
use crate::link::{RawWire, test_frame};
use crate::report::Report;
use crate::rig::Rig;

pub(super) const MAC_A: [u8; 6] = [0x52, 0x54, 0, 0x77, 0x73, 0xa];
pub(super) const MAC_B: [u8; 6] = [0x52, 0x54, 0, 0x77, 0x73, 0xb];
pub(super) const SENDER: [u8; 6] = [0x52, 0x54, 0, 0x77, 0x73, 0x19];
const BROADCAST: [u8; 6] = [0xff; 6];
/// How long a frame may take from one end of the emulated wire to the other.
pub(super) const ARRIVAL: Duration = Duration::from_secs(1);
/// How long a test waits for something that must not arrive.
pub(super) const SILENCE: Duration = Duration::from_millis(50);

/// Makes a rig with its link up and its NIC attached, filters shut. Returns it, and how long the
/// link took.
pub(super) fn rig(nic: &VfioNic, mac: [u8; 6]) -> Result<(Rig<'_>, Duration)> {
    let mut rig = Rig::new(nic, nic.registers())?;
    nic.enable_bus_master()?;
    let link = rig.bring_link_up()?;
    rig.attach(mac)?;
    Ok((rig, link))
}

/// Waits for an event. Returns how long it took to come, or `None` if it did not come in time.
pub(super) fn wait_event(event: &EventFd, within: Duration) -> Option<Duration> {
    let start = Instant::now();
    loop {
        if event.read().is_ok() {
            return Some(start.elapsed());
        }
        if start.elapsed() > within {
            return None;
        }
        std::thread::sleep(Duration::from_micros(50));
    }
}

/// Frames pass from NIC A to NIC B and to the sender, and from the sender to NIC A, with an
/// interrupt.
pub(super) fn frames(_: &Report) -> Result<Value> {
    let [a, b] = open_both()?;
    let wire = RawWire::open()?;
    let (mut rig_a, link_a) = rig(&a, MAC_A)?;
    let (mut rig_b, link_b) = rig(&b, MAC_B)?;
    ensure!(a.link_up() && b.link_up(), "the link is not up");
    a.open_filters();
    b.open_filters();
    wire.clear();
    a.take_sent();

    for number in 0..20u8 {
        let len = 60 + 70 * usize::from(number);
        let frame = test_frame(MAC_B, MAC_A, number, len);
        rig_a.send(&frame)?;
        let at_b = rig_b.receive(ARRIVAL)?.context("B received nothing")?;
        ensure!(at_b == frame, "B received something else");
        let at_sender = wire.receive_within(ARRIVAL).context("the sender received nothing")?;
        ensure!(at_sender == frame, "the sender received something else");
    }
    let sent = a.take_sent();
    ensure!(sent == 20 && a.take_sent() == 0, "{sent} frames counted");

    while a.queue_event().read().is_ok() {}
    let mut worst = Duration::ZERO;
    for number in 0..20u8 {
        let frame = test_frame(MAC_A, SENDER, number, 200);
        wire.pass(&frame)?;
        let took = wait_event(a.queue_event(), ARRIVAL).context("no interrupt")?;
        worst = worst.max(took);
        let got = rig_a.receive(ARRIVAL)?.context("A received nothing")?;
        ensure!(got == frame, "A received something else");
    }
    Ok(json!({
        "link_up_ms": [ms(link_a), ms(link_b)],
        "interrupt_worst_ms": ms(worst),
        "shut_units_ns": cost_ns(100, || a.shut_units()),
        "open_filters_ns": cost_ns(100, || a.open_filters()),
        "take_sent_ns": cost_ns(100, || { a.take_sent(); }),
        "link_up_ns": cost_ns(100, || { a.link_up(); }),
    }))
}

/// With its filters shut, an attached NIC takes no frames. With its filters open, it takes frames
/// to its own MAC, broadcast and multicast, and none to other MACs.
pub(super) fn filters(_: &Report) -> Result<Value> {
    let [a, _b] = open_both()?;
    let wire = RawWire::open()?;
    let (mut rig, _) = rig(&a, MAC_A)?;
    let multicast = [0x33, 0x33, 0, 0, 0, 1];
    let kinds = [(MAC_A, true), (BROADCAST, true), (multicast, true), (MAC_B, false)];

    for round in 0..2 {
        for (to, _) in kinds {
            wire.pass(&test_frame(to, SENDER, 1, 100))?;
        }
        ensure!(rig.receive(SILENCE)?.is_none(), "received with filters shut, round {round}");
        a.open_filters();
        for (number, (to, wanted)) in kinds.into_iter().enumerate() {
            let frame = test_frame(to, SENDER, number as u8, 100);
            wire.pass(&frame)?;
            let got = rig.receive(if wanted { ARRIVAL } else { SILENCE })?;
            ensure!(got == wanted.then_some(frame), "filter for {to:x?} in round {round}");
        }
        a.shut_filters();
    }
    Ok(json!({}))
}

/// Pulling a cable causes an event on vector 1, and so does plugging it in, every time.
pub(super) fn cable(report: &Report) -> Result<Value> {
    let [a, b] = open_both()?;
    let (_rig_a, _) = rig(&a, MAC_A)?;
    let (_rig_b, _) = rig(&b, MAC_B)?;
    while a.link_event().read().is_ok() {}
    a.acknowledge_link();
    let mut times = Vec::new();
    for round in 0..3 {
        report.set_link("nic0", false)?;
        let down = wait_event(a.link_event(), ARRIVAL);
        let down = down.with_context(|| format!("no event for the pulled cable, round {round}"))?;
        ensure!(!a.acknowledge_link(), "the link is up without a cable");
        ensure!(b.link_up(), "the other NIC lost its link");
        report.set_link("nic0", true)?;
        let up = wait_event(a.link_event(), Duration::from_secs(3));
        let up = up.with_context(|| format!("no event for the plugged cable, round {round}"))?;
        ensure!(a.acknowledge_link(), "the link stays down");
        times.push(json!({ "down_ms": ms(down), "up_ms": ms(up) }));
    }
    Ok(json!({ "events": times }))
}

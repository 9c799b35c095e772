//! Traces of the receive side, of interrupts, and of attaching again.

use anyhow::Result;
use nic::registers::{self as reg, queue, rctl};

use super::{NIC, Tracer};
use crate::link::STATIONS;

const GPRC: u32 = 0x4074;
const EVERYONE: [u8; 6] = [0xff; 6];
const GROUP: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];

fn open(t: &Tracer<'_>) {
    t.write(reg::RAH0, t.rig.read(reg::RAH0) | reg::RAH_AV);
}

fn stranger() -> [u8; 6] {
    let [a, b, c, d, e] = STATIONS;
    [a, b, c, d, e, 0xc]
}

/// Receives frames of several sizes, and waits for the NIC to come to rest after each.
pub(super) fn sizes(t: &mut Tracer<'_>) -> Result<()> {
    open(t);
    t.note_register("GPRC before", GPRC, u32::MAX);
    for (index, len) in (0..).zip([60usize, 61, 590, 1000, 1513, 1514]) {
        t.arrive(NIC, index as u8, len)?;
        t.rest();
        t.note_rx(&format!("{len} bytes"), index)?;
        t.note_interrupts(&format!("interrupt after {len} bytes"));
    }
    t.note_register("RDH", reg::RX_QUEUE + queue::HEAD, u32::MAX);
    t.note_register("GPRC", GPRC, u32::MAX);
    t.note_register("GPRC again", GPRC, u32::MAX);
    Ok(())
}

/// Notes which destinations pass which filters.
pub(super) fn filters(t: &mut Tracer<'_>) -> Result<()> {
    let kinds = [("own", NIC), ("broadcast", EVERYONE), ("group", GROUP), ("other", stranger())];
    let base = t.rig.read(reg::RCTL);
    let settings = [
        ("shut", 0, false),
        ("address", 0, true),
        ("broadcast", rctl::BAM, false),
        ("groups", rctl::MPE, false),
        ("all unicast", rctl::UPE, false),
        ("as a domain", rctl::BAM | rctl::MPE, true),
    ];
    for (setting, bits, address) in settings {
        let valid = if address { reg::RAH_AV } else { 0 };
        t.write(reg::RAH0, t.rig.read(reg::RAH0) & !reg::RAH_AV | valid);
        t.write(reg::RCTL, base | bits);
        for (kind, to) in kinds {
            let before = t.rig.read(reg::RX_QUEUE + queue::HEAD);
            t.arrive(to, 1, 100)?;
            t.rest();
            let passed = t.rig.read(reg::RX_QUEUE + queue::HEAD) != before;
            t.note(&format!("{setting}: {kind}"), passed.to_string());
            if passed {
                // The NIC gets the buffer back, so that it never runs out of descriptors.
                t.rig.skip_rx()?;
            }
        }
    }
    Ok(())
}

/// Notes interrupts that are masked, unmasked, and set off by hand.
pub(super) fn interrupts(t: &mut Tracer<'_>) -> Result<()> {
    open(t);
    t.arrive(NIC, 1, 100)?;
    t.rest();
    t.note_interrupts("unmasked");

    t.write(reg::EIMC, 1);
    t.arrive(NIC, 2, 100)?;
    t.rest();
    t.note_interrupts("masked");
    t.write(reg::EIMS, 1);
    t.rest();
    t.note_interrupts("unmasked with a cause pending");
    t.note_interrupts("and no second time");

    t.write(reg::EICS, 1);
    t.rest();
    t.note_interrupts("vector 0 by hand");
    t.write(reg::EICS, 2);
    t.rest();
    t.note_interrupts("vector 1 by hand");
    t.write(reg::EICR, 2);
    t.write(reg::EIMS, 2);
    t.write(reg::EICS, 2);
    t.rest();
    t.note_interrupts("vector 1 acknowledged, and again by hand");

    t.write(reg::RCTL, 0);
    t.arrive(NIC, 3, 100)?;
    t.rest();
    t.note_interrupts("receive unit off");
    Ok(())
}

/// Attaches a second driver to the rings of the first, without a reset.
pub(super) fn reattach(t: &mut Tracer<'_>) -> Result<()> {
    open(t);
    for number in 0..3 {
        t.arrive(NIC, number, 200)?;
    }
    t.rest();
    t.rig.attach(NIC)?;
    t.take_interrupts();
    t.note_register("RDH", reg::RX_QUEUE + queue::HEAD, u32::MAX);
    t.note_register("TDH", reg::TX_QUEUE + queue::HEAD, u32::MAX);
    t.note_register("link", reg::STATUS, reg::status::LU);
    t.note_register("filter", reg::RAH0, reg::RAH_AV);
    t.arrive(NIC, 8, 200)?;
    t.rest();
    t.note_rx("with its filters shut", 0)?;
    open(t);
    t.arrive(NIC, 9, 200)?;
    t.rest();
    t.note_rx("first frame", 0)?;
    t.note_interrupts("its interrupt");
    t.rig.send(&crate::link::test_frame(super::PEER, NIC, 4, 99))?;
    t.rest();
    t.note_frames("first frame sent");
    Ok(())
}

//! Traces of the transmit side.

use anyhow::Result;
use nic::registers::{self as reg, queue, status};

use super::{NIC, PEER, Tracer};
use crate::link::test_frame;

/// Data descriptor that holds a whole frame and asks for a report when it is done.
pub(super) const DATA: u64 = 0x2b30_0000;
const EOP: u64 = 1 << 24;
const RS: u64 = 1 << 27;
const PAYLEN_SHIFT: u32 = 46;

/// The two words of a descriptor for a part of a frame.
fn part(iova: u64, len: usize, frame_len: usize, flags: u64) -> [u64; 2] {
    let command = (DATA & !(EOP | RS)) | flags | len as u64;
    [iova, command | (frame_len as u64) << PAYLEN_SHIFT]
}

fn whole(t: &Tracer<'_>, index: u64, frame: &[u8]) -> Result<()> {
    let iova = t.load(index, frame)?;
    t.put_tx(index, part(iova, frame.len(), frame.len(), EOP | RS))
}

fn numbered(number: u8, len: usize) -> Vec<u8> {
    test_frame(PEER, NIC, number, len)
}

/// Notes what the registers of an attached NIC read as.
pub(super) fn registers(t: &mut Tracer<'_>) -> Result<()> {
    let all = u32::MAX;
    let list = [
        ("STATUS", reg::STATUS, status::LU | status::FD | status::SPEED_1000),
        ("RCTL", reg::RCTL, all),
        ("TCTL", reg::TCTL, all),
        ("GPIE", reg::GPIE, all),
        ("EIMS", reg::EIMS, 0b11),
        ("EIAC", reg::EIAC, 0b11),
        ("IMS", reg::IMS, all),
        ("IVAR0", reg::IVAR0, 0xffff),
        ("IVAR_MISC", reg::IVAR_MISC, 0xffff),
        ("RAL0", reg::RAL0, all),
        ("RAH0", reg::RAH0, all),
        ("RDH", reg::RX_QUEUE + queue::HEAD, all),
        ("RDT", reg::RDT, all),
        ("TDH", reg::TX_QUEUE + queue::HEAD, all),
        ("TDT", reg::TDT, all),
        ("RDLEN", reg::RX_QUEUE + queue::LENGTH, all),
        ("TDBAL", reg::TX_QUEUE + queue::BASE_LOW, all),
        ("SRRCTL", reg::RX_QUEUE + queue::SRRCTL, all),
        ("RXDCTL enable", reg::RXDCTL, queue::ENABLE),
        ("TXDCTL enable", reg::TXDCTL, queue::ENABLE),
        ("unknown", 0x5ff0, all),
    ];
    for (label, offset, mask) in list {
        t.note_register(label, offset, mask);
    }
    Ok(())
}

/// Sends one frame per doorbell, until the ring wraps around.
pub(super) fn whole_frames(t: &mut Tracer<'_>) -> Result<()> {
    t.note_register("GPTC before", reg::GPTC, u32::MAX);
    for number in 0..10u8 {
        let index = u64::from(number) % 8;
        whole(t, index, &numbered(number, 60 + 130 * usize::from(number)))?;
        t.transmit_to((u32::from(number) + 1) % 8);
        t.note_frames(&format!("frame {number}"));
        t.note_tx_done(&format!("write-back {number}"), index..index + 1)?;
        t.note_interrupts(&format!("interrupt {number}"));
    }
    t.note_register("TDH", reg::TX_QUEUE + queue::HEAD, u32::MAX);
    t.note_register("GPTC", reg::GPTC, u32::MAX);
    t.note_register("GPTC again", reg::GPTC, u32::MAX);
    Ok(())
}

/// Sends seven frames with one doorbell; only the last frame asks for a report.
pub(super) fn batch(t: &mut Tracer<'_>) -> Result<()> {
    for number in 0..7u8 {
        let frame = numbered(number, 100);
        let iova = t.load(number.into(), &frame)?;
        let flags = if number == 6 { EOP | RS } else { EOP };
        t.put_tx(number.into(), part(iova, 100, 100, flags))?;
    }
    t.transmit_to(7);
    t.note_frames("frames");
    t.note_tx_done("write-backs", 0..7)?;
    t.note_interrupts("interrupt");
    t.note_register("TDH", reg::TX_QUEUE + queue::HEAD, u32::MAX);
    Ok(())
}

/// Sends a frame in three pieces.
pub(super) fn chain(t: &mut Tracer<'_>) -> Result<()> {
    let frame = numbered(1, 300);
    let pieces = [(0, 100, 0), (100, 50, 0), (150, 150, EOP | RS)];
    for (index, (start, len, flags)) in pieces.into_iter().enumerate() {
        let iova = t.load(index as u64, &frame[start..start + len])?;
        t.put_tx(index as u64, part(iova, len, frame.len(), flags))?;
    }
    t.transmit_to(3);
    t.note_frames("frame");
    t.note_tx_done("write-backs", 0..3)?;
    t.note_register("GPTC", reg::GPTC, u32::MAX);
    Ok(())
}

/// Sends frames that are shorter than the minimum length of Ethernet.
pub(super) fn short_frames(t: &mut Tracer<'_>) -> Result<()> {
    for (index, len) in [59, 20].into_iter().enumerate() {
        whole(t, index as u64, &numbered(1, len))?;
        t.transmit_to(index as u32 + 1);
        t.note_frames(&format!("{len} bytes"));
        t.note_tx_done(&format!("{len} bytes, write-back"), index as u64..index as u64 + 1)?;
    }
    Ok(())
}

/// Rings the doorbell while the queue is off, switches the queue on, and rings the doorbell again.
pub(super) fn tail_while_off(t: &mut Tracer<'_>) -> Result<()> {
    t.write(reg::TXDCTL, 0);
    t.rest();
    whole(t, 0, &numbered(1, 100))?;
    t.transmit_to(1);
    t.note_frames("while off");
    t.write(reg::TXDCTL, queue::ENABLE);
    t.rest();
    t.note_frames("after on");
    t.note_register("TDT after on", reg::TDT, u32::MAX);
    t.transmit_to(1);
    t.note_frames("after the doorbell");
    t.note_tx_done("write-back", 0..1)?;
    Ok(())
}

//! Traces of checksum and segmentation offload.

use anyhow::Result;
use nic::registers::GPTC;

use super::transmit::DATA;
use super::{NIC, PEER, Tracer};

const CONTEXT: u64 = 0x2020_0000;
const IPV4: u64 = 1 << 10;
const TCP: u64 = 1 << 11;
const IXSM: u64 = 1 << 40;
const TXSM: u64 = 1 << 41;
const TSE: u64 = 1 << 31;
const PAYLEN_SHIFT: u32 = 46;
const SOURCE: [u8; 4] = [10, 77, 0, 1];
const DESTINATION: [u8; 4] = [10, 77, 0, 2];

/// Ethernet and IPv4 headers and the transport part; the checksums are left to the NIC.
fn packet(protocol: u8, transport: &[u8]) -> Vec<u8> {
    let mut packet = [&PEER[..], &NIC, &[8, 0, 0x45, 0]].concat();
    packet.extend(((20 + transport.len()) as u16).to_be_bytes());
    packet.extend([0x12, 0x34, 0x40, 0, 64, protocol, 0, 0]);
    packet.extend(SOURCE);
    packet.extend(DESTINATION);
    packet.extend(transport);
    packet
}

/// Sum over the pseudo header, as the NIC expects it in the checksum field.
fn seed(protocol: u8, len: u16) -> [u8; 2] {
    let mut sum = u32::from(protocol) + u32::from(len);
    for pair in [SOURCE, DESTINATION].concat().chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(pair[1]);
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (sum as u16).to_be_bytes()
}

/// Lengths of the IP and the Ethernet header, as a context descriptor has them.
const HEADERS: u64 = 20 | 14 << 9;

/// Sends a UDP datagram; the NIC computes both checksums.
pub(super) fn checksum(t: &mut Tracer<'_>) -> Result<()> {
    let payload: Vec<u8> = (0..100).collect();
    let len = 8 + payload.len() as u16;
    let mut udp = vec![0x12, 0x34, 0x56, 0x78];
    udp.extend(len.to_be_bytes());
    udp.extend(seed(17, len));
    udp.extend(payload);
    let frame = packet(17, &udp);
    let bytes = frame.len() as u64;

    let iova = t.load(0, &frame)?;
    t.put_tx(0, [HEADERS, CONTEXT | IPV4])?;
    t.put_tx(1, [iova, DATA | bytes | IXSM | TXSM | bytes << PAYLEN_SHIFT])?;
    t.transmit_to(2);
    t.note_frames("frame");
    t.note_tx_done("write-back", 1..2)?;
    t.note_register("GPTC", GPTC, u32::MAX);
    Ok(())
}

/// Sends 3,000 bytes of TCP payload, which the NIC splits into segments of 1,000.
pub(super) fn segmentation(t: &mut Tracer<'_>) -> Result<()> {
    const PAYLOAD: usize = 3000;
    const SEGMENT: u64 = 1000;
    const TCP_HEADER: u64 = 20;
    const L4LEN_SHIFT: u32 = 40;
    const MSS_SHIFT: u32 = 48;
    let mut tcp = vec![0x12, 0x34, 0x56, 0x78, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x19, 0x10, 0];
    // The seed leaves out the length, which differs from segment to segment.
    tcp.extend(seed(6, 0));
    tcp.extend([0, 0]);
    let headers = packet(6, &tcp);
    let payload: Vec<u8> = (0..PAYLOAD).map(|byte| byte as u8).collect();

    let context = CONTEXT | IPV4 | TCP | TCP_HEADER << L4LEN_SHIFT | SEGMENT << MSS_SHIFT;
    t.put_tx(0, [HEADERS, context])?;
    let flags = TSE | IXSM | TXSM | (PAYLOAD as u64) << PAYLEN_SHIFT;
    let pieces = [&headers[..], &payload[..2000], &payload[2000..]];
    for (index, piece) in (1..).zip(pieces) {
        let iova = t.load(index, piece)?;
        let ends = if index == 3 { DATA } else { DATA & !(1 << 24 | 1 << 27) };
        t.put_tx(index, [iova, ends | flags | piece.len() as u64])?;
    }
    t.transmit_to(4);
    t.note_each_frame("segment");
    t.note_tx_done("write-back", 3..4)?;
    t.note_register("GPTC", GPTC, u32::MAX);
    Ok(())
}

//! Checksums and segmentation, judged by an independent sum.

use super::bench::*;
use crate::Nic;
use crate::registers as reg;
use crate::wire::Wire;

const DATA: u64 = WHOLE_FRAME;
const CONTEXT: u64 = 0x2020_0000;
const IPV4: u64 = 1 << 10;
const TCP: u64 = 1 << 11;
const IXSM: u64 = 1 << 40;
const TXSM: u64 = 1 << 41;
const TSE: u64 = 1 << 31;
const SOURCE: [u8; 4] = [10, 0, 0, 1];
const DESTINATION: [u8; 4] = [10, 0, 0, 2];

/// Ones' complement sum, the slow and obvious way.
fn checksum_over(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u32;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
    }
    sum as u16
}

fn pseudo_header(protocol: u8, len: usize) -> Vec<u8> {
    [&SOURCE[..], &DESTINATION, &[0, protocol], &(len as u16).to_be_bytes()].concat()
}

/// Ethernet and IPv4 headers and what follows; the IP checksum is left out.
fn packet(protocol: u8, transport: &[u8]) -> Vec<u8> {
    let mut packet = frame(PEER, MAC, 14);
    packet[12..14].copy_from_slice(&[8, 0]);
    let total = (20 + transport.len()) as u16;
    packet.extend([0x45, 0]);
    packet.extend(total.to_be_bytes());
    packet.extend([0x12, 0x34, 0x40, 0, 64, protocol, 0, 0]);
    packet.extend(SOURCE);
    packet.extend(DESTINATION);
    packet.extend(transport);
    packet
}

fn udp(payload: &[u8], checksum: u16) -> Vec<u8> {
    let mut header = vec![0x12, 0x34, 0x56, 0x78];
    header.extend(((8 + payload.len()) as u16).to_be_bytes());
    header.extend(checksum.to_be_bytes());
    header.extend(payload);
    header
}

fn assert_sums_hold(frame: &[u8]) {
    let (ip, transport) = (&frame[14..34], &frame[34..]);
    assert_eq!(checksum_over(&[ip]), 0xffff, "IP");
    let pseudo_header = pseudo_header(frame[23], transport.len());
    assert_eq!(checksum_over(&[&pseudo_header, transport]), 0xffff, "transport");
}

/// A context descriptor for IPv4 behind a plain Ethernet header.
fn context(kind: u64, transport_bytes: u64, segment_bytes: u64) -> [u64; 2] {
    [20 | 14 << 9, CONTEXT | kind | transport_bytes << 40 | segment_bytes << 48]
}

#[test]
fn checksums_are_inserted_by_the_context() {
    let bench = Bench::new();
    let seed = checksum_over(&[&pseudo_header(17, 8 + 51)]);
    let sent = packet(17, &udp(&[0xa5; 51], seed));
    let len = sent.len() as u64;
    let iova = bench.load(0, &sent);
    bench.put(TX_RING, 0, context(IPV4, 0, 0));
    bench.put(TX_RING, 1, [iova, DATA | len | len << 46 | IXSM | TXSM]);

    bench.write(reg::TDT, 2);

    let got = bench.peer_gets();
    assert_sums_hold(&got);
    assert_eq!(got[42..], sent[42..]);
    assert_eq!(bench.bytes(READ_ONLY, sent.len()), sent, "memory keeps what the driver wrote");
}

#[test]
fn the_second_context_has_an_index_of_its_own() {
    let bench = Bench::new();
    let seed = checksum_over(&[&pseudo_header(17, 8 + 60)]);
    let sent = packet(17, &udp(&[7; 60], seed));
    let len = sent.len() as u64;
    let iova = bench.load(0, &sent);
    let [headers, word] = context(IPV4, 0, 0);
    bench.put(TX_RING, 0, [headers, word | 1 << 36]);
    bench.put(TX_RING, 1, [0x1ff | 0x7f << 9, word]);
    bench.put(TX_RING, 2, [iova, DATA | len | len << 46 | IXSM | TXSM | 1 << 36]);
    bench.write(reg::TDT, 3);
    assert_sums_hold(&bench.peer_gets());
}

#[test]
fn a_context_that_reaches_beyond_the_frame_sends_nothing() {
    let bench = Bench::new();
    let sent = frame(PEER, MAC, 60);
    let iova = bench.load(0, &sent);
    for (index, kind) in [IPV4, IPV4 | TCP, 3 << 11].into_iter().enumerate() {
        let at = index as u32 * 2;
        bench.put(TX_RING, at, [0x1ff | 0x7f << 9, CONTEXT | kind]);
        bench.put(TX_RING, at + 1, [iova, DATA | 60 | 60 << 46 | IXSM | TXSM]);
    }
    bench.write(reg::TDT, 6);
    eventually("used up", || bench.is_done(TX_RING, 5));
    assert_eq!(bench.peer_has(), None);
    assert_eq!(bench.nic.faults().descriptors, 3);
}

#[test]
fn tcp_is_cut_into_segments() {
    let bench = Bench::new();
    let payload: Vec<u8> = (0..4000_u32).map(|byte| byte as u8).collect();
    let seed = checksum_over(&[&SOURCE, &DESTINATION, &[0, 6]]);
    let mut transport = vec![0, 80, 0x30, 0x39];
    transport.extend(0xffff_ff00_u32.to_be_bytes());
    transport.extend([0, 0, 0, 1, 0x50, 0x19 | 0x80, 0x10, 0]);
    transport.extend(seed.to_be_bytes());
    transport.extend([0, 0]);
    let headers = packet(6, &transport);
    let whole = [&headers[..], &payload].concat();
    let parts = [(0, 0..54), (1, 54..2054), (2, 2054..4054)];
    bench.put(TX_RING, 0, context(IPV4 | TCP, 20, 1460));
    for (buffer, range) in parts {
        let is_last = range.end == 4054;
        let flags = if is_last { DATA } else { DATA & !(1 << 24) };
        let len = range.len() as u64;
        let iova = bench.load(buffer, &whole[range]);
        bench.put(TX_RING, buffer + 1, [iova, flags | TSE | len | IXSM | TXSM | 4000 << 46]);
    }

    bench.write(reg::TDT, 4);

    let mut got = Vec::new();
    for number in 0..3_u32 {
        let segment = bench.peer_gets();
        assert_sums_hold(&segment);
        assert_eq!(usize::from(u16::from_be_bytes([segment[16], segment[17]])), segment.len() - 14);
        let id = u16::from_be_bytes([segment[18], segment[19]]);
        assert_eq!(u32::from(id), 0x1234 + number);
        let sequence = u32::from_be_bytes(*segment[38..].first_chunk().unwrap());
        assert_eq!(sequence, 0xffff_ff00_u32.wrapping_add(number * 1460));
        assert_eq!(segment[47], [0x90, 0x10, 0x19][number as usize], "CWR first, FIN PSH last");
        got.extend_from_slice(&segment[54..]);
    }
    assert_eq!(got, payload);
    bench.settle();
    assert_eq!(bench.nic.take_sent(), 3, "hardware counts segments");
    assert_eq!(bench.read(0x40f8), 1);
}

#[test]
fn impossible_segmentation_sends_nothing() {
    let bench = Bench::new();
    let sent = frame(PEER, MAC, 1000);
    let iova = bench.load(0, &sent);
    let payload = 1000 - 54;
    let cases = [
        (context(IPV4 | TCP, 20, 0), payload),
        (context(IPV4 | TCP, 20, 1), payload),
        (context(IPV4 | TCP, 20, 0xffff), payload),
        (context(IPV4 | TCP, 3, 500), payload + 17),
        (context(IPV4 | TCP, 20, 500), payload + 1),
        (context(IPV4 | 3 << 11, 20, 500), payload),
    ];
    for (index, (context, payload)) in cases.into_iter().enumerate() {
        let at = index as u32 * 2;
        bench.put(TX_RING, at, context);
        bench.put(TX_RING, at + 1, [iova, DATA | TSE | 1000 | IXSM | TXSM | payload << 46]);
    }
    bench.write(reg::TDT, 12);
    eventually("used up", || bench.is_done(TX_RING, 11));
    assert_eq!(bench.peer_has(), None);
    assert_eq!(bench.nic.faults().descriptors, 6);
}

#[test]
fn received_checksums_are_judged() {
    let bench = Bench::new();
    let sum = !checksum_over(&[&pseudo_header(17, 8 + 60), &udp(&[9; 60], 0)]);
    let mut good = packet(17, &udp(&[9; 60], sum));
    good[0..6].copy_from_slice(&MAC);
    good[6..12].copy_from_slice(&PEER);
    let ip = !checksum_over(&[&good[14..34]]);
    good[24..26].copy_from_slice(&ip.to_be_bytes());
    let mut bad_ip = good.clone();
    bad_ip[22] ^= 1;
    let mut bad_udp = good.clone();
    bad_udp[60] ^= 1;

    for frame in [&good, &bad_ip, &bad_udp] {
        bench.peer.send(frame);
    }

    let [ipcs, l4cs, udpcs] = [1 << 6, 1 << 5, 1 << 4];
    let [l4e, ipe] = [1 << 29, 1 << 30];
    let verdicts = [0, 1, 2].map(|index| bench.received(index).1 & !3);
    let checked = ipcs | l4cs | udpcs;
    assert_eq!(verdicts, [checked, checked | ipe, checked | l4e]);
    assert_eq!(bench.get(RX_RING, 0)[0], 1 << 4 | 1 << 9, "IPv4, UDP");
}

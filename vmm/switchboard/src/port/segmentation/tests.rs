use proptest::prelude::*;
use smoltcp::wire::{Ipv4Packet, TcpPacket};

use super::*;
use crate::fakes::tcp::{ACK, FIN, PSH, uncut};

const TCP4: Checksum = Checksum { start: 34, offset: 16 };
const TCP6: Checksum = Checksum { start: 54, offset: 16 };

fn begun(
    internet: Internet,
    frame: &[u8],
    tcp: Checksum,
    each: u16,
) -> Result<Segmenter, Uncuttable> {
    let mut segmenter = Segmenter::new();
    let start = &frame[..frame.len().min(MAX_HEADERS_BYTES)];
    let cut = Cut { internet, payload_bytes: each };
    segmenter.begin(cut, tcp, start, frame.len()).map(|()| segmenter)
}

/// The segments, with their checksums computed as a NIC does.
fn segments(segmenter: &mut Segmenter, frame: &[u8], tcp: Checksum) -> Vec<Vec<u8>> {
    let mut at = segmenter.headers().len();
    let mut all = Vec::new();
    while let Some(payload_bytes) = segmenter.advance() {
        let mut segment = segmenter.headers().to_vec();
        segment.extend(&frame[at..at + payload_bytes]);
        at += payload_bytes;
        let value = !checksum::fold(checksum::sum(&segment[usize::from(tcp.start)..]));
        segment[tcp.field()..tcp.field() + 2].copy_from_slice(&value.to_be_bytes());
        all.push(segment);
    }
    all
}

/// The TCP packet in a segment, both checksums and all lengths verified.
fn tcp_of(internet: Internet, segment: &[u8], tags: usize) -> TcpPacket<&[u8]> {
    let packet = &segment[14 + 4 * tags..];
    let (addresses, tcp) = match internet {
        Internet::V4 => {
            let ip = Ipv4Packet::new_checked(packet).unwrap();
            assert!(ip.verify_checksum());
            assert_eq!(usize::from(ip.total_len()), packet.len());
            (&packet[12..20], &packet[20..])
        }
        Internet::V6 => {
            let payload_len = u16::from_be_bytes([packet[4], packet[5]]);
            assert_eq!(usize::from(payload_len), packet.len() - IPV6_BYTES);
            (&packet[8..40], &packet[40..])
        }
    };
    let pseudo = checksum::sum(addresses) + u64::from(TCP) + tcp.len() as u64;
    assert_eq!(checksum::fold(pseudo + checksum::sum(tcp)), 0xffff);
    TcpPacket::new_checked(tcp).unwrap()
}

fn internet() -> impl Strategy<Value = Internet> {
    prop_oneof![Just(Internet::V4), Just(Internet::V6)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..Default::default() })]

    #[test]
    fn segments_are_what_a_tcp_would_have_sent(
        internet in internet(),
        tags in 0..=2_usize,
        payload in prop::collection::vec(any::<u8>(), 1..20_000),
        each in 400..9000_u16,
    ) {
        let (frame, tcp) = uncut(internet, tags, &payload, FIN | PSH | ACK | FIRST_ONLY);
        let mut segmenter = begun(internet, &frame, tcp, each).unwrap();
        let count = segmenter.left();
        let segments = segments(&mut segmenter, &frame, tcp);
        prop_assert_eq!(segments.len(), count);
        let mut together: Vec<u8> = Vec::new();
        for (n, segment) in segments.iter().enumerate() {
            let packet = tcp_of(internet, segment, tags);
            let expected = 0xffff_ff00_u32.wrapping_add(together.len() as u32);
            prop_assert_eq!(packet.seq_number().0 as u32, expected);
            prop_assert_eq!(packet.fin() && packet.psh(), n + 1 == count);
            prop_assert_eq!(packet.cwr(), n == 0);
            prop_assert!(packet.ack());
            prop_assert!(packet.payload().len() <= usize::from(each));
            together.extend(packet.payload());
        }
        prop_assert_eq!(together, payload);
    }

    #[test]
    fn no_headers_are_too_odd(
        start in prop::collection::vec(any::<u8>(), 0..MAX_HEADERS_BYTES),
        internet in internet(),
        checksum in any::<(u16, bool)>(),
        each in any::<u16>(),
        more in 0..MAX_UNCUT_BYTES,
    ) {
        let tcp = Checksum { start: checksum.0 % 300, offset: if checksum.1 { 16 } else { 6 } };
        let cut = Cut { internet, payload_bytes: each };
        let mut segmenter = Segmenter::new();
        if segmenter.begin(cut, tcp, &start, start.len() + more).is_ok() {
            let longest = segmenter.segment_bytes();
            while let Some(payload_bytes) = segmenter.advance() {
                prop_assert!(segmenter.headers().len() + payload_bytes <= longest);
                prop_assert!(longest <= MAX_FRAME_BYTES);
            }
        }
    }
}

#[test]
fn each_datagram_of_ipv4_has_a_number_of_its_own() {
    let (frame, tcp) = uncut(Internet::V4, 0, &[7; 3000], ACK);
    let mut segmenter = begun(Internet::V4, &frame, tcp, 1000).unwrap();
    let segments = segments(&mut segmenter, &frame, tcp);
    let numbers = segments.iter().map(|s| Ipv4Packet::new_checked(&s[14..]).unwrap().ident());
    assert_eq!(numbers.collect::<Vec<_>>(), [0xffff, 0, 1]);
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let (v4, tcp) = uncut(Internet::V4, 0, &[7; 3000], ACK);
    assert_eq!(tcp, TCP4);
    let (v6, _) = uncut(Internet::V6, 0, &[7; 3000], ACK);
    let refused = |internet, frame: &[u8], tcp, each| begun(internet, frame, tcp, each).is_err();
    assert!(refused(Internet::V6, &v4, TCP4, 1000));
    assert!(refused(Internet::V4, &v6, TCP6, 1000));
    assert!(refused(Internet::V4, &v4, Checksum { start: 38, ..TCP4 }, 1000));
    assert!(refused(Internet::V4, &v4, Checksum { offset: 6, ..TCP4 }, 1000));
    assert!(refused(Internet::V4, &v4, TCP4, 0));
    assert!(refused(Internet::V4, &v4, TCP4, 9700), "longer than any frame");
    assert!(refused(Internet::V4, &v4[..66], TCP4, 1000), "nothing to cut");
    let changed = |at: usize, value: u8| {
        let mut frame = v4.clone();
        frame[at] = value;
        frame
    };
    assert!(refused(Internet::V4, &changed(14, 0x46), TCP4, 1000), "IP options that are not there");
    assert!(refused(Internet::V4, &changed(23, 17), TCP4, 1000), "UDP");
    assert!(refused(Internet::V4, &changed(46, 4 << 4), TCP4, 1000), "a TCP header too short");
    assert!(!refused(Internet::V4, &v4, TCP4, 1000));
    assert!(!refused(Internet::V6, &v6, TCP6, 1000));
}

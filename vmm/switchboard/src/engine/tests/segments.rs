//! Long frames of TCP, cut on their way out.

use super::*;
use crate::fakes::rig::{frame_to, other_mac};
use crate::fakes::tcp::{ACK, uncut};
use crate::port::Internet;

const PAYLOAD: usize = 1448;
/// Headers of TCP over IPv4 and Ethernet, with twelve bytes of options.
const HEADERS: usize = 14 + 20 + 32;

/// A frame of so many segments, with its virtio-net header.
fn long(segments: usize, payload: u16) -> ([u8; 12], Vec<u8>) {
    let bytes: Vec<u8> = (0..segments * usize::from(payload)).map(|n| (n / 7) as u8).collect();
    let (frame, checksum) = uncut(Internet::V4, 0, &bytes, ACK);
    let mut header = [0; 12];
    (header[0], header[1]) = (1, 1);
    header[4..6].copy_from_slice(&payload.to_le_bytes());
    header[6..8].copy_from_slice(&checksum.start.to_le_bytes());
    header[8..10].copy_from_slice(&checksum.offset.to_le_bytes());
    (header, frame)
}

fn payloads(frames: &[Vec<u8>]) -> Vec<u8> {
    frames.iter().flat_map(|frame| &frame[HEADERS..]).copied().collect()
}

#[test]
fn a_long_frame_is_posted_in_segments_whose_checksums_the_nic_computes() {
    let (mut rig, mut domain) = Rig::new();
    let (header, frame) = long(44, PAYLOAD as u16);
    rig.guest.tx.send_behind(&header, &frame);
    rig.turn();
    assert_eq!(rig.guest.tx.drain_used(), 1, "its chain comes back at once");
    let posted = domain.take_posted(100);
    assert_eq!(posted.len(), 44);
    assert!(posted.iter().all(|segment| segment.len() == HEADERS + PAYLOAD));
    assert_eq!(payloads(&posted), frame[HEADERS..]);
    let asks = |entry: &Entry| {
        let tcp = (entry.csum_start, entry.csum_offset) == (34, 16);
        entry.flags.contains(EntryFlags::CHECKSUM) && tcp
    };
    assert!(domain.in_hand.iter().all(asks));
    let counters = &rig.shared.counters;
    assert_eq!((counters.tx_cut.get(), counters.tx_frames.get()), (1, 44));
}

#[test]
fn after_a_failure_only_the_segments_that_were_not_sent_go_out_again() {
    let (mut rig, mut domain) = Rig::new();
    let (header, frame) = long(10, PAYLOAD as u16);
    rig.guest.tx.send_behind(&header, &frame);
    rig.turn();
    domain.take_posted(100);
    domain.claim(10);
    rig.turn();
    rig.nics[0].send(6);
    let mut spare = rig.install(1, 2);
    rig.take_over(1, 2);
    // Announcements are shorter.
    let again: Vec<_> =
        spare.take_posted(100).into_iter().filter(|frame| frame.len() > HEADERS).collect();
    assert_eq!(payloads(&again), frame[HEADERS + 6 * PAYLOAD..]);
}

#[test]
fn a_long_frame_waits_in_the_ring_until_all_of_it_has_room() {
    let (mut rig, mut domain) = Rig::new();
    let (header, frame) = long(44, PAYLOAD as u16);
    for _ in 0..4 {
        for _ in 0..6 {
            rig.guest.tx.send_behind(&header, &frame);
        }
        rig.turn();
    }
    let posted = domain.take_posted(2000).len();
    assert_eq!(posted % 44, 0, "never a part of one");
    assert!(posted < 24 * 44);
    assert_eq!(rig.guest.tx.drain_used() * 44, posted);
    assert!(rig.engine.arm(), "what waits does not keep the loop awake");
    rig.engine.disarm();
    let mut whole = posted;
    while whole < 24 * 44 {
        let in_hand = domain.in_hand.len();
        domain.claim(in_hand);
        rig.turn();
        rig.nics[0].send(in_hand as u32);
        rig.tick();
        rig.turn();
        let more = domain.take_posted(2000).len();
        assert!(more > 0, "{whole} of {}", 24 * 44);
        whole += more;
    }
    rig.assert_no_violation();
}

#[test]
fn more_segments_than_there_ever_are_buffers_are_refused() {
    let (mut rig, mut domain) = Rig::new();
    let (header, frame) = long(2000, 20);
    rig.guest.tx.send_behind(&header, &frame);
    rig.turn();
    assert_eq!(rig.guest.tx.drain_used(), 1);
    assert_eq!(rig.shared.counters.tx_malformed.get(), 1);
    rig.send(5..6);
    assert_eq!(numbers(&domain.take_posted(10)), [5]);
}

#[test]
fn headers_that_cannot_be_cut_come_back() {
    let (mut rig, mut domain) = Rig::new();
    let (header, mut frame) = long(4, PAYLOAD as u16);
    frame[23] = 17;
    rig.guest.tx.send_behind(&header, &frame);
    rig.guest.tx.send_behind(&header, &frame[..50]);
    rig.turn();
    assert_eq!(rig.guest.tx.drain_used(), 2);
    assert_eq!(rig.shared.counters.tx_malformed.get(), 2);
    assert!(domain.take_posted(1).is_empty());
}

#[test]
fn another_guest_gets_whole_segments_with_their_checksums() {
    let (mut rig, _domain) = Rig::of_several(1);
    let (header, mut frame) = long(3, PAYLOAD as u16);
    let addressed = frame_to(other_mac(0), MAC, 0, 60);
    frame[..12].copy_from_slice(&addressed[..12]);
    for _ in 0..3 {
        rig.others[0].rx.add(&[(2048, true)]);
    }
    rig.guest.tx.send_behind(&header, &frame);
    rig.turn();
    let received: Vec<_> =
        std::iter::from_fn(|| rig.others[0].rx.take_received()).map(|(_, frame)| frame).collect();
    assert_eq!(payloads(&received), frame[HEADERS..]);
    for segment in &received {
        let tcp = platform::checksum::sum(&segment[34..]);
        let addresses = platform::checksum::sum(&segment[26..34]);
        let pseudo = addresses + 6 + (segment.len() - 34) as u64;
        assert_eq!(platform::checksum::fold(tcp + pseudo), 0xffff);
    }
}

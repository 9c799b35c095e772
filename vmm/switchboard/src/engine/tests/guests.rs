//! Several guests on one pair of NICs.

use std::sync::mpsc::sync_channel;

use super::*;
use crate::fakes::FakeRing;
use crate::fakes::rig::{frame_to, other_mac};

const STATION: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];
const EVERYONE: [u8; 6] = [0xff; 6];

fn received(ring: &mut FakeRing) -> Vec<u32> {
    std::iter::from_fn(|| ring.take_received()).map(|(_, frame)| number(&frame)).collect()
}

#[test]
fn frames_go_to_whom_they_are_for_and_groups_to_all() {
    let (mut rig, mut domain) = Rig::of_several(2);
    for (n, to) in [MAC, other_mac(0), EVERYONE, other_mac(1), [2; 6]].into_iter().enumerate() {
        domain.receive(&frame_to(to, STATION, n as u32, 100));
    }
    rig.turn();
    assert_eq!(received(&mut rig.guest.rx), [0, 2]);
    assert_eq!(received(&mut rig.others[0].rx), [1, 2]);
    assert_eq!(received(&mut rig.others[1].rx), [2, 3]);
    assert_eq!(rig.shared.counters.rx_unknown.get(), 1);
    rig.assert_no_violation();
}

#[test]
fn no_guests_own_frame_comes_back_through_the_other_port() {
    let (mut rig, mut domain) = Rig::of_several(1);
    domain.receive(&frame_to(EVERYONE, MAC, 1, 100));
    domain.receive(&frame_to(EVERYONE, other_mac(0), 2, 100));
    rig.turn();
    assert!(received(&mut rig.guest.rx).is_empty());
    assert!(received(&mut rig.others[0].rx).is_empty());
    assert_eq!(rig.shared.counters.rx_own.get(), 2);
}

#[test]
fn guests_reach_each_other_and_groups_also_the_wire() {
    let (mut rig, mut domain) = Rig::of_several(2);
    rig.guest.tx.send(&frame_to(other_mac(0), MAC, 1, 100));
    rig.guest.tx.send(&frame_to(EVERYONE, MAC, 2, 9000));
    rig.guest.tx.send(&frame_to(STATION, MAC, 3, 100));
    rig.guest.tx.send(&frame_to(other_mac(1), MAC, 4, 20));
    for _ in 0..8 {
        rig.others[0].rx.add(&[(2048, true)]);
    }
    rig.turn();
    let posted = domain.take_posted(16);
    assert_eq!(numbers(&posted), [2, 3], "what is for a guest never reaches the wire");
    assert_eq!(received(&mut rig.others[0].rx), [1, 2]);
    let to_the_last = std::iter::from_fn(|| rig.others[1].rx.take_received());
    let to_the_last: Vec<_> = to_the_last.map(|(_, frame)| (number(&frame), frame.len())).collect();
    assert_eq!(to_the_last, [(2, 9000), (4, 60)]);
    assert!(received(&mut rig.guest.rx).is_empty(), "nothing comes back to the sender");
    assert_eq!(rig.shared.counters.local_frames.get(), 4);
}

#[test]
fn what_a_nic_would_compute_is_computed_for_a_guest() {
    let (mut rig, _domain) = Rig::of_several(1);
    let mut packet = frame_to(other_mac(0), MAC, 0, 60);
    packet[12..34].copy_from_slice(&[
        8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    ]);
    // The pseudo-header's sum stands where the checksum is to be (virtio 1.3, 5.1.6.2).
    packet[40..42].copy_from_slice(&[0, 0]);
    let mut header = [0; 12];
    header[..10].copy_from_slice(&[1, 0, 0, 0, 0, 0, 34, 0, 6, 0]);
    rig.others[0].rx.drain_used();
    rig.guest.tx.send_behind(&header, &packet);
    rig.turn();
    let (header, body) = rig.others[0].rx.take_received().unwrap();
    assert_eq!(header[0], 0, "nothing is left to be computed");
    let words = body[34..].chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(w[1]));
    let sum = words.sum::<u32>();
    assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff, "the sum with its checksum is minus zero");
}

#[test]
fn a_guest_without_buffers_holds_nobody_up() {
    let (mut rig, mut domain) = Rig::of_several(1);
    let mut sent = 0;
    for _ in 0..4 {
        for _ in 0..50 {
            domain.receive(&frame_to(MAC, STATION, sent, 100));
            domain.receive(&frame_to(other_mac(0), STATION, sent, 100));
            sent += 1;
        }
        rig.turn();
        assert_eq!(received(&mut rig.others[0].rx), (sent - 50..sent).collect::<Vec<_>>());
        (0..50).for_each(|_| drop(rig.others[0].rx.add(&[(2048, true)])));
    }
    // 64 found room, 64 wait.
    assert_eq!(rig.shared.counters.rx_overrun.get(), 200 - 128);
    assert_eq!(received(&mut rig.guest.rx), (0..64).collect::<Vec<_>>());
    assert!(rig.engine.arm(), "waiting frames do not keep the loop awake");
    rig.engine.disarm();
    (0..64).for_each(|_| drop(rig.guest.rx.add(&[(2048, true)])));
    assert!(!rig.engine.arm(), "but buffers for them do");
    rig.engine.disarm();
    rig.turn();
    assert_eq!(received(&mut rig.guest.rx), (64..128).collect::<Vec<_>>());
    rig.assert_no_violation();
}

#[test]
fn buffers_go_round_for_ever_while_a_guest_takes_nothing() {
    let (mut rig, mut domain) = Rig::of_several(1);
    for number in 0..3 * RX_BUFFERS as u32 {
        domain.receive(&frame_to(EVERYONE, STATION, number, 100));
        rig.turn();
        assert_eq!(received(&mut rig.others[0].rx), [number]);
        rig.others[0].rx.add(&[(2048, true)]);
    }
    rig.assert_no_violation();
}

#[test]
fn what_waits_for_a_guest_is_handed_on_at_a_takeover() {
    let (mut rig, mut domain) = Rig::of_several(1);
    let _spare = rig.install(1, 2);
    for number in 0..100 {
        domain.receive(&frame_to(EVERYONE, STATION, number, 100));
    }
    rig.turn();
    assert_eq!(received(&mut rig.guest.rx).len(), 64);
    (0..30).for_each(|_| drop(rig.guest.rx.add(&[(2048, true)])));
    let report = rig.take_over(1, 2);
    assert_eq!((report.drained, report.lost), (30, 6 + 36));
    assert_eq!(received(&mut rig.guest.rx), (64..94).collect::<Vec<_>>());
    rig.assert_no_violation();
}

#[test]
fn a_guest_that_floods_leaves_the_others_their_share() {
    let (mut rig, mut domain) = Rig::of_several(1);
    for number in 0..200 {
        rig.guest.tx.send(&frame_to(STATION, MAC, number, 1514));
        rig.others[0].tx.send(&frame_to(STATION, other_mac(0), number, 1514));
    }
    // Nothing is confirmed, so the flood stops at its share.
    rig.turn();
    let more = |rig: &mut Rig| {
        rig.guest.tx.drain_used();
        for number in 0..100 {
            rig.guest.tx.send(&frame_to(STATION, MAC, number, 1514));
        }
        rig.turn();
    };
    (0..2).for_each(|_| more(&mut rig));
    let before = domain.take_posted(1024).len();
    for number in 200..230 {
        rig.others[0].tx.send(&frame_to(STATION, other_mac(0), number, 1514));
    }
    rig.turn();
    let posted = domain.take_posted(1024);
    assert!(posted.len() >= 30, "{} of 30 after {before}", posted.len());
    assert!(posted.iter().all(|frame| frame[6..12] == other_mac(0)));
}

#[test]
fn guests_are_served_in_turn() {
    let (mut rig, mut domain) = Rig::of_several(1);
    for number in 0..200 {
        rig.guest.tx.send(&frame_to(STATION, MAC, number, 64));
    }
    rig.others[0].tx.send(&frame_to(STATION, other_mac(0), 7, 64));
    rig.turn();
    let posted = domain.take_posted(1024);
    let place = posted.iter().position(|frame| frame[6..12] == other_mac(0)).unwrap();
    assert!(place <= 32, "behind {place} frames");
}

#[test]
fn a_corrupt_ring_stops_that_guest_alone() {
    use vm_memory::{Bytes, GuestAddress};
    let (mut rig, mut domain) = Rig::of_several(1);
    let index = GuestAddress(rig.guest.tx.avail() + 2);
    rig.guest.memory.store(QUEUE + 5, index, Ordering::SeqCst).unwrap();
    rig.turn();
    assert_eq!(rig.shared.counters.guest_rings_broken.get(), 1);
    assert_eq!(rig.shared.port_events[0].event.read().unwrap(), 1);
    assert!(rig.shared.port_events[1].event.read().is_err());
    rig.others[0].tx.send(&frame_to(STATION, other_mac(0), 5, 100));
    domain.receive(&frame_to(other_mac(0), STATION, 6, 100));
    rig.turn();
    assert_eq!(numbers(&domain.take_posted(8)), [5]);
    assert_eq!(received(&mut rig.others[0].rx), [6]);
}

#[test]
fn all_guests_are_announced_and_their_frames_sent_again() {
    let (mut rig, mut domain) = Rig::of_several(1);
    rig.guest.tx.send(&frame_to(STATION, MAC, 1, 100));
    rig.others[0].tx.send(&frame_to(STATION, other_mac(0), 2, 100));
    rig.turn();
    assert_eq!(domain.take_posted(8).len(), 2);
    let mut spare = rig.install(1, 2);
    rig.take_over(1, 2);
    let posted = spare.take_posted(8);
    let mut sources: Vec<_> = posted.iter().map(|frame| frame[6..12].to_vec()).collect();
    assert_eq!(numbers(&posted[2..]), [1, 2], "behind an announcement of each");
    sources.truncate(2);
    sources.sort();
    assert_eq!(sources, [MAC.to_vec(), other_mac(0).to_vec()]);
}

#[test]
fn a_guest_that_has_moved_is_reached_over_the_wire_and_reaches_its_siblings() {
    let (mut rig, mut domain) = Rig::of_several(2);
    let done = rig.engine.set_rings(1, [RingChange::Stop, RingChange::Stop]);
    let (reply, answer) = sync_channel(1);
    rig.engine.answer_rings(1, rig.now, done, reply);
    assert!(answer.try_recv().is_ok(), "it has nothing under way");
    rig.guest.tx.send(&frame_to(other_mac(0), MAC, 1, 100));
    rig.guest.tx.send(&frame_to(EVERYONE, MAC, 2, 100));
    domain.receive(&frame_to(EVERYONE, other_mac(0), 3, 100));
    domain.receive(&frame_to(MAC, other_mac(0), 4, 100));
    rig.turn();
    assert_eq!(numbers(&domain.take_posted(8)), [1, 2], "on the wire");
    assert_eq!(received(&mut rig.guest.rx), [3, 4], "from the wire");
    assert_eq!(received(&mut rig.others[1].rx), [2, 3]);
    assert_eq!(rig.shared.counters.local_lost.get(), 0);
    // It comes back.
    let [rx, tx] = rig.others[0].vrings();
    rig.engine.set_rings(1, [RingChange::Start(rx), RingChange::Start(tx)]);
    rig.guest.tx.send(&frame_to(other_mac(0), MAC, 5, 100));
    domain.receive(&frame_to(EVERYONE, other_mac(0), 6, 100));
    rig.turn();
    assert!(domain.take_posted(8).is_empty(), "to it alone");
    assert!(received(&mut rig.guest.rx).is_empty(), "its own");
}

//! Frames of several buffers: whole or not at all, both ways and through a takeover.

use shared_ring::frame::{MAX_MTU, MAX_RX_PARTS, longest};

use super::*;

/// Bytes of a frame of 9,000 bytes of payload.
const JUMBO: usize = 9014;

/// Whole buffers but for the last, numbered in each byte.
fn jumbo(from_guest: bool, number: u32) -> Vec<u8> {
    let mut frame = frame(from_guest, number, JUMBO);
    for (n, part) in frame.chunks_mut(BUFFER_BYTES).enumerate().skip(1) {
        part.fill(number as u8 ^ n as u8);
    }
    frame
}

fn received(rig: &mut Rig) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| rig.guest.rx.take_received()).map(|(_, frame)| frame).collect()
}

#[test]
fn a_frame_of_several_buffers_reaches_the_guest_whole() {
    let (mut rig, mut domain) = Rig::new();
    for len in [2048, 2049, 4096, JUMBO, longest(MAX_MTU)] {
        let sent = frame(false, 1, len);
        domain.receive(&sent);
        rig.turn();
        assert_eq!(received(&mut rig), [sent], "{len} bytes");
    }
    rig.assert_no_violation();
}

#[test]
fn its_buffers_go_round_for_ever() {
    let (mut rig, mut domain) = Rig::new();
    for number in 0..RX_BUFFERS as u32 {
        domain.receive(&jumbo(false, number));
        rig.turn();
        assert_eq!(received(&mut rig), [jumbo(false, number)]);
        (0..MAX_RX_PARTS).for_each(|_| drop(rig.guest.rx.add(&[(2048, true)])));
    }
    rig.assert_no_violation();
}

#[test]
fn a_guest_without_merging_gets_it_in_one_chain() {
    let mut guest = FakeGuest::new();
    guest.mergeable = false;
    let (mut rig, mut domain) = Rig::serving(guest);
    let chain = rig.guest.rx.add(&[(12, true), (4096, true), (4096, true), (4096, true)]);
    let sent = jumbo(false, 3);
    domain.receive(&sent);
    rig.turn();
    assert_eq!(rig.guest.rx.take_used(), Some((chain[0], 12 + JUMBO as u32)));
    let place = |n: usize, len| rig.guest.rx.read(rig.guest.rx.buffer(chain[n]), len);
    let got = [place(1, 4096), place(2, 4096), place(3, JUMBO - 8192)].concat();
    assert!(got == sent);
}

#[test]
fn what_is_longer_than_the_mtu_allows_is_refused_and_counted_both_ways() {
    for mtu in [576, 1500, 9000] {
        let mut rig = Rig::of_mtu(FakeGuest::new(), 0, mtu);
        rig.connect();
        let mut domain = rig.install(0, 1);
        rig.engine.activate(0, 1).unwrap();
        (0..64).for_each(|_| drop(rig.guest.rx.add(&[(2048, true)])));
        let fits = longest(mtu);
        assert_eq!(fits, usize::from(mtu) + 14 + 12, "a header and three tags");
        for len in [fits, fits + 1] {
            domain.receive(&frame(false, 1, len));
            rig.guest.tx.send(&frame(true, 1, len));
        }
        rig.turn();
        assert_eq!(received(&mut rig), [frame(false, 1, fits)]);
        assert_eq!(domain.take_posted(64), [frame(true, 1, fits)]);
        let counters = &rig.shared.counters;
        assert_eq!((counters.rx_too_long.get(), counters.tx_too_long.get()), (1, 1));
        assert_eq!((counters.tx_malformed.get(), counters.tx_frames.get()), (0, 1));
        assert_eq!(rig.guest.tx.drain_used(), 2, "both chains come back");
        rig.assert_no_violation();
    }
}

/// Publishes these entries of a frame, and returns what that is.
fn publish(edit: impl FnOnce(&mut FakeDomain, &mut Vec<Entry>)) -> Violation {
    let (mut rig, mut domain) = Rig::new();
    let mut entries = domain.receive_parts(&jumbo(false, 1));
    edit(&mut domain, &mut entries);
    for entry in entries {
        domain.rings.rx_done.push(entry).unwrap();
    }
    domain.rings.rx_done.publish();
    rig.turn();
    assert!(received(&mut rig).is_empty(), "nothing of it reaches the guest");
    rig.violation()
}

#[test]
fn half_a_frame_is_a_violation() {
    for parts in 1..MAX_RX_PARTS {
        let violation = publish(|_, entries| entries.truncate(parts));
        assert!(matches!(violation, Violation::HalfFrame { .. }), "{violation}");
    }
}

#[test]
fn an_endless_frame_is_a_violation() {
    let violation = publish(|domain, entries| {
        let last = entries.len() - 1;
        entries[last] =
            Entry { len: BUFFER_BYTES as u16, flags: EntryFlags::MORE, ..entries[last] };
        entries.extend(domain.receive_parts(&jumbo(false, 2)));
    });
    assert!(matches!(violation, Violation::EndlessFrame { .. }), "{violation}");
}

#[test]
fn parts_that_do_not_fit_together_are_violations() {
    let length = |n: usize, len: u16| publish(move |_, entries| entries[n].len = len);
    for (n, len) in [(0, 100), (1, 2047), (1, 2049), (4, 0), (4, 2049)] {
        let violation = length(n, len);
        assert!(matches!(violation, Violation::BadLength { .. }), "{n}, {len}: {violation}");
    }
    let violation = publish(|_, entries| entries[2].buffer = entries[1].buffer);
    assert!(matches!(violation, Violation::NotOwned { .. }), "{violation}");
    let violation = publish(|_, entries| entries[3].buffer = RX_BUFFERS as u16);
    assert!(matches!(violation, Violation::UnknownBuffer { .. }), "{violation}");
    let violation = publish(|_, entries| entries[3].epoch = 9);
    assert!(matches!(violation, Violation::WrongEpoch { .. }), "{violation}");
}

#[test]
fn a_damaged_frame_is_dropped_whole_and_its_buffers_go_back() {
    let (mut rig, mut domain) = Rig::new();
    for _ in 0..RX_BUFFERS {
        let mut entries = domain.receive_parts(&jumbo(false, 1));
        entries[4].flags = EntryFlags::ERROR;
        entries.into_iter().for_each(|entry| domain.rings.rx_done.push(entry).unwrap());
        domain.rings.rx_done.publish();
        rig.turn();
    }
    assert_eq!(rig.shared.counters.rx_damaged.get(), RX_BUFFERS as u64);
    assert!(received(&mut rig).is_empty());
    rig.assert_no_violation();
}

/// Completes the descriptors of a frame from one on; returns the next one.
fn complete(domain: &mut FakeDomain, descriptor: usize, frame: &[u8], parts: usize) -> usize {
    let all = frame.chunks(BUFFER_BYTES).len();
    for (n, part) in frame.chunks(BUFFER_BYTES).take(parts).enumerate() {
        domain.complete_part((descriptor + n) % 512, part, n + 1 == all);
    }
    (descriptor + parts) % 512
}

#[test]
fn a_takeover_salvages_whole_frames_and_nothing_else() {
    let (mut rig, mut failed) = Rig::new();
    rig.install(1, 2);
    failed.receive(&jumbo(false, 1));
    let next = complete(&mut failed, 509, &jumbo(false, 2), 5);
    let next = complete(&mut failed, next, &frame(false, 3, 100), 1);
    complete(&mut failed, next, &jumbo(false, 4), 3); // the NIC was at it
    failed.slot.status().rx_next.store(509, Ordering::Relaxed);
    let report = rig.take_over(1, 2);
    assert_eq!((report.drained, report.salvaged, report.lost), (1, 2, 0));
    let expected = [jumbo(false, 1), jumbo(false, 2), frame(false, 3, 100)];
    assert!(received(&mut rig) == expected);
}

#[test]
fn an_index_in_the_middle_of_a_frame_makes_none_of_its_rest() {
    let (mut rig, mut failed) = Rig::new();
    rig.install(1, 2);
    let next = complete(&mut failed, 10, &jumbo(false, 1), 5);
    complete(&mut failed, next, &jumbo(false, 2), 5);
    failed.slot.status().rx_next.store(12, Ordering::Relaxed);
    let report = rig.take_over(1, 2);
    assert_eq!((report.salvaged, report.lost), (1, 0));
    assert!(received(&mut rig) == [jumbo(false, 2)]);
}

#[test]
fn a_published_half_ends_the_draining_and_reaches_nobody() {
    let (mut rig, mut failed) = Rig::new();
    rig.install(1, 2);
    failed.receive(&frame(false, 1, 100));
    let half = failed.receive_parts(&jumbo(false, 2));
    half[..3].iter().for_each(|entry| failed.rings.rx_done.push(*entry).unwrap());
    failed.rings.rx_done.publish();
    rig.take_over(1, 2);
    assert_eq!(received(&mut rig), [frame(false, 1, 100)]);
}

#[test]
fn a_takeover_sends_whole_frames_again() {
    let (mut rig, mut failed) = Rig::new();
    for number in 0..4 {
        rig.guest.tx.send(&jumbo(true, number));
    }
    rig.turn();
    assert_eq!(failed.take_posted(12).len(), 3, "two frames and half of the third are in hand");
    failed.claim(7); // one frame, and some of the second
    rig.turn();
    rig.nics[0].send(1);
    rig.tick();
    assert_eq!(rig.shared.counters.tx_confirmed.get(), 1);
    let mut spare = rig.install(1, 2);
    assert_eq!(rig.take_over(1, 2).resent, 3);
    let again: Vec<_> =
        spare.take_posted(64).into_iter().filter(|it| !is_announcement(it)).collect();
    assert!(again == [1, 2, 3].map(|number| jumbo(true, number)));
    rig.assert_no_violation();
}

#[test]
fn frames_that_wait_for_one_guest_hold_nobody_up() {
    let (mut rig, mut domain) = Rig::of_several(1);
    rig.guest.rx.drain_used();
    let other = crate::fakes::rig::other_mac(0);
    for number in 0..40 {
        domain.receive(&jumbo(false, number));
        rig.turn();
    }
    assert!(rig.shared.counters.rx_overrun.get() > 0, "its queue of 64 buffers is full");
    let mut to_other = jumbo(false, 9);
    to_other[..6].copy_from_slice(&other);
    domain.receive(&to_other);
    rig.turn();
    assert!(rig.others[0].rx.take_received().unwrap().1 == to_other);
    rig.assert_no_violation();
}

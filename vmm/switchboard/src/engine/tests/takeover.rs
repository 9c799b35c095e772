//! Takeovers.

use nic::Nic;

use super::*;

/// All frames posted to a domain, the announcement left out.
fn posted(domain: &mut FakeDomain) -> Vec<u32> {
    let frames = domain.take_posted(2000);
    numbers(&frames.into_iter().filter(|frame| !is_announcement(frame)).collect::<Vec<_>>())
}

#[test]
fn exactly_the_unconfirmed_frames_are_sent_again_in_order() {
    let (mut rig, mut failed) = Rig::new();
    let mut spare = rig.install(1, 2);
    rig.send(0..10);
    failed.take_posted(6);
    failed.claim(4);
    rig.nics[0].send(2);
    rig.turn();
    rig.tick(); // 0 and 1 are confirmed
    rig.nics[1].send(99); // what the spare sent before is not ours
    let report = rig.take_over(1, 2);
    assert_eq!((report.sequence, report.resent, report.poisoned), (1, 8, 0));
    let frames = spare.take_posted(20);
    assert!(is_announcement(&frames[0]), "the announcement goes first");
    assert_eq!(numbers(&frames[1..]), (2..10).collect::<Vec<_>>());
    rig.assert_no_violation();
    // New frames follow, and the spare's NIC confirms.
    rig.send(10..12);
    assert_eq!(posted(&mut spare), [10, 11]);
    spare.claim(11);
    rig.turn();
    rig.nics[1].send(11);
    rig.tick();
    assert_eq!(rig.shared.counters.tx_unconfirmed.get(), 0);
}

#[test]
fn a_takeover_does_not_ask_a_nic_that_may_not_answer() {
    let (mut rig, mut failed) = Rig::new();
    let mut spare = rig.install(1, 2);
    rig.send(0..4);
    failed.take_posted(4);
    failed.claim(3);
    rig.nics[0].send(3);
    let report = rig.take_over_from(true, 1, 2);
    assert_eq!((report.confirmed_late, report.resent), (0, 4), "all is sent again");
    assert_eq!(posted(&mut spare), [0, 1, 2, 3]);
    assert_eq!(rig.nics[0].take_sent(), 3, "nobody has read its counter");
}

#[test]
fn what_the_failed_nic_had_sent_is_not_sent_again() {
    let (mut rig, mut failed) = Rig::new();
    let mut spare = rig.install(1, 2);
    rig.send(0..4);
    failed.take_posted(4);
    failed.claim(3); // published, not yet read by the switchboard
    rig.nics[0].send(3);
    let report = rig.take_over(1, 2);
    assert_eq!((report.confirmed_late, report.resent), (3, 1));
    assert_eq!(posted(&mut spare), [3]);
}

#[test]
fn what_was_sent_on_a_dead_link_is_sent_again() {
    let (mut rig, mut failed) = Rig::new();
    let mut spare = rig.install(1, 2);
    rig.send(0..4);
    failed.take_posted(4);
    failed.claim(4);
    rig.nics[0].send(4);
    rig.nics[0].set_link(false);
    let report = rig.take_over(1, 2);
    assert_eq!((report.confirmed_late, report.resent), (0, 4));
    assert_eq!(posted(&mut spare), [0, 1, 2, 3]);
}

/// Copies of what is in the quarantine, by number.
fn quarantined(rig: &mut Rig) -> Vec<Vec<u8>> {
    rig.turn();
    let mut kept: Vec<_> = rig.shared.quarantine.lock().unwrap().copy();
    kept.sort_by_key(|frame| number(&frame.bytes));
    kept.into_iter().map(|frame| frame.bytes).collect()
}

#[test]
fn a_frame_that_two_domains_were_at_when_they_failed_is_poison() {
    let (mut rig, mut first) = Rig::new();
    let mut second = rig.install(1, 2);
    rig.send(0..1);
    rig.guest.tx.send(&frame(true, 1, 3000)); // two buffers
    rig.send(2..5);
    // In the middle of 1, with 0 in hand; 2 to 4 are not.
    first.take_posted(2);
    rig.take_over(1, 2);
    // The announcement, 0 and 1; it sends the first two, and fails at 1 again.
    second.take_posted(1 + 1 + 2);
    second.claim(2);
    rig.nics[1].send(2);
    let mut third = rig.install(0, 3);
    let report = rig.take_over(0, 3);
    assert_eq!((report.poisoned, report.resent), (1, 3));
    assert_eq!(posted(&mut third), [2, 3, 4]);
    assert_eq!(quarantined(&mut rig), [frame(true, 1, 3000)]);
    assert_eq!(rig.shared.quarantine.lock().unwrap().copy()[0].takeover, 2);
    assert_eq!(rig.shared.counters.tx_poisoned.get(), 1);
}

/// Two hundred frames are in hand both times; the domains were at two of them.
#[test]
fn what_a_domain_had_been_given_besides_is_not_poison() {
    let (mut rig, mut first) = Rig::new();
    let mut second = rig.install(1, 2);
    rig.send(0..200);
    first.take_posted(200);
    rig.take_over(1, 2);
    second.take_posted(1 + 200);
    let mut third = rig.install(0, 3);
    let report = rig.take_over(0, 3);
    assert_eq!((report.poisoned, report.resent), (2, 198));
    assert_eq!(posted(&mut third), (1..199).collect::<Vec<_>>());
    assert_eq!(quarantined(&mut rig), [frame(true, 0, 100), frame(true, 199, 100)]);
}

/// Different frames are the oldest and the last each time; that must end.
#[test]
fn what_is_in_hand_at_four_failures_is_poison_in_any_case() {
    let (mut rig, mut domain) = Rig::new();
    rig.send(0..9);
    let mut poisoned = 0;
    for epoch in 2..6 {
        let to = (epoch % 2) as u8 ^ 1;
        domain.take_posted(2000);
        let next = rig.install(usize::from(to), epoch);
        rig.send(9 * epoch..9 * epoch + 9);
        poisoned += rig.take_over(to, epoch).poisoned;
        domain = next;
    }
    let left = posted(&mut domain);
    assert!(left.iter().all(|number| *number >= 9), "{left:?}");
    assert!(poisoned >= 9 && left.len() as u64 + poisoned == 9 * 5);
}

#[test]
fn poison_gives_its_buffers_back() {
    let (mut rig, mut domain) = Rig::new();
    for epoch in 2..400 {
        rig.send(0..3);
        domain.take_posted(2000);
        let to = (epoch % 2) as u8 ^ 1;
        let next = rig.install(usize::from(to), epoch);
        rig.take_over(to, epoch);
        domain = next;
        rig.turn();
        rig.guest.tx.drain_used();
    }
    assert!(rig.shared.counters.tx_unconfirmed.get() < 16);
    assert_eq!(rig.shared.counters.tx_backpressure.get(), 0);
}

#[test]
fn an_impossible_cursor_of_the_failed_domain_does_not_stop_the_takeover() {
    let (mut rig, mut failed) = Rig::new();
    let mut spare = rig.install(1, 2);
    rig.send(0..2);
    failed.take_posted(1);
    rig.slots[0].status().tx_post_consumed.0.store(12345, Ordering::SeqCst);
    assert_eq!(rig.take_over(1, 2).resent, 2);
    assert_eq!(posted(&mut spare), [0, 1]);
}

#[test]
fn received_frames_are_drained_then_salvaged_in_order() {
    let (mut rig, mut failed) = Rig::new();
    rig.install(1, 2);
    rig.turn();
    // Published: 0, 1. Completed and not published: 2, 3 at descriptors 511, 0.
    failed.receive(&frame(false, 0, 100));
    failed.receive(&frame(false, 1, 100));
    failed.complete(511, &frame(false, 2, 1514));
    failed.complete(0, &frame(false, 3, 60));
    failed.slot.status().rx_next.store(511, Ordering::Relaxed);
    let report = rig.take_over(1, 2);
    assert_eq!((report.drained, report.salvaged, report.lost), (2, 2, 0));
    let got: Vec<_> = std::iter::from_fn(|| rig.guest.rx.take_received()).collect();
    assert_eq!(got.iter().map(|(_, f)| number(f)).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!(got[2].1, frame(false, 2, 1514));
}

#[test]
fn a_frame_published_and_still_in_the_descriptor_ring_comes_once() {
    let (mut rig, mut failed) = Rig::new();
    rig.install(1, 2);
    failed.complete(0, &frame(false, 7, 100));
    let buffer = failed.slot.rx_slot(0).load(Ordering::Relaxed);
    failed.receive_raw(shared_ring::Entry { buffer, len: 100, ..failed.entry() });
    let report = rig.take_over(1, 2);
    assert_eq!((report.drained, report.salvaged, report.lost), (1, 0, 0));
    assert_eq!(rig.guest.rx.drain_used(), 1);
}

#[test]
fn salvage_checks_what_it_finds() {
    let (mut rig, mut failed) = Rig::new();
    rig.install(1, 2);
    failed.complete(0, &frame(true, 1, 100)); // own MAC
    failed.complete(1, &frame(false, 2, 100));
    failed.write_back(1, 0b01 | 100 << 32); // goes on, and its buffer is not full
    failed.complete(2, &frame(false, 3, 100));
    failed.write_back(2, 0b11 | 5 << 32); // too short
    failed.complete(3, &[0; 100]); // nothing received
    failed.complete(4, &frame(false, 4, 100));
    failed.slot.rx_slot(4).store(RX_BUFFERS as u16, Ordering::Relaxed);
    failed.complete(5, &frame(false, 5, 100));
    let report = rig.take_over(1, 2);
    // The second and the third make one frame.
    assert_eq!((report.salvaged, report.lost), (2, 3));
    assert_eq!(rig.guest.rx.take_received().unwrap().1, frame(false, 5, 100));
    assert_eq!(rig.guest.rx.take_received(), None);
}

#[test]
fn what_finds_no_chain_is_counted_as_lost_and_the_takeover_ends() {
    let mut rig = Rig::bare(FakeGuest::new());
    rig.connect();
    let mut failed = rig.install(0, 1);
    rig.engine.activate(0, 1).unwrap();
    rig.install(1, 2);
    rig.guest.rx.add(&[(2048, true)]);
    for n in 0..5 {
        failed.receive(&frame(false, n, 100));
    }
    rig.turn();
    failed.complete(0, &frame(false, 9, 100));
    let report = rig.take_over(1, 2);
    assert_eq!((report.drained, report.salvaged, report.lost), (0, 0, 5));
}

#[test]
fn a_takeover_to_nobody_leaves_frames_in_the_guests_ring() {
    let (mut rig, mut failed) = Rig::new();
    rig.send(0..3);
    failed.take_posted(3);
    for (to, epoch) in [(1, 2), (7, 1), (0, 1)] {
        assert_eq!(rig.take_over(to, epoch).refused, 1);
    }
    rig.send(3..5);
    // A restart in place, after all: unconfirmed frames first.
    let mut again = rig.install(0, 2);
    rig.engine.activate(0, 2).unwrap();
    rig.turn();
    assert_eq!(posted(&mut again), [0, 1, 2, 3, 4]);
    rig.assert_no_violation();
}

#[test]
fn a_restart_in_place_salvages_and_posts_again() {
    let (mut rig, mut first) = Rig::new();
    rig.send(0..3);
    first.take_posted(2);
    first.complete(0, &frame(false, 8, 100));
    let mut second = rig.install(0, 2);
    assert_eq!(rig.guest.rx.take_received().unwrap().1, frame(false, 8, 100));
    rig.engine.activate(0, 2).unwrap();
    assert_eq!(posted(&mut second), [0, 1, 2]);
}

#[test]
fn announcements_follow_by_the_clock_and_are_never_sent_again() {
    let (mut rig, _a) = Rig::new();
    let mut b = rig.install(1, 2);
    rig.take_over(1, 2);
    assert_eq!(b.take_posted(9).len(), 1);
    let start = rig.shared.report.read().published_ns;
    for (after, expected) in [(0, 0), (1, 1), (2, 0), (5, 1), (19, 0), (20, 1), (99, 0)] {
        rig.now = start + after * MS;
        rig.turn();
        let frames = b.take_posted(9);
        assert_eq!(frames.len(), expected, "after {after} ms");
        assert!(frames.iter().all(|frame| is_announcement(frame)));
    }
    let mut a = rig.install(0, 3);
    let report = rig.take_over(0, 3);
    assert_eq!(report.resent, 0);
    assert_eq!(a.take_posted(9).len(), 1, "its own announcement only");
}

#[test]
fn when_the_failed_nic_is_silent_there_is_an_announcement_to_come() {
    let (mut rig, _a) = Rig::new();
    let mut b = rig.install(1, 2);
    rig.take_over(1, 2);
    let start = rig.shared.report.read().published_ns;
    let mut announced = |after, silent| {
        rig.now = start + after * MS;
        if silent {
            rig.engine.reannounce(rig.now);
        }
        rig.turn();
        b.take_posted(9).len()
    };
    assert_eq!(announced(6, false), 2, "the first, and one of the schedule");
    assert_eq!(announced(7, true), 1, "the schedule's");
    assert_eq!([announced(20, false), announced(21, false)], [1, 0], "it goes on");
    assert_eq!([announced(90, true), announced(91, false)], [1, 1], "it was over, and begins anew");
}

#[test]
fn the_spare_is_kicked_if_it_is_parked() {
    let (mut rig, _failed) = Rig::new();
    let spare = rig.install(1, 2);
    spare.slot.status().parked.store(1, Ordering::SeqCst);
    rig.take_over(1, 2);
    assert_eq!(rig.slots[1].kick.read().unwrap(), 1);
}

#[test]
fn a_guest_that_is_not_here_is_announced_when_it_comes() {
    let mut rig = Rig::bare(FakeGuest::new());
    rig.install(0, 1);
    rig.engine.activate(0, 1).unwrap();
    let mut spare = rig.install(1, 2);
    rig.take_over(1, 2);
    rig.now = rig.shared.report.read().published_ns;
    (0..30).for_each(|_| rig.tick());
    assert_eq!(spare.take_posted(9).len(), 0, "it may serve elsewhere");
    rig.connect();
    rig.turn();
    let frames = spare.take_posted(9);
    assert!(frames.len() == 1 && is_announcement(&frames[0]), "{frames:?}");
}

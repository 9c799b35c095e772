//! Planned switches, and drills.

use std::sync::mpsc::{Receiver, sync_channel};

use super::*;

/// A broadcast with a number in its body.
fn broadcast(number: u32) -> Vec<u8> {
    let mut frame = frame(false, number, 100);
    frame[..6].fill(0xff);
    frame
}

/// Domain 0 serves, domain 1 is ready to, and both may receive.
fn overlapping() -> (Rig, FakeDomain, FakeDomain) {
    let (mut rig, first) = Rig::new();
    let successor = rig.install(1, 2);
    rig.engine.overlap(1, 2).unwrap();
    (rig, first, successor)
}

fn hand_over(rig: &mut Rig) -> Receiver<Reply> {
    let (reply, answer) = sync_channel(1);
    rig.engine.hand_over(rig.now, reply);
    rig.turn();
    answer
}

fn handed_over(answer: &Receiver<Reply>) -> Option<Result<u64, Refused>> {
    match answer.try_recv().ok()? {
        Reply::HandedOver(outcome) => Some(outcome),
        _ => panic!("another answer"),
    }
}

/// The domain sends everything it was posted, and its NIC confirms.
fn send_all(rig: &mut Rig, domain: &mut FakeDomain, nic: usize) -> Vec<Vec<u8>> {
    let frames = domain.take_posted(2000);
    domain.claim(frames.len());
    rig.nics[nic].send(frames.len() as u32);
    frames
}

fn received(rig: &mut Rig) -> Vec<u32> {
    std::iter::from_fn(|| rig.guest.rx.take_received()).map(|(_, f)| number(&f)).collect()
}

#[test]
fn the_successor_gets_nothing_before_the_first_nic_has_confirmed_everything() {
    let (mut rig, mut first, mut successor) = overlapping();
    rig.send(0..3);
    let answer = hand_over(&mut rig);
    rig.send(3..6); // stay in the guest's ring
    assert_eq!(numbers(&first.take_posted(9)), [0, 1, 2]);
    first.claim(3);
    rig.nics[0].send(2);
    rig.turn();
    assert!(handed_over(&answer).is_none(), "one frame is not confirmed");
    assert!(successor.take_posted(9).is_empty());
    rig.nics[0].send(1);
    rig.now += 70_000;
    rig.turn();
    assert_eq!(handed_over(&answer), Some(Ok(70_000)));
    let frames = successor.take_posted(9);
    assert!(is_announcement(&frames[0]));
    assert_eq!(numbers(&frames[1..]), [3, 4, 5]);
    assert!(first.take_posted(9).is_empty());
    let counters = &rig.shared.counters;
    assert_eq!((counters.tx_resent.get(), counters.handovers.get()), (0, 1));
    rig.assert_no_violation();
}

#[test]
fn what_both_receive_comes_once_and_in_order() {
    let (mut rig, mut first, mut successor) = overlapping();
    for n in 0..3 {
        first.receive(&broadcast(n));
        successor.receive(&broadcast(n));
    }
    // The other way round too, and alone.
    successor.receive(&broadcast(3));
    rig.turn();
    first.receive(&broadcast(3));
    first.receive(&frame(false, 4, 1514));
    rig.turn();
    successor.receive(&frame(false, 5, 60));
    rig.turn();
    assert_eq!(received(&mut rig), [0, 1, 2, 3, 4, 5]);
    assert_eq!(rig.shared.counters.rx_twice.get(), 4);
    rig.assert_no_violation();
}

#[test]
fn the_successors_copy_is_recognised_when_it_is_published_after_the_end() {
    let (mut rig, mut first, mut successor) = overlapping();
    first.receive(&broadcast(1));
    rig.turn();
    let answer = hand_over(&mut rig);
    assert!(handed_over(&answer).unwrap().is_ok());
    rig.engine.end_handover(rig.now);
    successor.receive(&broadcast(1));
    successor.receive(&broadcast(2));
    successor.receive(&broadcast(2));
    rig.turn();
    assert_eq!(received(&mut rig), [1, 2, 2]);
    // Later the same bytes are another frame.
    rig.now += 21 * MS;
    rig.turn();
    successor.receive(&broadcast(1));
    rig.turn();
    assert_eq!(received(&mut rig), [1]);
    rig.assert_no_violation();
}

#[test]
fn a_broadcast_that_came_before_the_overlap_does_not_come_again() {
    let (mut rig, mut first) = Rig::new();
    let mut successor = rig.install(1, 2);
    first.receive(&broadcast(1));
    first.receive(&frame(false, 2, 60));
    rig.turn();
    rig.engine.overlap(1, 2).unwrap();
    // Its copy had waited on the way until its filters were open; the other frame was sent again.
    successor.receive(&broadcast(1));
    successor.receive(&frame(false, 2, 60));
    rig.turn();
    assert_eq!(received(&mut rig), [1, 2, 2]);
    rig.assert_no_violation();
}

#[test]
fn a_frame_that_was_sent_twice_comes_twice() {
    let (mut rig, mut first, mut successor) = overlapping();
    for _ in 0..2 {
        first.receive(&broadcast(7));
        successor.receive(&broadcast(7));
    }
    rig.turn();
    assert_eq!(received(&mut rig), [7, 7]);
}

/// A sender that sends the same bytes again and again, through a switch that knows the guest: what
/// it sends comes to one port, then to the other.
#[test]
fn equal_unicast_frames_around_a_planned_switch_all_come() {
    let (mut rig, mut first, mut successor) = overlapping();
    (0..20).for_each(|_| first.receive(&frame(false, 7, 100)));
    rig.turn();
    let answer = hand_over(&mut rig);
    assert!(handed_over(&answer).unwrap().is_ok());
    rig.now += MS / 10;
    (0..20).for_each(|_| successor.receive(&frame(false, 7, 100)));
    rig.turn();
    // What had waited on the way to the first comes late.
    (0..3).for_each(|_| first.receive(&frame(false, 7, 100)));
    rig.turn();
    rig.engine.end_handover(rig.now);
    (0..3).for_each(|_| successor.receive(&frame(false, 7, 100)));
    rig.turn();
    assert_eq!(received(&mut rig), [7; 46]);
    assert_eq!(rig.shared.counters.rx_twice.get(), 0);
    rig.assert_no_violation();
}

#[test]
fn a_takeover_in_a_planned_switch_drops_no_equal_frames_either() {
    let (mut rig, mut first, mut successor) = overlapping();
    // A takeover goes by the clock.
    rig.now = platform::clock::monotonic_ns();
    (0..5).for_each(|_| first.receive(&frame(false, 7, 100)));
    rig.turn();
    rig.take_over(1, 2);
    rig.now = rig.shared.report.read().done_ns + 1;
    (0..5).for_each(|_| successor.receive(&frame(false, 7, 100)));
    rig.turn();
    assert_eq!(received(&mut rig), [7; 10]);
}

/// Through a switch that does not know the guest, all frames come to both.
#[test]
fn flooded_unicast_frames_come_once_each_before_the_ring_changes_hands_and_after() {
    let (mut rig, mut first, mut successor) = overlapping();
    for n in 0..4 {
        first.receive(&frame(false, n / 2, 1514));
        successor.receive(&frame(false, n / 2, 1514));
    }
    first.receive(&frame(false, 2, 100));
    rig.turn();
    let answer = hand_over(&mut rig);
    assert!(handed_over(&answer).unwrap().is_ok());
    rig.now += MS / 10;
    successor.receive(&frame(false, 2, 100));
    successor.receive(&frame(false, 3, 100));
    rig.turn();
    assert_eq!(received(&mut rig), [0, 0, 1, 1, 2, 3]);
    assert_eq!(rig.shared.counters.rx_twice.get(), 5);
}

/// Published by the time at which the ring changes hands, the first copy of all included.
#[test]
fn a_copy_that_the_successor_had_before_the_ring_changed_hands_is_recognised() {
    let (mut rig, mut first, mut successor) = overlapping();
    first.receive(&frame(false, 1, 100));
    rig.turn();
    successor.receive(&frame(false, 1, 100));
    let answer = hand_over(&mut rig);
    assert!(handed_over(&answer).unwrap().is_ok());
    assert_eq!(received(&mut rig), [1]);
}

/// Frames that differ in their last bytes only.
#[test]
fn unicast_frames_are_compared_to_their_ends() {
    let (mut rig, mut first, mut successor) = overlapping();
    let mut other = frame(false, 1, 1514);
    other[1513] ^= 1;
    first.receive(&frame(false, 1, 1514));
    successor.receive(&other);
    rig.turn();
    assert_eq!(received(&mut rig).len(), 2);
}

#[test]
fn a_copy_that_waits_for_room_is_still_a_copy() {
    let (mut rig, mut first, mut successor) = overlapping();
    // 64 chains; the 65th frame waits.
    for n in 0..65 {
        first.receive(&broadcast(n));
    }
    rig.turn();
    successor.receive(&broadcast(64));
    rig.turn();
    assert_eq!(received(&mut rig).len(), 64);
    for _ in 0..8 {
        rig.guest.rx.add(&[(2048, true)]);
    }
    rig.turn();
    assert_eq!(received(&mut rig), [64]);
}

#[test]
fn a_domain_that_does_not_drain_keeps_the_ring() {
    let (mut rig, mut first, mut successor) = overlapping();
    rig.send(0..2);
    let answer = hand_over(&mut rig);
    first.take_posted(1);
    rig.now += 4 * MS;
    rig.turn();
    assert!(handed_over(&answer).is_none());
    rig.now += 2 * MS;
    rig.turn();
    assert_eq!(handed_over(&answer), Some(Err(Refused::NotDrained)));
    rig.send(2..4);
    assert_eq!(numbers(&first.take_posted(9)), [1, 2, 3]);
    // Until the end the successor's receptions count.
    successor.receive(&frame(false, 9, 100));
    rig.engine.end_handover(rig.now);
    rig.turn();
    assert_eq!(received(&mut rig), [9]);
    assert!(successor.take_posted(9).is_empty());
    rig.turn();
    rig.assert_no_violation();
}

#[test]
fn a_switch_is_settled_when_the_guest_is_heard_at_the_port_that_was_left() {
    let (mut rig, mut first, mut successor) = overlapping();
    let settled = |rig: &Rig| rig.shared.settled.load(Ordering::Relaxed);
    // What comes before the ring changes hands says nothing of the new port.
    first.receive(&frame(true, 1, 60));
    rig.turn();
    let answer = hand_over(&mut rig);
    assert!(handed_over(&answer).unwrap().is_ok());
    successor.receive(&frame(true, 2, 60));
    first.receive(&frame(false, 3, 60));
    rig.turn();
    assert!(!settled(&rig));
    first.receive(&frame(true, 4, 60));
    rig.turn();
    assert!(settled(&rig));
    assert_eq!(received(&mut rig), [3]);
    rig.engine.end_handover(rig.now);
    rig.engine.overlap(0, 1).unwrap();
    send_all(&mut rig, &mut successor, 1);
    let answer = hand_over(&mut rig);
    assert!(handed_over(&answer).unwrap().is_ok());
    rig.turn();
    assert!(!settled(&rig), "that was another switch");
    rig.assert_no_violation();
}

#[test]
fn after_the_end_the_first_must_be_silent_and_can_take_over_again() {
    let (mut rig, mut first, mut successor) = overlapping();
    rig.send(0..2);
    send_all(&mut rig, &mut first, 0);
    let answer = hand_over(&mut rig);
    assert!(handed_over(&answer).unwrap().is_ok());
    first.receive(&frame(false, 1, 100)); // late
    rig.turn();
    first.receive(&frame(false, 2, 100)); // later
    rig.engine.end_handover(rig.now);
    rig.turn();
    assert_eq!(received(&mut rig), [1, 2]);
    rig.assert_no_violation();
    // And back: the same life, whose rings went on.
    rig.engine.overlap(0, 1).unwrap();
    send_all(&mut rig, &mut successor, 1);
    rig.turn();
    let answer = hand_over(&mut rig);
    send_all(&mut rig, &mut successor, 1);
    rig.turn();
    assert!(handed_over(&answer).unwrap().is_ok());
    rig.engine.end_handover(rig.now);
    rig.send(2..4);
    let frames = first.take_posted(9);
    let frames: Vec<_> = frames.into_iter().filter(|frame| !is_announcement(frame)).collect();
    assert_eq!(numbers(&frames), [2, 3]);
    rig.turn();
    rig.assert_no_violation();
    successor.receive(&frame(false, 3, 100));
    rig.turn();
    assert!(matches!(rig.violation(), Violation::NotActive { .. }));
}

#[test]
fn claims_of_a_domain_that_does_not_serve_are_violations() {
    let (mut rig, _first, mut successor) = overlapping();
    successor.claim_raw(successor.entry());
    rig.turn();
    assert!(matches!(rig.violation(), Violation::NotActive { .. }));
}

#[test]
fn a_takeover_by_the_successor_while_the_first_drains_loses_nothing() {
    let (mut rig, mut first, mut successor) = overlapping();
    rig.send(0..3);
    let answer = hand_over(&mut rig);
    first.take_posted(3);
    first.claim(1);
    rig.nics[0].send(1);
    first.complete(0, &broadcast(8));
    successor.receive(&broadcast(8));
    let report = rig.take_over(1, 2);
    assert_eq!(handed_over(&answer), Some(Err(Refused::TakenOver)));
    assert_eq!((report.refused, report.confirmed_late, report.resent), (0, 1, 2));
    let frames = successor.take_posted(9);
    assert!(is_announcement(&frames[0]));
    assert_eq!(numbers(&frames[1..]), [1, 2]);
    rig.turn();
    assert_eq!(received(&mut rig), [8], "salvaged from the first, and received by the successor");
}

#[test]
fn a_takeover_by_the_successor_that_has_the_ring_already_saves_what_the_first_received() {
    let (mut rig, mut first, mut successor) = overlapping();
    let answer = hand_over(&mut rig);
    assert!(handed_over(&answer).unwrap().is_ok());
    rig.send(0..2);
    let before = successor.take_posted(9).len();
    first.receive(&frame(false, 5, 100));
    first.complete(1, &frame(false, 6, 100));
    first.slot.status().rx_next.store(1, Ordering::Relaxed);
    let report = rig.take_over(1, 2);
    assert_eq!((report.refused, report.resent, before), (0, 0, 3));
    assert_eq!((report.drained, report.salvaged), (1, 1));
    rig.turn();
    assert!(successor.take_posted(9).is_empty(), "what it has is not sent again");
    assert_eq!(received(&mut rig), [5, 6]);
    rig.assert_no_violation();
}

#[test]
fn a_takeover_by_the_first_ends_the_handover_at_every_step() {
    // Before it has changed hands: the first goes on with what it has.
    let (mut rig, mut first, _successor) = overlapping();
    rig.send(0..2);
    let answer = hand_over(&mut rig);
    let report = rig.take_over(0, 1);
    assert_eq!(handed_over(&answer), Some(Err(Refused::TakenOver)));
    assert_eq!((report.refused, report.resent), (0, 0));
    rig.send(2..3);
    assert_eq!(numbers(&first.take_posted(9)), [0, 1, 2]);
    rig.assert_no_violation();
    // After that: it gets back what the successor had not sent.
    let (mut rig, mut first, mut successor) = overlapping();
    let answer = hand_over(&mut rig);
    assert!(handed_over(&answer).unwrap().is_ok());
    rig.send(0..2);
    successor.take_posted(2);
    let report = rig.take_over(0, 1);
    assert_eq!((report.refused, report.resent), (0, 2));
    let frames = first.take_posted(9);
    assert_eq!(numbers(&frames[1..]), [0, 1]);
    rig.assert_no_violation();
}

#[test]
fn a_successor_that_is_not_fit_is_refused() {
    let (mut rig, _first) = Rig::new();
    assert_eq!(rig.engine.overlap(1, 2), Err(Refused::NotInstalled));
    rig.install(1, 2);
    assert_eq!(rig.engine.overlap(1, 3), Err(Refused::NotInstalled));
    assert_eq!(rig.engine.overlap(0, 1), Err(Refused::Busy));
    rig.engine.overlap(1, 2).unwrap();
    assert_eq!(rig.engine.overlap(1, 2), Err(Refused::Busy));
    let answer = hand_over(&mut rig);
    assert!(handed_over(&answer).unwrap().is_ok());
    let answer = hand_over(&mut rig);
    assert_eq!(handed_over(&answer), Some(Err(Refused::Busy)), "it has changed hands");
}

#[test]
fn a_question_of_the_drill_is_answered_once_and_never_the_guests() {
    use crate::fakes::MAC;
    use shared_ring::probe::{Probe, ProbeKind, probe_mac};
    let (mut rig, mut active) = Rig::new();
    rig.install(1, 2);
    assert!(!rig.engine.begin_drill(7, 0), "the one that serves has nobody to ask");
    assert!(rig.engine.begin_drill(7, 1));
    let [ours, tsuccessors] = [0, 1].map(|domain| probe_mac(MAC, domain));
    let question =
        |number| Probe { number, kind: ProbeKind::Question }.frame(ours, tsuccessors, None);
    active.receive(&question(6)); // of another drill
    active.receive(&question(7));
    rig.turn();
    let answer = Probe { number: 7, kind: ProbeKind::Answer }.frame(tsuccessors, ours, None);
    assert_eq!(active.take_posted(9), [answer.to_vec()]);
    active.claim(1);
    rig.nics[0].send(1);
    rig.turn();
    let seen = rig.engine.end_drill(rig.now);
    assert!(seen.question && seen.answered && seen.answer_sent);
    assert_eq!(seen.received, 2);
    active.receive(&question(7)); // too late
    rig.turn();
    assert_eq!((received(&mut rig).len(), active.take_posted(9).len()), (0, 0));
    // A frame of another station with the same EtherType is the guest's.
    let mut other = frame(false, 1, 100);
    other[12..14].copy_from_slice(&shared_ring::probe::PROBE_ETHERTYPE.to_be_bytes());
    active.receive(&other);
    rig.turn();
    assert_eq!(rig.guest.rx.drain_used(), 1);
    rig.assert_no_violation();
}

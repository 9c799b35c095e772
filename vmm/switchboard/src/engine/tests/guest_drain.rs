//! Guests whose transmit ring was stopped.

use std::sync::mpsc::{Receiver, sync_channel};

use platform::budget::GUEST_DRAIN_DEADLINE;

use super::*;
use crate::fakes::rig::{frame_to, other_mac};
use crate::port::TX_RING;

/// The front-end stops both rings. What it waits for.
fn stop(rig: &mut Rig) -> Receiver<Reply> {
    let (reply, answer) = sync_channel(1);
    let done = rig.engine.set_rings(0, [RingChange::Stop, RingChange::Stop]);
    rig.engine.answer_rings(0, rig.now, done, reply);
    rig.turn();
    answer
}

fn is_answered(answer: &Receiver<Reply>) -> bool {
    matches!(answer.try_recv(), Ok(Reply::Rings(done)) if done.positions[TX_RING].is_some())
}

/// Numbers of the guest's own frames that a domain is given.
fn posted(domain: &mut FakeDomain) -> Vec<u32> {
    let mut frames = domain.take_posted(99);
    frames.retain(|frame| !is_announcement(frame));
    numbers(&frames)
}

/// The time of a stop that waits in vain.
fn wait_in_vain(rig: &mut Rig) {
    rig.now += GUEST_DRAIN_DEADLINE.as_nanos() as u64;
    rig.turn();
}

#[test]
fn a_guest_with_nothing_under_way_leaves_at_once() {
    let (mut rig, _domain) = Rig::new();
    let answer = stop(&mut rig);
    assert!(is_answered(&answer));
    assert_eq!(rig.engine.drains.due_ns(rig.now), None);
}

#[test]
fn the_front_end_hears_of_the_stop_when_the_last_frame_is_confirmed() {
    let (mut rig, mut domain) = Rig::new();
    rig.send(0..3);
    let answer = stop(&mut rig);
    assert_eq!(posted(&mut domain), [0, 1, 2]);
    domain.claim(3);
    rig.nics[0].send(2);
    rig.turn();
    assert!(!is_answered(&answer), "one frame is not confirmed");
    assert!(rig.engine.deadline_ns(rig.now).is_some());
    rig.nics[0].send(1);
    rig.turn();
    assert!(is_answered(&answer));
    assert_eq!(rig.shared.counters.tx_left_behind.get(), 0);
}

#[test]
fn a_failover_meanwhile_sends_what_was_accepted_and_says_where_from() {
    let (mut rig, mut failed) = Rig::new();
    let mut spare = rig.install(1, 2);
    rig.send(0..3);
    failed.take_posted(1);
    let answer = stop(&mut rig);
    rig.take_over(1, 2);
    assert!(!is_answered(&answer));
    let frames = spare.take_posted(9);
    assert!(is_announcement(&frames[0]), "it is still here");
    assert_eq!(numbers(&frames[1..]), [0, 1, 2]);
    spare.claim(4);
    rig.nics[1].send(4);
    rig.turn();
    assert!(is_answered(&answer));
}

#[test]
fn a_takeover_after_a_guest_has_left_sends_nothing_of_it() {
    let (mut rig, mut failed) = Rig::new();
    let mut spare = rig.install(1, 2);
    rig.send(0..2);
    failed.take_posted(2);
    let answer = stop(&mut rig);
    assert!(!is_answered(&answer));
    wait_in_vain(&mut rig);
    assert!(is_answered(&answer), "the front-end does not wait for longer");
    let report = rig.take_over(1, 2);
    (0..30).for_each(|_| rig.tick());
    assert_eq!((report.resent, spare.take_posted(9).len()), (0, 0));
    let counters = &rig.shared.counters;
    assert_eq!((counters.tx_left_behind.get(), counters.tx_unconfirmed.get()), (2, 0));
    rig.assert_no_violation();
}

#[test]
fn what_no_domain_was_given_is_left_behind() {
    let (mut rig, mut failed) = Rig::new();
    rig.send(0..2);
    failed.take_posted(2);
    rig.take_over(7, 7); // nobody
    let answer = stop(&mut rig);
    wait_in_vain(&mut rig);
    assert!(is_answered(&answer));
    let mut next = rig.install(0, 2);
    rig.engine.activate(0, 2).unwrap();
    rig.connect();
    rig.send(2..4);
    assert_eq!(posted(&mut next), [2, 3]);
    assert_eq!(rig.shared.counters.tx_left_behind.get(), 2);
}

#[test]
fn what_a_dead_link_swallowed_is_not_sent_again_either() {
    let (mut rig, mut domain) = Rig::new();
    rig.send(0..2);
    rig.nics[0].set_link(false);
    domain.take_posted(2);
    domain.claim(2);
    rig.nics[0].send(2);
    let answer = stop(&mut rig);
    rig.tick();
    wait_in_vain(&mut rig);
    assert!(is_answered(&answer));
    rig.nics[0].set_link(true);
    (0..3).for_each(|_| rig.tick());
    assert_eq!((posted(&mut domain), rig.shared.counters.tx_unconfirmed.get()), (vec![], 0));
}

#[test]
fn a_guest_that_goes_on_here_loses_nothing() {
    let (mut rig, mut failed) = Rig::new();
    let mut spare = rig.install(1, 2);
    rig.send(0..2);
    failed.take_posted(2);
    let answer = stop(&mut rig);
    wait_in_vain(&mut rig);
    assert!(is_answered(&answer));
    rig.connect();
    rig.send(2..3);
    assert_eq!(rig.take_over(1, 2).resent, 3);
    assert_eq!(posted(&mut spare), [0, 1, 2]);
}

#[test]
fn a_front_end_that_does_not_wait_for_its_answer_is_no_obstacle() {
    let (mut rig, mut domain) = Rig::new();
    rig.send(0..1);
    drop(stop(&mut rig));
    rig.connect();
    rig.guest.tx.send(&frame(true, 1, 100));
    rig.turn();
    assert_eq!(posted(&mut domain), [0, 1]);
    let again = stop(&mut rig);
    domain.claim(2);
    rig.nics[0].send(2);
    rig.now += MS;
    rig.turn();
    assert!(is_answered(&again));
}

#[test]
fn one_guest_leaves_and_another_stays() {
    let (mut rig, mut failed) = Rig::of_several(1);
    let mut spare = rig.install(1, 2);
    rig.send(0..2);
    let long = frame_to([2; 6], other_mac(0), 10, 3000); // two buffers
    rig.others[0].tx.send(&long);
    rig.turn();
    failed.take_posted(1);
    let answer = stop(&mut rig);
    wait_in_vain(&mut rig);
    assert!(is_answered(&answer));
    assert_eq!(rig.take_over(1, 2).resent, 1);
    let frames = spare.take_posted(9);
    assert!(frames.contains(&long), "the other guest's frame");
    assert_eq!(frames.len(), 2, "and its announcement");
}

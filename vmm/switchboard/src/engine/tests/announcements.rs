//! What is announced, seen from the wire.

use super::*;
use crate::announce::{Announced, Announcement};
use crate::fakes::rig::{frame_to, other_mac};
use crate::vlan::Tags;

const ADDRESS: [u8; 4] = [10, 0, 0, 7];
const EVERYONE: [u8; 6] = [0xff; 6];

/// Takeovers look at the clock, so what follows them needs its time.
fn at_true_time((mut rig, domain): (Rig, FakeDomain)) -> (Rig, FakeDomain) {
    rig.now = platform::clock::monotonic_ns();
    rig.turn();
    (rig, domain)
}

fn claim(mac: [u8; 6], vlan: u16) -> Vec<u8> {
    let tags = if vlan == 0 { Tags::NONE } else { Tags::customer(vlan) };
    Announcement::new((mac, tags), Announced::V4(ADDRESS)).bytes().to_vec()
}

fn nameless(vlan: u16) -> Vec<u8> {
    Announcement::new((MAC, Tags::customer(vlan)), Announced::Nothing).bytes().to_vec()
}

/// The announcements after a takeover by domain 1, without repetitions.
fn announced_by_takeover(rig: &mut Rig) -> Vec<Vec<u8>> {
    let mut spare = rig.install(1, 2);
    rig.take_over(1, 2);
    let mut frames = spare.take_posted(99);
    rig.now = rig.now.max(platform::clock::monotonic_ns());
    (0..8).for_each(|_| {
        rig.now += MS / 10;
        rig.turn();
        frames.extend(spare.take_posted(99));
    });
    frames.retain(|frame| frame[..6] == EVERYONE);
    // This machine may have stood still until a repetition was due.
    let once = |n: &usize| !frames[..*n].contains(&frames[*n]);
    (0..frames.len()).filter(once).map(|n| frames[n].clone()).collect()
}

/// The guest says something, and the domain that serves gets it off its hands.
fn say(rig: &mut Rig, domain: &mut FakeDomain, frame: &[u8]) {
    rig.guest.tx.send(frame);
    rig.turn();
    let buffers = domain.take_posted(99).len();
    domain.claim(buffers);
    rig.nics[0].send(buffers as u32);
    rig.tick();
}

#[test]
fn each_vlan_of_the_guest_is_announced_after_a_takeover() {
    let (mut rig, mut domain) = at_true_time(Rig::new());
    say(&mut rig, &mut domain, &claim(MAC, 100));
    say(&mut rig, &mut domain, &claim(MAC, 100));
    say(&mut rig, &mut domain, &claim(MAC, 0));
    assert_eq!(announced_by_takeover(&mut rig), [claim(MAC, 100), claim(MAC, 0)]);
    rig.assert_no_violation();
}

#[test]
fn an_address_that_another_host_has_claimed_is_not_taken_back() {
    let (mut rig, mut domain) = at_true_time(Rig::new());
    say(&mut rig, &mut domain, &claim(MAC, 100));
    domain.receive(&claim([2, 0, 0, 0, 0, 1], 100));
    rig.turn();
    assert_eq!(rig.guest.rx.drain_used(), 1, "the guest hears of it, too");
    assert_eq!(announced_by_takeover(&mut rig), [nameless(100)]);
}

#[test]
fn an_address_is_not_taken_back_from_another_guest() {
    let (mut rig, mut domain) = at_true_time(Rig::of_several(1));
    say(&mut rig, &mut domain, &claim(MAC, 0));
    rig.others[0].tx.send(&claim(other_mac(0), 0));
    rig.turn();
    domain.take_posted(9);
    let announced = announced_by_takeover(&mut rig);
    let of_first: Vec<_> = announced.iter().filter(|frame| frame[6..12] == MAC).collect();
    assert!(of_first.iter().all(|frame| is_announcement(frame)), "{of_first:x?}");
    assert!(announced.contains(&claim(other_mac(0), 0)));
}

#[test]
fn a_guest_that_comes_back_is_announced_without_the_addresses_of_the_one_before() {
    let (mut rig, mut domain) = at_true_time(Rig::new());
    say(&mut rig, &mut domain, &claim(MAC, 100));
    let (reply, _answer) = std::sync::mpsc::sync_channel(1);
    let done = rig.engine.set_rings(0, [RingChange::Stop, RingChange::Stop]);
    rig.engine.answer_rings(0, rig.now, done, reply);
    rig.guest = FakeGuest::new();
    rig.connect();
    assert_eq!(announced_by_takeover(&mut rig), [nameless(100)]);
}

#[test]
fn a_question_and_its_answer_decide_who_has_an_address() {
    let question = || {
        let mut question = claim([2, 0, 0, 0, 0, 1], 0);
        question[28..32].copy_from_slice(&[10, 0, 0, 1]);
        question
    };
    for answers in [true, false] {
        let (mut rig, mut domain) = at_true_time(Rig::new());
        say(&mut rig, &mut domain, &claim(MAC, 0));
        domain.receive(&question());
        rig.turn();
        if answers {
            let mut answer = claim(MAC, 0);
            answer[20..22].copy_from_slice(&[0, 2]);
            say(&mut rig, &mut domain, &answer);
        }
        rig.now += 3000 * MS;
        rig.turn();
        let announced = announced_by_takeover(&mut rig);
        assert_eq!(announced[0] == claim(MAC, 0), answers);
        assert_eq!(is_announcement(&announced[0]), !answers);
    }
}

#[test]
fn a_switch_is_settled_when_each_vlan_has_come_round() {
    let (mut rig, mut first) = at_true_time(Rig::new());
    let mut successor = rig.install(1, 2);
    say(&mut rig, &mut first, &claim(MAC, 0));
    say(&mut rig, &mut first, &claim(MAC, 100));
    rig.engine.overlap(1, 2).unwrap();
    let (reply, _answer) = std::sync::mpsc::sync_channel(1);
    rig.engine.hand_over(rig.now, reply);
    rig.tick();
    let settled = |rig: &Rig| rig.shared.settled.load(Ordering::Relaxed);
    assert!(!successor.take_posted(9).is_empty() && !settled(&rig));
    first.receive(&claim(MAC, 100));
    rig.turn();
    assert!(!settled(&rig), "one VLAN has");
    successor.receive(&claim(MAC, 0));
    rig.turn();
    assert!(!settled(&rig), "that was the other port");
    first.receive(&frame_to(EVERYONE, MAC, 1, 60));
    rig.turn();
    assert!(settled(&rig));
    rig.assert_no_violation();
}

#[test]
fn a_tagged_question_of_a_drill_never_reaches_the_guest() {
    use shared_ring::probe::{Probe, ProbeKind, probe_mac};
    let (mut rig, mut active) = at_true_time(Rig::new());
    rig.install(1, 2);
    assert!(rig.engine.begin_drill(7, 1));
    let [ours, theirs] = [0, 1].map(|domain| probe_mac(MAC, domain));
    let question = Probe { number: 7, kind: ProbeKind::Question };
    active.receive(&question.frame(ours, theirs, Some(100)));
    rig.turn();
    assert_eq!((rig.guest.rx.drain_used(), active.take_posted(9).len()), (0, 1));
    assert!(rig.engine.end_drill(rig.now).question);
}

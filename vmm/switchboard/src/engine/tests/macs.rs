//! Guests with several MAC addresses, and what none of them may send.

use std::sync::mpsc::sync_channel;

use super::*;
use crate::fakes::rig::{frame_to, other_mac};
use crate::{EgressRules, GuestRules, MacRule, Refusal};

const BEHIND: [u8; 6] = [0x52, 0x54, 0, 0, 2, 1];
const FURTHER: [u8; 6] = [0x52, 0x54, 0, 0, 2, 2];
const PEER: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];
const EVERYONE: [u8; 6] = [0xff; 6];
const PAUSE: [u8; 6] = [1, 0x80, 0xc2, 0, 0, 1];
const BPDU: [u8; 6] = [1, 0x80, 0xc2, 0, 0, 0];

fn rule(macs: MacRule) -> GuestRules {
    GuestRules { macs, ..GuestRules::default() }
}

/// One guest that has whatever addresses it sends from.
fn learning() -> (Rig, FakeDomain) {
    let (mut rig, domain) = Rig::new();
    rig.engine.set_rules(&[rule(MacRule::Learn)]);
    (rig, domain)
}

fn refused(rig: &Rig, guest: usize, reason: Refusal) -> u64 {
    let mut counts = rig.shared.figures[guest].refused();
    counts.find(|(why, _)| *why == reason).unwrap().1
}

fn received(rig: &mut Rig) -> Vec<u32> {
    std::iter::from_fn(|| rig.guest.rx.take_received()).map(|(_, f)| number(&f)).collect()
}

fn macs(rig: &Rig, guest: usize) -> Vec<[u8; 6]> {
    rig.shared.figures[guest].macs().collect()
}

/// Sources of the announcements among what a domain is given within a millisecond, each once.
fn announced(rig: &mut Rig, domain: &mut FakeDomain) -> Vec<[u8; 6]> {
    rig.now = platform::clock::monotonic_ns();
    for _ in 0..9 {
        rig.turn();
        rig.now += MS / 10;
    }
    let frames = domain.take_posted(2000);
    let requests = frames.iter().filter(|frame| frame[12..14] == [0x80, 0x35]);
    let mut sources: Vec<[u8; 6]> = Vec::new();
    for source in requests.map(|frame| frame[6..12].try_into().unwrap()) {
        if !sources.contains(&source) {
            sources.push(source);
        }
    }
    sources
}

#[test]
fn a_source_that_is_not_allowed_goes_neither_to_the_wire_nor_to_others() {
    let (mut rig, mut domain) = Rig::of_several(1);
    rig.guest.tx.send(&frame_to(EVERYONE, BEHIND, 1, 100));
    rig.guest.tx.send(&frame_to(other_mac(0), other_mac(0), 2, 100));
    rig.guest.tx.send(&frame_to(EVERYONE, MAC, 3, 100));
    rig.turn();
    assert_eq!(numbers(&domain.take_posted(9)), [3]);
    let others = std::iter::from_fn(|| rig.others[0].rx.take_received());
    assert_eq!(others.map(|(_, frame)| number(&frame)).collect::<Vec<_>>(), [3]);
    assert_eq!((refused(&rig, 0, Refusal::Source), refused(&rig, 1, Refusal::Source)), (2, 0));
    assert_eq!(rig.shared.figures[0].refused_source(), Some(other_mac(0)));
    let counters = &rig.shared.counters;
    assert_eq!((counters.tx_frames.get(), counters.tx_refused.get()), (3, 2));
}

#[test]
fn pause_never_leaves_and_bpdus_only_where_they_are_allowed() {
    let (mut rig, mut domain) = Rig::new();
    let send = |rig: &mut Rig| {
        let mut control = frame_to(PEER, MAC, 1, 60);
        control[12..18].copy_from_slice(&[0x81, 0, 0, 7, 0x88, 0x08]);
        rig.guest.tx.send(&control);
        rig.guest.tx.send(&frame_to(PAUSE, MAC, 2, 60));
        rig.guest.tx.send(&frame_to(BPDU, MAC, 3, 60));
        rig.turn();
    };
    send(&mut rig);
    assert!(domain.take_posted(9).is_empty());
    assert_eq!((refused(&rig, 0, Refusal::Pause), refused(&rig, 0, Refusal::Bpdu)), (2, 1));
    let egress = EgressRules { bpdu: true, ..EgressRules::default() };
    rig.engine.set_rules(&[GuestRules { egress, ..GuestRules::default() }]);
    send(&mut rig);
    assert_eq!(numbers(&domain.take_posted(9)), [3]);
    assert_eq!(refused(&rig, 0, Refusal::Pause), 4);
}

#[test]
fn what_the_guest_sends_from_is_received_for_it() {
    let (mut rig, mut domain) = learning();
    domain.receive(&frame_to(BEHIND, PEER, 1, 100));
    rig.turn();
    assert_eq!(rig.shared.counters.rx_unknown.get(), 1);
    rig.guest.tx.send(&frame_to(PEER, BEHIND, 2, 100));
    rig.turn();
    assert_eq!(numbers(&domain.take_posted(9)), [2]);
    assert_eq!(macs(&rig, 0), [BEHIND]);
    assert!(rig.shared.macs_changed.read().is_ok(), "told");
    domain.receive(&frame_to(BEHIND, PEER, 3, 100));
    rig.guest.tx.send(&frame_to(PEER, BEHIND, 4, 100));
    rig.turn();
    assert_eq!(received(&mut rig), [3]);
    assert!(rig.shared.macs_changed.read().is_err(), "nothing new");
}

#[test]
fn an_address_that_moved_to_another_host_is_gone_and_its_frame_comes_in() {
    let (mut rig, mut domain) = learning();
    rig.guest.tx.send(&frame_to(PEER, BEHIND, 1, 100));
    rig.turn();
    domain.receive(&frame_to(EVERYONE, BEHIND, 2, 100));
    rig.turn();
    assert_eq!((received(&mut rig), macs(&rig, 0)), (vec![2], vec![]));
    let mut spare = rig.install(1, 2);
    rig.take_over(1, 2);
    assert_eq!(announced(&mut rig, &mut spare), [MAC], "and is not taken back");
}

#[test]
fn every_address_is_announced_after_a_takeover() {
    let (mut rig, _failed) = learning();
    // A takeover looks at the true time.
    rig.now = platform::clock::monotonic_ns();
    rig.turn();
    for (n, source) in [BEHIND, FURTHER, FURTHER].into_iter().enumerate() {
        rig.guest.tx.send(&frame_to(PEER, source, n as u32, 100));
        rig.turn();
    }
    let mut spare = rig.install(1, 2);
    rig.take_over(1, 2);
    assert_eq!(announced(&mut rig, &mut spare), [FURTHER, BEHIND, MAC], "the busiest first");
}

#[test]
fn a_broadcast_that_comes_back_through_the_other_port_does_not_move_the_address() {
    let (mut rig, _failed) = learning();
    rig.guest.tx.send(&frame_to(EVERYONE, BEHIND, 1, 100));
    rig.turn();
    let mut spare = rig.install(1, 2);
    rig.take_over(1, 2);
    spare.receive(&frame_to(EVERYONE, BEHIND, 1, 100));
    rig.turn();
    assert_eq!((received(&mut rig), macs(&rig, 0)), (vec![], vec![BEHIND]));
    assert_eq!(rig.shared.counters.rx_own.get(), 1);
}

#[test]
fn a_planned_switch_is_settled_when_every_address_has_come_round() {
    let (mut rig, mut first) = learning();
    rig.guest.tx.send(&frame_to(PEER, BEHIND, 1, 100));
    rig.turn();
    first.take_posted(9);
    first.claim(1);
    rig.nics[0].send(1);
    rig.turn();
    rig.install(1, 2);
    rig.engine.overlap(1, 2).unwrap();
    let (reply, answer) = sync_channel(1);
    rig.engine.hand_over(rig.now, reply);
    rig.turn();
    assert!(matches!(answer.try_recv(), Ok(Reply::HandedOver(Ok(_)))));
    first.receive(&frame_to(EVERYONE, MAC, 2, 60));
    rig.turn();
    assert!(!rig.shared.settled.load(Ordering::Acquire));
    first.receive(&frame_to(EVERYONE, BEHIND, 3, 60));
    rig.turn();
    assert!(rig.shared.settled.load(Ordering::Acquire));
}

#[test]
fn a_guest_that_has_gone_takes_its_learned_addresses_along() {
    let (mut rig, _domain) = learning();
    rig.guest.tx.send(&frame_to(PEER, BEHIND, 1, 100));
    rig.turn();
    let done = rig.engine.set_rings(0, [RingChange::Stop, RingChange::Stop]);
    let (reply, _answer) = sync_channel(1);
    rig.engine.answer_rings(0, rig.now, done, reply);
    rig.tick();
    rig.now += 1000 * MS;
    rig.turn();
    assert!(macs(&rig, 0).is_empty());
}

#[test]
fn a_flood_of_sources_leaves_the_other_guest_its_service() {
    let (mut rig, mut domain) = Rig::of_several(1);
    rig.engine.set_rules(&[rule(MacRule::Learn), GuestRules::default()]);
    let mut served = 0;
    for round in 0..20u32 {
        for n in 0..64 {
            let [.., high, low] = (64 * round + n).to_be_bytes();
            rig.guest.tx.send(&frame_to(PEER, [2, 7, 7, 7, high, low], n, 60));
        }
        rig.others[0].tx.send(&frame_to(PEER, other_mac(0), 1000 + round, 60));
        rig.now += MS;
        rig.turn();
        let frames = domain.take_posted(200);
        served += frames.iter().filter(|frame| number(frame) >= 1000).count();
        domain.claim(domain.in_hand.len());
        rig.nics[0].send(frames.len() as u32);
        rig.tick();
    }
    assert_eq!((served, macs(&rig, 0).len()), (20, crate::FURTHER_MACS));
    assert_eq!(refused(&rig, 0, Refusal::Source), 20 * 64 - crate::FURTHER_MACS as u64);
    rig.assert_no_violation();
}

//! Chains of many descriptors: as long as the ring, and no longer; and what they cost a turn.

use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::fakes::{FakeRing, GUEST_BASE};
use crate::limits::TURN_DESCRIPTORS;

/// Free memory of the fake guest.
const FREE: u64 = GUEST_BASE + (3 << 20);
const TABLE: u64 = FREE + 0x8_0000;
const NEXT: u64 = 1;
const WRITE: u64 = 2;
const INDIRECT: u16 = 4;

/// Makes an indirect table of so many descriptors, which together are the bytes from [`FREE`] on.
fn write_table(rig: &Rig, pieces: usize, bytes: usize, flags: u64) {
    let each = bytes / pieces;
    for n in 0..pieces {
        let (at, is_last) = (n * each, n + 1 == pieces);
        let len = if is_last { bytes - at } else { each } as u64;
        let flags = flags | if is_last { 0 } else { NEXT };
        let word = len | flags << 32 | (n as u64 + 1) << 48;
        let entry = TABLE + 16 * n as u64;
        rig.guest.memory.write_obj(FREE + at as u64, GuestAddress(entry)).unwrap();
        rig.guest.memory.write_obj(word, GuestAddress(entry + 8)).unwrap();
    }
}

/// Makes a chain available that is the table.
fn offer_table(ring: &mut FakeRing, head: u16, pieces: usize) {
    ring.set_descriptor(head, TABLE, 16 * pieces as u32, INDIRECT, 0);
    ring.offer(head);
}

fn write_frame(rig: &Rig, sent: &[u8]) {
    rig.guest.memory.write_slice(&[[0; 12].as_slice(), sent].concat(), GuestAddress(FREE)).unwrap();
}

#[test]
fn a_frame_may_have_as_many_pieces_as_the_ring_has_descriptors() {
    let (mut rig, mut domain) = Rig::new();
    let sent = frame(true, 1, 1400);
    for pieces in [2, 128, 129, usize::from(QUEUE)] {
        write_frame(&rig, &sent);
        write_table(&rig, pieces, 1412, 0);
        offer_table(&mut rig.guest.tx, 0, pieces);
        rig.turn();
        assert_eq!(domain.take_posted(8), [&sent[..]], "{pieces} pieces");
        assert_eq!(rig.guest.tx.drain_used(), 1);
    }
    // The same in the ring itself.
    let each = 1412 / usize::from(QUEUE);
    for n in 0..QUEUE {
        let is_last = n + 1 == QUEUE;
        let at = usize::from(n) * each;
        let len = if is_last { 1412 - at } else { each } as u32;
        let next = if is_last { 0 } else { NEXT as u16 };
        rig.guest.tx.set_descriptor(n, FREE + at as u64, len, next, n + 1);
    }
    rig.guest.tx.offer(0);
    rig.turn();
    assert_eq!(domain.take_posted(8), [sent]);
    assert_eq!(rig.shared.counters.tx_malformed.get(), 0);
}

#[test]
fn one_piece_more_is_malformed_and_comes_back() {
    let (mut rig, mut domain) = Rig::new();
    let pieces = usize::from(QUEUE) + 1;
    write_frame(&rig, &frame(true, 1, 1400));
    write_table(&rig, pieces, 1412, 0);
    offer_table(&mut rig.guest.tx, QUEUE - 1, pieces);
    rig.send(7..8);
    assert_eq!(numbers(&domain.take_posted(8)), [7]);
    assert_eq!((rig.guest.tx.drain_used(), rig.shared.counters.tx_malformed.get()), (2, 1));
}

#[test]
fn a_frame_is_received_into_as_many_pieces() {
    let (mut rig, mut domain) = Rig::serving(FakeGuest::new());
    let pieces = usize::from(QUEUE);
    write_table(&rig, pieces, 2048, WRITE);
    offer_table(&mut rig.guest.rx, 0, pieces);
    let sent = frame(false, 3, 1000);
    domain.receive(&sent);
    rig.turn();
    assert_eq!(rig.guest.rx.take_used(), Some((0, 1012)));
    assert_eq!(rig.guest.rx.read(FREE + 12, 1000), sent);
}

#[test]
fn long_chains_shorten_a_turn() {
    let most = TURN_DESCRIPTORS as usize / usize::from(QUEUE) + 1;
    let (mut rig, mut domain) = Rig::serving(FakeGuest::new());
    let pieces = usize::from(QUEUE);
    // What the guest sends: good chains, then malformed ones.
    for flags in [0, WRITE] {
        write_frame(&rig, &frame(true, 1, 1400));
        write_table(&rig, pieces, 1412, flags);
        (0..100).for_each(|head| offer_table(&mut rig.guest.tx, head, pieces));
        rig.engine.turn(rig.now);
        let used = rig.guest.tx.drain_used();
        // A malformed chain ends at its first descriptor here.
        assert!(flags == WRITE || (1..=most).contains(&used), "{used} chains in a turn");
        rig.turn();
        rig.guest.tx.drain_used();
        domain.take_posted(1000);
    }
    // What it receives.
    write_table(&rig, pieces, 2048, WRITE);
    for n in 0..100 {
        offer_table(&mut rig.guest.rx, n, pieces);
        domain.receive(&frame(false, u32::from(n), 100));
    }
    rig.engine.turn(rig.now);
    let used = rig.guest.rx.drain_used();
    assert!((1..=most).contains(&used), "{used} frames in a turn");
    rig.turn();
    assert_eq!(used + rig.guest.rx.drain_used(), 100);
}

/// `cargo test --release -p switchboard --lib cost_of_a_descriptor -- --ignored --nocapture`
#[test]
#[ignore = "prints a figure"]
fn cost_of_a_descriptor() {
    let (mut rig, mut domain) = Rig::serving(FakeGuest::new());
    for pieces in [2, 19, 128, usize::from(QUEUE)] {
        write_frame(&rig, &frame(true, 1, 1400));
        write_table(&rig, pieces, 1412, 0);
        let (mut spent, rounds) = (std::time::Duration::ZERO, 2000);
        for _ in 0..rounds {
            offer_table(&mut rig.guest.tx, 0, pieces);
            let start = std::time::Instant::now();
            rig.engine.turn(rig.now);
            spent += start.elapsed();
            rig.guest.tx.drain_used();
            let posted = domain.take_posted(8);
            domain.claim(domain.in_hand.len());
            rig.nics[0].send(posted.len() as u32);
            rig.tick();
        }
        println!("{pieces} pieces: {} ns a frame", spent.as_nanos() / rounds);
    }
}

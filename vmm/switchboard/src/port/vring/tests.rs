use super::super::incoming::{Delivery, Incoming};
use super::*;
use crate::fakes::{FakeGuest, QUEUE};

/// A receive ring of a guest, not yet with chains.
fn receive_ring(guest: &FakeGuest) -> Box<Vring> {
    let [rx, _] = guest.vrings();
    rx
}

/// Sixty chains of one byte and many empty descriptors, too few for any frame.
fn offer_tiny_chains(guest: &mut FakeGuest) {
    let mut parts = vec![(0, true); 100];
    parts[0].0 = 1;
    let head = guest.rx.chain(&parts)[0];
    (0..60).for_each(|_| guest.rx.offer(head));
}

#[test]
fn chains_that_were_too_few_are_walked_again_only_when_there_are_more() {
    let mut guest = FakeGuest::new();
    let mut vring = receive_ring(&guest);
    offer_tiny_chains(&mut guest);
    let (mut incoming, mut malformed) = (Incoming::new(), 0);
    let mut deliver = |vring: &mut Vring, bytes: usize| {
        vring.publish();
        let before = vring.read;
        let delivery = incoming.deliver(vring, &vec![1; bytes], &[], &mut malformed);
        (delivery, vring.read - before)
    };
    assert_eq!(deliver(&mut vring, 100), (Delivery::NoRoom, 60 * 100));
    assert_eq!(deliver(&mut vring, 100), (Delivery::NoRoom, 0));
    assert_eq!(deliver(&mut vring, 2000), (Delivery::NoRoom, 0), "nor for a longer frame");
    // A shorter one may fit.
    assert_eq!(deliver(&mut vring, 40), (Delivery::Done, 52 * 100));
    assert_eq!(deliver(&mut vring, 100), (Delivery::NoRoom, 8 * 100), "of what is left");
    let more = guest.rx.chain(&[(2048, true)])[0];
    guest.rx.offer(more);
    assert_eq!(deliver(&mut vring, 100), (Delivery::Done, 8 * 100 + 1));
}

#[test]
fn a_ring_that_has_cost_enough_waits_for_the_next_turn() {
    let mut guest = FakeGuest::new();
    let mut vring = receive_ring(&guest);
    let mut parts = vec![(0, true); 120];
    parts[0].0 = 2048;
    let head = guest.rx.chain(&parts)[0];
    (0..100).for_each(|_| guest.rx.offer(head));
    let (mut incoming, mut malformed) = (Incoming::new(), 0);
    let mut delivered = || {
        let mut done = |_: &i32| incoming.deliver(&mut vring, &[1; 60], &[], &mut malformed);
        let count = (0..100).take_while(|n| done(n) == Delivery::Done).count();
        assert!(!vring.has_chains() || count == 100);
        vring.publish();
        assert!(vring.has_chains() || count == 30);
        count
    };
    assert_eq!([delivered(), delivered(), delivered()], [35, 35, 30]);
}

#[test]
fn the_available_index_is_read_when_all_that_it_counted_is_taken() {
    use vm_memory::Bytes;
    let mut guest = FakeGuest::new();
    let mut vring = receive_ring(&guest);
    (0..3).for_each(|_| drop(guest.rx.add(&[(2048, true)])));
    let mut segments = Segments::new();
    assert!(matches!(vring.pop(&mut segments, true), Popped::Chain { .. }));
    // An impossible index, which nobody looks at while chains are left.
    let index = GuestAddress(guest.rx.avail() + 2);
    guest.memory.store(QUEUE + 9, index, Ordering::Release).unwrap();
    for _ in 0..2 {
        assert!(matches!(vring.pop(&mut segments, true), Popped::Chain { .. }));
    }
    assert!(vring.is_intact());
    assert_eq!(vring.pop(&mut segments, true), Popped::Empty);
    assert!(!vring.is_intact());
}

/// What was left in the ring counts again when the index is checked.
#[test]
fn an_index_that_is_too_far_from_what_was_left_is_impossible() {
    use vm_memory::Bytes;
    let mut guest = FakeGuest::new();
    let mut vring = receive_ring(&guest);
    let head = guest.rx.chain(&[(2048, true)])[0];
    (0..3).for_each(|_| guest.rx.offer(head));
    let mut segments = Segments::new();
    for _ in 0..3 {
        vring.pop(&mut segments, true);
    }
    vring.unpop(2);
    let index = GuestAddress(guest.rx.avail() + 2);
    guest.memory.store(1 + QUEUE + 1, index, Ordering::Release).unwrap();
    assert_eq!(vring.pop(&mut segments, true), Popped::Empty);
    assert!(!vring.is_intact());
}

use proptest::prelude::*;

use super::super::TxPool;
use super::*;
use crate::domains::QueuePair;
use crate::fakes::{FakeDomain, prepare, slots};
use crate::limits::MAX_FRAME_BUFFERS;

/// What can happen to the pool.
#[derive(Clone, Debug)]
enum Step {
    Fill(usize),
    Announce,
    Post,
    Take(usize),
    Claim(usize),
    Confirm(u32),
    LinkLost(u32),
    Fail,
    Leave,
    Come,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (14usize..9728).prop_map(Step::Fill),
        4 => (14usize..200).prop_map(Step::Fill),
        1 => Just(Step::Announce),
        4 => Just(Step::Post),
        4 => (1usize..9).prop_map(Step::Take),
        4 => (1usize..9).prop_map(Step::Claim),
        3 => (0u32..9).prop_map(Step::Confirm),
        1 => (0u32..4).prop_map(Step::LinkLost),
        1 => Just(Step::Fail),
        1 => Just(Step::Leave),
        1 => Just(Step::Come),
    ]
}

/// Takes in a frame of the first guest.
fn fill(pool: &mut TxPool, bytes: usize) {
    let staged = pool.stage(bytes, None, |_| Ok::<_, ()>(())).unwrap();
    pool.queue(0, &staged);
}

/// Every buffer is in exactly one place, and the counts agree.
fn check(pool: &TxPool) {
    let pool = &pool.ledger;
    let mut places = [0; TX_BUFFERS];
    for number in pool.free.iter().chain(&pool.line).chain(&pool.poison) {
        places[usize::from(*number)] += 1;
    }
    for (number, buffer) in pool.buffers.iter().enumerate() {
        let unused = number >= usize::from(FIRST_RESERVED) && buffer.state == State::Free;
        assert_eq!(places[number], usize::from(!unused), "buffer {number}: {buffer:?}");
    }
    let state = |wanted| move |number: &&u16| pool.buffers[usize::from(**number)].state == wanted;
    assert_eq!(pool.line.iter().filter(state(State::Claimed)).count(), pool.claimed);
    assert_eq!(pool.line.iter().filter(state(State::Waiting)).count(), pool.waiting);
    let tail = pool.line.iter().rev().take(pool.waiting);
    assert_eq!(tail.filter(state(State::Waiting)).count(), pool.waiting, "waiting ones are last");
    let frames = pool.line.iter().filter(|n| pool.buffers[usize::from(**n)].first).count();
    assert_eq!(frames as u32, pool.frames);
    assert!(pool.credit <= pool.frames);
    let held = pool.line.iter().chain(&pool.poison).filter(|n| **n < FIRST_RESERVED).count();
    assert_eq!(usize::from(pool.held[0]), held);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_buffer_is_lost_or_held_twice(steps in prop::collection::vec(step(), 1..300)) {
        let (slots, _) = slots();
        let slot = &slots[0];
        let mut epoch = 1;
        let mut pair = QueuePair::new(slot, epoch, 1).unwrap();
        let mut domain = FakeDomain::new(slot, epoch);
        let mut pool = TxPool::new(slot.tx_pool.clone(), 1);
        for step in steps {
            match step {
                Step::Fill(bytes) if pool.ledger.has_room(0, MAX_FRAME_BUFFERS) => {
                    fill(&mut pool, bytes);
                }
                Step::Fill(_) => {}
                Step::Announce => {
                    if pool.reserved().is_free(FIRST_RESERVED) {
                        pool.reserved().queue(FIRST_RESERVED, 60, false);
                    }
                }
                Step::Post => {
                    pool.ledger.post(0, |entry| pair.post(entry)).unwrap();
                    pair.publish(slot).unwrap();
                }
                Step::Take(count) => { domain.take_posted(count); }
                Step::Claim(count) => {
                    for _ in 0..count.min(domain.in_hand.len()) {
                        pool.ledger.claim(domain.in_hand.pop_front().unwrap().buffer).unwrap();
                    }
                }
                Step::Confirm(sent) => { pool.ledger.confirm(sent); }
                Step::LinkLost(lost) => { pool.ledger.send_again(lost); }
                Step::Leave => { pool.ledger.leave(0); }
                Step::Come => pool.ledger.come(0),
                Step::Fail => {
                    let taken = domain.rings.tx_post.cursor();
                    pool.ledger.fail(Some(taken));
                    check(&pool);
                    pool.drain_poison(|_, _| {});
                    epoch += 1;
                    drop(pair);
                    prepare(slot);
                    pair = QueuePair::new(slot, epoch, 1).unwrap();
                    domain = FakeDomain::new(slot, epoch);
                }
            }
            check(&pool);
        }
    }
}

#[test]
fn a_copy_that_fails_takes_nothing() {
    let (slots, _) = slots();
    let mut pool = TxPool::new(slots[0].tx_pool.clone(), 1);
    let staged = pool.stage(5000, None, |slice| if slice.len() < 2048 { Err(7) } else { Ok(()) });
    assert_eq!(staged.err(), Some(7));
    check(&pool);
    assert_eq!(pool.ledger.unconfirmed(), 0);
}

#[test]
fn announcements_have_buffers_of_their_own() {
    let (slots, _) = slots();
    let mut pool = TxPool::new(slots[0].tx_pool.clone(), 1);
    while pool.ledger.has_room(0, MAX_FRAME_BUFFERS) {
        fill(&mut pool, 100);
    }
    for number in FIRST_RESERVED..FIRST_RESERVED + 4 {
        assert!(pool.reserved().is_free(number));
        pool.reserved().queue(number, 60, true);
        assert!(!pool.reserved().is_free(number));
    }
    assert!(pool.ledger.line.iter().take(4).all(|number| *number >= FIRST_RESERVED));
    check(&pool);
}

#[test]
fn a_guest_cannot_take_the_buffers_of_another() {
    let (slots, _) = slots();
    for guests in 2..=MAX_GUESTS {
        let mut pool = TxPool::new(slots[0].tx_pool.clone(), guests);
        for guest in 0..guests {
            let mut frames = 0;
            while pool.ledger.has_room(guest, MAX_FRAME_BUFFERS) {
                let staged = pool.stage(1514, None, |_| Ok::<_, ()>(())).unwrap();
                pool.queue(guest, &staged);
                frames += 1;
            }
            assert!(frames >= 100, "{frames} frames of guest {guest} of {guests}");
        }
    }
}

#[test]
fn the_oldest_frame_that_was_not_sent_has_the_stamp_of_its_batch() {
    let (slots, _) = slots();
    let slot = &slots[0];
    let mut pair = QueuePair::new(slot, 1, 1).unwrap();
    let mut domain = FakeDomain::new(slot, 1);
    let mut pool = TxPool::new(slot.tx_pool.clone(), 1);
    let mut post = |pool: &mut TxPool, frames: usize, at_ns: u64| {
        (0..frames).for_each(|_| fill(pool, 3000));
        pool.ledger.post(at_ns, |entry| pair.post(entry)).unwrap();
        pair.publish(slot).unwrap();
    };
    assert_eq!(pool.ledger.oldest_posted_ns(), None);
    post(&mut pool, 2, 10);
    post(&mut pool, 0, 15);
    post(&mut pool, 1, 20);
    domain.take_posted(6);
    while let Some(entry) = domain.in_hand.pop_front() {
        pool.ledger.claim(entry.buffer).unwrap();
    }
    pool.ledger.confirm(1);
    assert_eq!(pool.ledger.oldest_posted_ns(), Some(10), "the second frame of that batch");
    pool.ledger.confirm(1);
    assert_eq!(pool.ledger.oldest_posted_ns(), Some(20));
    pool.ledger.confirm(1);
    assert_eq!(pool.ledger.oldest_posted_ns(), None, "all were sent");
    post(&mut pool, 1, 30);
    assert_eq!(pool.ledger.oldest_posted_ns(), Some(30));
    pool.ledger.fail(None);
    assert_eq!(pool.ledger.oldest_posted_ns(), None, "they wait for another domain");
}

#[test]
fn stamps_do_not_pile_up() {
    let (slots, _) = slots();
    let slot = &slots[0];
    let mut pair = QueuePair::new(slot, 1, 1).unwrap();
    let mut domain = FakeDomain::new(slot, 1);
    let mut pool = TxPool::new(slot.tx_pool.clone(), 1);
    let room = pool.ledger.batches.capacity();
    for at_ns in 1..10_000 {
        fill(&mut pool, 100);
        pool.ledger.post(at_ns, |entry| pair.post(entry)).unwrap();
        pair.publish(slot).unwrap();
        domain.take_posted(1);
        pool.ledger.claim(domain.in_hand.pop_front().unwrap().buffer).unwrap();
        // One frame is always under way.
        pool.ledger.confirm(u32::from(at_ns > 1));
        assert_eq!(pool.ledger.oldest_posted_ns(), Some(at_ns));
        assert!(pool.ledger.batches.len() <= 2);
    }
    assert_eq!(pool.ledger.batches.capacity(), room);
}

use super::*;
use crate::switchboard::fakes::{FakeDomain, prepare, slots};
use crate::switchboard::lane::LaneLife;
use proptest::prelude::*;

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
    ]
}

/// Every buffer is in exactly one place, and the counts agree.
fn check(pool: &TxPool) {
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
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_buffer_is_lost_or_held_twice(steps in prop::collection::vec(step(), 1..300)) {
        let (slots, _) = slots();
        let slot = &slots[0];
        let mut epoch = 1;
        let mut life = LaneLife::new(slot, epoch).unwrap();
        let mut domain = FakeDomain::new(slot, epoch);
        let mut pool = TxPool::new(slot.tx_pool.clone());
        for step in steps {
            match step {
                Step::Fill(bytes) if pool.has_room() => {
                    pool.fill(bytes, None, |_| Ok::<_, ()>(())).unwrap();
                }
                Step::Fill(_) => {}
                Step::Announce => {
                    if pool.is_free(FIRST_RESERVED) {
                        pool.post_reserved(FIRST_RESERVED, 60, false);
                    }
                }
                Step::Post => {
                    pool.post(&mut life.rings.tx_post, epoch).unwrap();
                    life.publish(slot).unwrap();
                }
                Step::Take(count) => { domain.take_posted(count); }
                Step::Claim(count) => {
                    for _ in 0..count.min(domain.in_hand.len()) {
                        pool.claim(domain.in_hand.pop_front().unwrap().buffer).unwrap();
                    }
                }
                Step::Confirm(sent) => { pool.confirm(sent); }
                Step::LinkLost(lost) => { pool.send_again(lost); }
                Step::Fail => {
                    let taken = domain.tx_post.cursor();
                    pool.fail(|cursor| taken.wrapping_sub(cursor + 1) as i32 >= 0);
                    check(&pool);
                    pool.drain_poison(|_, _| {});
                    epoch += 1;
                    drop(life);
                    prepare(slot);
                    life = LaneLife::new(slot, epoch).unwrap();
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
    let mut pool = TxPool::new(slots[0].tx_pool.clone());
    assert_eq!(
        pool.fill(5000, None, |slice| if slice.len() < 2048 { Err(7) } else { Ok(()) }),
        Err(7)
    );
    check(&pool);
    assert_eq!(pool.unconfirmed(), 0);
}

#[test]
fn announcements_have_buffers_of_their_own() {
    let (slots, _) = slots();
    let mut pool = TxPool::new(slots[0].tx_pool.clone());
    while pool.has_room() {
        pool.fill(100, None, |_| Ok::<_, ()>(())).unwrap();
    }
    for number in FIRST_RESERVED..FIRST_RESERVED + 4 {
        assert!(pool.is_free(number));
        pool.post_reserved(number, 60, true);
        assert!(!pool.is_free(number));
    }
    assert!(pool.line.iter().take(4).all(|number| *number >= FIRST_RESERVED));
    check(&pool);
}

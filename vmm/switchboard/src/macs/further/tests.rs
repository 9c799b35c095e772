use super::*;

const MS: u64 = 1_000_000;

fn learning() -> FurtherMacs {
    FurtherMacs::new(&MacRule::Learn, |_| true)
}

fn keys(macs: &FurtherMacs) -> Vec<u64> {
    let mut keys: Vec<_> = macs.held().collect();
    keys.sort_unstable();
    keys
}

/// The guest sends from this address. Returns true if that is let through.
fn send(macs: &mut FurtherMacs, key: u64, now_ns: u64) -> bool {
    macs.hear(key, now_ns) || macs.take(key, now_ns)
}

#[test]
fn with_one_address_nothing_else_is_let_through() {
    let mut macs = FurtherMacs::default();
    assert!(macs.is_none() && !send(&mut macs, 2, 0));
    assert!(!macs.take_changed());
}

#[test]
fn a_list_is_all_there_is_and_stays() {
    let listed = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];
    let first = crate::macs::key_of(&listed[0]);
    let mut macs = FurtherMacs::new(&MacRule::List(listed.to_vec()), |key| key == first);
    assert!(macs.take_changed());
    assert_eq!(keys(&macs), [first], "another guest may have the second");
    assert!(macs.is_exclusive(first) && !macs.is_exclusive(first + 1));
    assert!(send(&mut macs, first + 1, 1) && !send(&mut macs, first + 2, 1));
    macs.age(10 * AGE_NS);
    macs.forget_learned();
    assert_eq!(keys(&macs), [first, first + 1]);
    macs.leave(first);
    assert_eq!(keys(&macs), [first + 1]);
    assert!(send(&mut macs, first, 2), "it is back");
    assert_eq!(keys(&macs), [first, first + 1]);
}

#[test]
fn learned_addresses_come_of_age_unless_the_guest_speaks() {
    let mut macs = learning();
    assert!(send(&mut macs, 2, 0) && send(&mut macs, 4, 0));
    assert_eq!(macs.age_due_ns(), Some(AGE_NS));
    send(&mut macs, 4, MS);
    macs.age(AGE_NS - 1);
    assert_eq!(keys(&macs), [2, 4]);
    macs.age(AGE_NS);
    assert_eq!(keys(&macs), [4]);
    assert_eq!(macs.age_due_ns(), Some(AGE_NS + MS));
    macs.age(AGE_NS + MS);
    assert_eq!((keys(&macs), macs.age_due_ns()), (vec![], None));
}

#[test]
fn the_one_that_was_silent_for_longest_makes_room() {
    let mut macs = learning();
    (0..FURTHER_MACS as u64).for_each(|n| assert!(send(&mut macs, 2 * n + 2, n)));
    send(&mut macs, 2, 1000);
    assert!(!send(&mut macs, 1 << 20, GRACE_NS), "all have spoken lately");
    assert!(send(&mut macs, 1 << 20, GRACE_NS + 1));
    assert!(macs.has(2) && !macs.has(4) && macs.has(1 << 20));
    assert_eq!((keys(&macs).len(), macs.pushed_out()), (FURTHER_MACS, 1));
}

#[test]
fn a_flood_of_sources_is_bounded_and_spares_those_that_speak() {
    let mut macs = learning();
    send(&mut macs, 2, 0);
    let (mut changes, mut passed) = (0, 0);
    // Ten seconds of 100,000 frames each, every one from another address; the one that stays speaks once a
    // second.
    for n in 0..1_000_000u64 {
        let now_ns = 10_000 * n;
        if n.is_multiple_of(100_000) {
            assert!(send(&mut macs, 2, now_ns), "after {n} frames");
        }
        passed += u64::from(send(&mut macs, 4 + 2 * n, now_ns));
        changes += u64::from(macs.take_changed());
    }
    let rounds = 10_000_000_000 / GRACE_NS + 1;
    let most = rounds * FURTHER_MACS as u64;
    assert!(passed <= most && changes <= most + 1, "{passed} let through, {changes} changes");
    assert!(passed > most / 2, "room is made");
    assert_eq!((macs.keys.len(), macs.keys.capacity()), (FURTHER_MACS, FURTHER_MACS));
}

#[test]
fn an_address_that_somebody_else_sends_from_is_gone_at_once() {
    let mut macs = learning();
    send(&mut macs, 2, 0);
    macs.take_changed();
    macs.leave(4);
    assert!(!macs.take_changed(), "it never had that");
    macs.leave(2);
    assert!(macs.take_changed() && !macs.has(2));
}

use super::*;

const NONE: Tags = Tags::NONE;
const MS: u64 = 1_000_000;

fn learning() -> Stations {
    Stations::new(&MacRule::Learn, |_| true)
}

fn keys(stations: &Stations) -> Vec<u64> {
    let mut keys: Vec<_> = stations.here().collect();
    keys.sort_unstable();
    keys
}

/// The guest sends from this address. Returns true if that is let through.
fn send(stations: &mut Stations, key: u64, now_ns: u64) -> bool {
    stations.hear(key, NONE, now_ns) || stations.take(key, NONE, now_ns)
}

#[test]
fn with_one_address_nothing_else_is_let_through() {
    let mut stations = Stations::default();
    assert!(stations.is_none() && !send(&mut stations, 2, 0));
    assert!(!stations.take_changed());
}

#[test]
fn a_list_is_all_there_is_and_stays() {
    let listed = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];
    let first = crate::macs::key_of(&listed[0]);
    let mut stations = Stations::new(&MacRule::List(listed.to_vec()), |key| key == first);
    assert!(stations.take_changed());
    assert_eq!(keys(&stations), [first], "another guest may have the second");
    assert_eq!(stations.in_use().count(), 0, "it may be another's on the wire");
    assert!(stations.is_exclusive(first) && !stations.is_exclusive(first + 1));
    assert!(send(&mut stations, first + 1, 1) && !send(&mut stations, first + 2, 1));
    stations.age(10 * AGE_NS);
    stations.forget_learned();
    assert_eq!((keys(&stations), stations.in_use().count()), (vec![first, first + 1], 0));
    stations.leave(first);
    assert_eq!(keys(&stations), [first + 1]);
    assert!(send(&mut stations, first, 2), "it is back");
    assert_eq!(keys(&stations), [first, first + 1]);
}

#[test]
fn learned_addresses_come_of_age_unless_the_guest_speaks() {
    let mut stations = learning();
    assert!(send(&mut stations, 2, 0) && send(&mut stations, 4, 0));
    assert_eq!(stations.age_due_ns(), Some(AGE_NS));
    send(&mut stations, 4, MS);
    stations.age(AGE_NS - 1);
    assert_eq!(keys(&stations), [2, 4]);
    stations.age(AGE_NS);
    assert_eq!(keys(&stations), [4]);
    assert_eq!(stations.age_due_ns(), Some(AGE_NS + MS));
    stations.age(AGE_NS + MS);
    assert_eq!((keys(&stations), stations.age_due_ns()), (vec![], None));
}

#[test]
fn the_one_that_was_silent_for_longest_makes_room() {
    let mut stations = learning();
    (0..STATIONS as u64).for_each(|n| assert!(send(&mut stations, 2 * n + 2, n)));
    send(&mut stations, 2, 1000);
    assert!(!send(&mut stations, 1 << 20, GRACE_NS), "all have spoken lately");
    assert!(send(&mut stations, 1 << 20, GRACE_NS + 1));
    assert!(stations.has(2) && !stations.has(4) && stations.has(1 << 20));
    assert_eq!((keys(&stations).len(), stations.pushed_out()), (STATIONS, 1));
}

#[test]
fn a_flood_of_sources_is_bounded_and_spares_those_that_speak() {
    let mut stations = learning();
    send(&mut stations, 2, 0);
    let (mut changes, mut passed) = (0, 0);
    // Ten seconds of 100,000 frames each, every one from another address; the one station speaks once a
    // second.
    for n in 0..1_000_000u64 {
        let now_ns = 10_000 * n;
        if n.is_multiple_of(100_000) {
            assert!(send(&mut stations, 2, now_ns), "after {n} frames");
        }
        passed += u64::from(send(&mut stations, 4 + 2 * n, now_ns));
        changes += u64::from(stations.take_changed());
    }
    let rounds = 10_000_000_000 / GRACE_NS + 1;
    let most = rounds * STATIONS as u64;
    assert!(passed <= most && changes <= most + 1, "{passed} let through, {changes} changes");
    assert!(passed > most / 2, "room is made");
    assert_eq!((stations.keys.len(), stations.keys.capacity()), (STATIONS, STATIONS));
}

#[test]
fn an_address_that_somebody_else_sends_from_is_gone_at_once() {
    let mut stations = learning();
    send(&mut stations, 2, 0);
    stations.take_changed();
    stations.leave(4);
    assert!(!stations.take_changed(), "it never had that");
    stations.leave(2);
    assert!(stations.take_changed() && !stations.has(2));
}

#[test]
fn the_returns_of_a_planned_switch_are_those_since_it_began() {
    let mut stations = learning();
    assert!(stations.have_returned(), "there is none");
    send(&mut stations, 2, 1);
    stations.note_return(2);
    assert!(stations.have_returned());
    stations.watch_returns();
    assert!(!stations.have_returned());
    stations.note_return(2);
    assert!(stations.have_returned());
}

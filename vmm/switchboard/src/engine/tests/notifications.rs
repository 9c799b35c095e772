use super::*;

fn with_event_idx() -> (Rig, FakeDomain) {
    let mut guest = FakeGuest::new();
    guest.event_idx = true;
    Rig::serving(guest)
}

#[test]
fn a_guest_that_waits_for_the_fourth_frame_is_interrupted_once() {
    let (mut rig, mut domain) = with_event_idx();
    for _ in 0..8 {
        rig.guest.rx.add(&[(2048, true)]);
    }
    rig.guest.rx.set_used_event(3);
    let mut calls = Vec::new();
    for number in 0..6 {
        domain.receive(&frame(false, number, 100));
        rig.turn();
        calls.push(rig.guest.rx.calls());
    }
    assert_eq!(calls, [0, 0, 0, 1, 0, 0]);
}

#[test]
fn a_batch_interrupts_once() {
    let (mut rig, mut domain) = with_event_idx();
    for _ in 0..8 {
        rig.guest.rx.add(&[(2048, true)]);
    }
    for number in 0..6 {
        domain.receive(&frame(false, number, 100));
    }
    rig.turn();
    assert_eq!(rig.guest.rx.calls(), 1);
}

#[test]
fn kicks_are_asked_for_only_before_a_sleep_and_from_where_it_was_looked() {
    let (mut rig, _domain) = with_event_idx();
    rig.send(0..5);
    assert_eq!(rig.guest.tx.avail_event(), 0);
    assert!(rig.engine.arm());
    assert_eq!(rig.guest.tx.avail_event(), 5);
}

#[test]
fn a_frame_that_comes_while_arming_is_not_slept_over() {
    let (mut rig, _domain) = with_event_idx();
    rig.guest.tx.send(&frame(true, 0, 100));
    assert!(!rig.engine.arm());
}

#[test]
fn without_event_idx_the_flags_are_honoured() {
    use vm_memory::{Bytes, GuestAddress};
    let (mut rig, mut domain) = Rig::new();
    let flags = GuestAddress(rig.guest.rx.avail());
    rig.guest.memory.store(1u16, flags, Ordering::SeqCst).unwrap();
    domain.receive(&frame(false, 1, 100));
    rig.turn();
    assert_eq!(rig.guest.rx.calls(), 0);
    rig.guest.memory.store(0u16, flags, Ordering::SeqCst).unwrap();
    domain.receive(&frame(false, 2, 100));
    rig.turn();
    assert_eq!(rig.guest.rx.calls(), 1);
}

#[test]
fn a_domain_notifies_only_while_the_switchboard_sleeps() {
    let (mut rig, mut domain) = Rig::new();
    let asleep = &domain.slot.clone();
    assert_eq!(asleep.control().switchboard_asleep.0.load(Ordering::SeqCst), 0);
    assert!(rig.engine.arm());
    assert_eq!(asleep.control().switchboard_asleep.0.load(Ordering::SeqCst), 1);
    domain.receive(&frame(false, 1, 100));
    assert!(!rig.engine.arm(), "published just before the sleep");
    rig.engine.disarm();
    assert_eq!(asleep.control().switchboard_asleep.0.load(Ordering::SeqCst), 0);
}

//! Each malformed entry is a violation, reported once, and costs the guest nothing.

use super::*;

fn after(act: impl FnOnce(&mut Rig, &mut FakeDomain)) -> (Rig, Violation) {
    let (mut rig, mut domain) = Rig::new();
    domain.receive(&frame(false, 1, 100));
    rig.turn();
    act(&mut rig, &mut domain);
    rig.turn();
    // Whatever it publishes now is not looked at.
    domain.receive(&frame(false, 2, 100));
    rig.turn();
    assert_eq!(rig.guest.rx.take_received().unwrap().1, frame(false, 1, 100));
    assert_eq!(rig.guest.rx.take_received(), None);
    assert!(rig.engine.arm(), "an ignored domain does not keep the loop awake");
    let violation = rig.violation();
    (rig, violation)
}

fn received(edit: impl FnOnce(&mut Entry)) -> Violation {
    after(|_, domain| {
        let buffer = domain.dma(&frame(false, 3, 100));
        let mut entry = Entry { buffer, len: 100, ..domain.entry() };
        edit(&mut entry);
        domain.receive_raw(entry);
    })
    .1
}

#[test]
fn a_buffer_beyond_the_pool() {
    let expected = Violation::UnknownBuffer { ring: RingName::RxDone, buffer: 1024 };
    assert_eq!(received(|entry| entry.buffer = 1024), expected);
}

#[test]
fn a_length_out_of_range() {
    for bad in [0, 13, 2049, u16::MAX] {
        let Violation::BadLength { len, .. } = received(|entry| entry.len = bad) else { panic!() };
        assert_eq!(len, bad);
    }
}

#[test]
fn flags_without_meaning_on_this_ring() {
    for bad in [0x8000, EntryFlags::CHECKSUM.0] {
        let expected = Violation::UnknownFlags { ring: RingName::RxDone, flags: bad };
        assert_eq!(received(|entry| entry.flags = EntryFlags(bad)), expected);
    }
}

#[test]
fn another_epoch() {
    let found = received(|entry| entry.epoch = 9);
    let expected = Violation::WrongEpoch { ring: RingName::RxDone, found: 9, expected: 1 };
    assert_eq!(found, expected);
}

#[test]
fn a_buffer_returned_twice() {
    let (_, violation) = after(|_, domain| {
        let buffer = domain.dma(&frame(false, 1, 100));
        for _ in 0..2 {
            domain.receive_raw(Entry { buffer, len: 5, ..domain.entry() });
        }
    });
    assert!(matches!(violation, Violation::BadLength { .. }), "the first is checked first");
    let (mut rig, mut domain) = Rig::new();
    let buffer = domain.dma(&frame(false, 1, 100));
    for _ in 0..2 {
        domain.receive_raw(Entry { buffer, len: 100, ..domain.entry() });
    }
    rig.turn();
    // Returned once and provided again: the second return finds the cleared header.
    assert_eq!(rig.violation(), Violation::StaleHeader { buffer });
}

#[test]
fn a_buffer_whose_header_nobody_wrote() {
    let (_, violation) = after(|_, domain| {
        let buffer = domain.take_buffer().buffer;
        domain.receive_raw(Entry { buffer, len: 100, ..domain.entry() });
    });
    assert!(matches!(violation, Violation::StaleHeader { .. }));
}

#[test]
fn an_impossible_cursor() {
    let (_, violation) = after(|_, domain| {
        let published = &domain.slot.status().rx_done_published.0;
        published.store(5000, Ordering::SeqCst);
    });
    let cursor = Violation::Cursor { ring: RingName::RxDone, own: 1, other: 5000 };
    assert_eq!(violation, cursor);
    let (_, violation) = after(|rig, domain| {
        domain.slot.status().tx_post_consumed.0.store(77, Ordering::SeqCst);
        rig.send(0..1);
    });
    assert_eq!(violation, Violation::Cursor { ring: RingName::TxPost, own: 1, other: 77 });
    let (_, violation) = after(|_, domain| {
        domain.slot.status().tx_done_published.0.store(u32::MAX, Ordering::SeqCst);
    });
    assert!(matches!(violation, Violation::Cursor { ring: RingName::TxDone, .. }));
}

#[test]
fn a_claim_that_was_not_posted() {
    let (_, violation) = after(|_, domain| {
        domain.claim_raw(Entry { buffer: 3, ..domain.entry() });
    });
    assert_eq!(violation, Violation::NotPosted { buffer: 3 });
    let (_, violation) = after(|_, domain| {
        domain.claim_raw(Entry { buffer: 1024, ..domain.entry() });
    });
    let unknown = Violation::UnknownBuffer { ring: RingName::TxDone, buffer: 1024 };
    assert_eq!(violation, unknown);
}

#[test]
fn a_claim_made_twice() {
    let (mut rig, mut domain) = Rig::new();
    rig.send(0..1);
    domain.take_posted(1);
    let buffer = domain.in_hand[0].buffer;
    domain.claim(1);
    domain.claim_raw(Entry { buffer, ..domain.entry() });
    rig.turn();
    assert_eq!(rig.violation(), Violation::NotPosted { buffer });
}

#[test]
fn anything_that_a_standby_publishes() {
    let (mut rig, mut domain) = Rig::new();
    let mut standby = rig.install(1, 2);
    rig.turn();
    rig.assert_no_violation();
    standby.receive(&frame(false, 1, 100));
    rig.turn();
    let expected = Violation::NotActive { ring: RingName::RxDone, entries: 1 };
    assert_eq!(rig.violation(), expected);
    domain.receive(&frame(false, 2, 100));
    rig.turn();
    assert_eq!(rig.guest.rx.take_received().unwrap().1, frame(false, 2, 100));
}

#[test]
fn a_released_spare_may_be_faster_than_its_takeover() {
    let (mut rig, _domain) = Rig::new();
    let mut standby = rig.install(1, 2);
    let order = TakeOver { to: DomainId(1), epoch: 2, verdict_ns: 1, nic_suspected: false };
    rig.shared.orders.put(&order);
    standby.receive(&frame(false, 1, 100));
    rig.turn();
    rig.assert_no_violation();
    assert_eq!(rig.shared.orders.take(), Some(order));
    rig.take_over(1, 2);
    rig.turn();
    assert_eq!(rig.guest.rx.take_received().unwrap().1, frame(false, 1, 100));
    rig.assert_no_violation();
}

#[test]
fn the_guests_frames_wait_for_a_takeover() {
    let (mut rig, _domain) = Rig::new();
    let mut standby = rig.install(1, 2);
    rig.slots[0].status().rx_done_published.0.store(5000, Ordering::SeqCst);
    rig.turn();
    rig.send(0..3);
    let report = rig.take_over(1, 2);
    assert_eq!((report.refused, report.lost), (0, 0));
    rig.turn();
    let frames = standby.take_posted(9);
    assert!(is_announcement(&frames[0]));
    assert_eq!(numbers(&frames[1..]), [0, 1, 2]);
    assert_eq!(rig.engine.path.mac(0), MAC);
}

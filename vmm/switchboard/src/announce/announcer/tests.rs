//! When guests are announced.

use super::*;
use crate::announce::{Announced, Announcement};
use crate::tx_pool::TxPool;
use microvm::domain::DomainSlot;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
const MS: u64 = 1_000_000;

fn announcer() -> (Announcer, TxPool) {
    let pool = DomainSlot::new_tx_pool().unwrap();
    let mut announcer = Announcer::new(&[MAC], &AnnounceConfig::default());
    announcer.set_here(0, true);
    (announcer, TxPool::new(pool, 1))
}

/// An ARP request of the guest for an address of its own.
fn claim(announcer: &mut Announcer, last: u8) {
    say(announcer, Announcement::new((MAC, Tags::NONE), Announced::V4([10, 0, 0, last])).bytes());
}

/// A frame of the guest.
fn say(announcer: &mut Announcer, frame: &[u8]) {
    let peek = |bytes: &mut [u8]| {
        let len = bytes.len().min(frame.len());
        bytes[..len].copy_from_slice(&frame[..len]);
        len
    };
    announcer.learn((0, true), frame.first_chunk().unwrap(), peek);
}

#[test]
fn each_repetition_is_due_once() {
    let (mut announcer, mut tx) = announcer();
    assert_eq!(announcer.due_ns(), None);
    announcer.start(MS);
    assert_eq!(announcer.lead(&mut tx.reserved()), 1);
    assert_eq!(announcer.due_ns(), Some(2 * MS));
    assert_eq!(announcer.tick(&mut tx.reserved(), 2 * MS - 1), 0);
    assert_eq!(announcer.tick(&mut tx.reserved(), 2 * MS), 1);
    assert_eq!(announcer.tick(&mut tx.reserved(), 2 * MS), 0);
    assert_eq!(announcer.due_ns(), Some(6 * MS));
}

#[test]
fn every_address_is_announced_a_few_at_a_time() {
    let (mut announcer, mut tx) = announcer();
    (1..=5).for_each(|last| claim(&mut announcer, last));
    announcer.start(0);
    assert_eq!(announcer.lead(&mut tx.reserved()), 1);
    assert_eq!(announcer.tick(&mut tx.reserved(), 0), 2);
    assert_eq!(announcer.tick(&mut tx.reserved(), 0), 0, "not before the pace allows");
    let due = announcer.due_ns().unwrap();
    assert_eq!(announcer.tick(&mut tx.reserved(), due), 2);
    assert_eq!(announcer.due_ns(), Some(MS));
}

#[test]
fn what_is_still_on_its_way_is_not_posted_without_end() {
    let (mut announcer, mut tx) = announcer();
    for _ in 0..ANNOUNCE_BUFFERS {
        announcer.start(0);
        assert_eq!(announcer.lead(&mut tx.reserved()), 1);
    }
    announcer.start(0);
    assert_eq!(announcer.lead(&mut tx.reserved()), 0);
    assert_eq!(announcer.tick(&mut tx.reserved(), MS), 0);
    assert_eq!(announcer.due_ns(), Some(5 * MS));
}

#[test]
fn each_guest_is_announced_first() {
    let macs = [MAC, [2, 0, 0, 0, 0, 10]];
    let (_, mut tx) = announcer();
    let mut announcer = Announcer::new(&macs, &AnnounceConfig::default());
    (0..2).for_each(|guest| announcer.set_here(guest, true));
    (1..=3).for_each(|last| claim(&mut announcer, last));
    announcer.start(0);
    assert_eq!(announcer.lead(&mut tx.reserved()), 2);
    assert_eq!(announcer.tick(&mut tx.reserved(), 0), 2, "the first guest's other addresses");
    assert_eq!(announcer.due_ns(), Some(MS));
}

#[test]
fn a_guest_that_has_left_is_announced_when_it_is_back() {
    let (mut announcer, mut tx) = announcer();
    claim(&mut announcer, 1);
    announcer.start(0);
    announcer.set_here(0, false);
    assert_eq!(
        (announcer.lead(&mut tx.reserved()), announcer.tick(&mut tx.reserved(), MS)),
        (0, 0)
    );
    announcer.start(2 * MS);
    assert_eq!(announcer.lead(&mut tx.reserved()), 0);
    while announcer.due_ns().is_some() {
        assert_eq!(announcer.tick(&mut tx.reserved(), 1000 * MS), 0);
    }
    announcer.set_here(0, true);
    assert_eq!(announcer.tick(&mut tx.reserved(), 2000 * MS), 1);
    announcer.set_here(0, false);
    announcer.set_here(0, true);
    assert_eq!(announcer.due_ns(), None, "nothing has happened since");
}

#[test]
fn a_buffer_is_written_again_only_for_something_else() {
    let (mut announcer, mut tx) = announcer();
    announcer.start(0);
    announcer.lead(&mut tx.reserved());
    tx.ledger.fail(Some(0));
    announcer.start(MS);
    announcer.lead(&mut tx.reserved());
    assert_eq!(announcer.written.iter().flatten().count(), 1);
}

#[test]
fn a_guest_that_is_announced_alone_is_announced_once() {
    let macs = [MAC, [2, 0, 0, 0, 0, 10]];
    let (_, mut tx) = announcer();
    let mut announcer = Announcer::new(&macs, &AnnounceConfig::default());
    (0..2).for_each(|guest| announcer.set_here(guest, true));
    announcer.start_one(1, MS);
    assert_eq!(announcer.tick(&mut tx.reserved(), MS), 1);
    assert_eq!(announcer.due_ns(), None);
}

#[test]
fn a_guest_with_many_addresses_does_not_hold_up_the_repetitions_of_others() {
    let macs = [MAC, [2, 0, 0, 0, 0, 10]];
    let (_, mut tx) = announcer();
    let config = AnnounceConfig { again: vec![ANNOUNCE_PACE], ..AnnounceConfig::default() };
    let mut announcer = Announcer::new(&macs, &config);
    (0..2).for_each(|guest| announcer.set_here(guest, true));
    (1..=7).for_each(|last| claim(&mut announcer, last));
    announcer.start(0);
    announcer.lead(&mut tx.reserved());
    announcer.tick(&mut tx.reserved(), 0);
    let pending = |announcer: &Announcer| [0, 1].map(|n| announcer.guests[n].stations.is_pending());
    assert_eq!(pending(&announcer), [true, false]);
    let now_ns = announcer.due_ns().unwrap();
    let before = announcer.done;
    announcer.tick(&mut tx.reserved(), now_ns);
    assert_eq!((announcer.done, announcer.guests[0].stations.is_pending()), (before + 1, true));
}

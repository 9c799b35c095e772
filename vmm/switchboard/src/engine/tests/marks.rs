//! Marks of written pages, for a front-end that moves its guest.

use std::fs::File;
use std::sync::Arc;

use super::*;
use crate::fakes::{FakeDomain, GUEST_BASE, LOG_BYTES, foreign, marked_pages, memfd};
use crate::port::{DirtyLog, Marks, VringConfig};

const RX_USED: usize = (GUEST_BASE as usize + 0x2000) / 4096;
const TX_USED: usize = RX_USED + 4;
const RX_BUFFERS_FROM: usize = (GUEST_BASE as usize + 0x10_0000) / 4096;

/// Everything is marked in the file.
fn logging() -> (Rig, FakeDomain, File) {
    let file = memfd(LOG_BYTES);
    let mut guest = FakeGuest::new();
    guest.log = Some(file.try_clone().unwrap());
    let (rig, domain) = Rig::serving(guest);
    (rig, domain, file)
}

/// Starts both rings with changes to how they are described.
fn reconnect(rig: &mut Rig, change: impl Fn(usize, &mut VringConfig)) {
    let memory = rig.guest.shared();
    let mut index = 0;
    let vrings = [&rig.guest.rx, &rig.guest.tx].map(|ring| {
        let mut config = rig.guest.config(ring, &memory);
        change(index, &mut config);
        index += 1;
        RingChange::Start(Box::new(Vring::new(config).unwrap()))
    });
    rig.engine.set_rings(0, vrings);
}

fn clear(file: &File) {
    let zeroes = vec![0; file.metadata().unwrap().len() as usize];
    std::os::unix::fs::FileExt::write_all_at(file, &zeroes, 0).unwrap();
}

#[test]
fn a_received_frame_marks_what_of_its_buffer_was_written_and_the_used_ring() {
    let (mut rig, mut domain, log) = logging();
    rig.guest.rx.add(&[(8192, true)]);
    rig.turn();
    assert_eq!(marked_pages(&log), [0; 0], "nothing was written");
    domain.receive(&frame(false, 1, 1514));
    rig.turn();
    assert!(rig.guest.rx.take_received().is_some());
    assert_eq!(marked_pages(&log), [RX_USED, RX_BUFFERS_FROM], "not its second page");
}

#[test]
fn a_frame_over_several_chains_and_pages_marks_them_all() {
    let (mut rig, mut domain, log) = logging();
    // The header alone, then data that crosses a page; then a chain that holds the rest.
    let [a, b] = [0x11_0000, 0x12_0ff0].map(|offset| GUEST_BASE + offset);
    let c = GUEST_BASE + 0x13_0000;
    rig.guest.rx.set_descriptor(0, a, 12, 1 | 2, 1);
    rig.guest.rx.set_descriptor(1, b, 500, 2, 0);
    rig.guest.rx.set_descriptor(2, c, 2048, 2, 0);
    rig.guest.rx.offer(0);
    rig.guest.rx.offer(2);
    domain.receive(&frame(false, 1, 1514));
    rig.turn();
    let pages = [RX_USED, 0x210, 0x220, 0x221, 0x230];
    assert_eq!(marked_pages(&log), pages);
}

#[test]
fn a_sent_frame_marks_the_used_ring_alone() {
    let (mut rig, _domain, log) = logging();
    rig.send(0..5);
    assert_eq!(rig.guest.tx.drain_used(), 5);
    assert_eq!(marked_pages(&log), [TX_USED]);
}

#[test]
fn a_chain_that_only_goes_back_marks_the_used_ring_alone() {
    let (mut rig, mut domain, log) = logging();
    rig.guest.rx.add(&[(2048, false)]);
    rig.guest.rx.add(&[(2048, true)]);
    domain.receive(&frame(false, 1, 100));
    rig.turn();
    assert_eq!(rig.guest.rx.take_used(), Some((0, 0)));
    assert_eq!(marked_pages(&log), [RX_USED, RX_BUFFERS_FROM + 1]);
}

#[test]
fn frames_and_used_rings_are_marked_each_by_its_own_flag() {
    let (mut rig, mut domain, log) = logging();
    let both = |rig: &mut Rig, domain: &mut FakeDomain| {
        rig.guest.rx.add(&[(2048, true)]);
        domain.receive(&frame(false, 1, 100));
        rig.send(0..1);
        let marked = marked_pages(&log);
        clear(&log);
        marked
    };
    reconnect(&mut rig, |_, config| config.marks.used = None);
    assert_eq!(both(&mut rig, &mut domain), [RX_BUFFERS_FROM]);
    reconnect(&mut rig, |_, config| config.marks.frames = None);
    assert_eq!(both(&mut rig, &mut domain), [RX_USED, TX_USED]);
    reconnect(&mut rig, |_, config| config.marks = Marks::default());
    assert_eq!(both(&mut rig, &mut domain), [0; 0]);
    reconnect(&mut rig, |_, _| ());
    assert_eq!(both(&mut rig, &mut domain), [RX_USED, TX_USED, RX_BUFFERS_FROM + 3]);
    assert_eq!(rig.guest.rx.drain_used(), 4, "traffic went on all the while");
    rig.assert_no_violation();
}

#[test]
fn asking_for_kicks_marks_what_it_writes_to() {
    for event_idx in [false, true] {
        let mut guest = FakeGuest::new();
        guest.event_idx = event_idx;
        let log = memfd(LOG_BYTES);
        guest.log = Some(log.try_clone().unwrap());
        let (mut rig, _domain) = Rig::serving(guest);
        // In the log the used ring begins so that its last word, at 2052, has a page of its own.
        let base = 5 * 4096 - 2052;
        reconnect(&mut rig, |_, config| {
            let (log, _) = config.marks.used.take().unwrap();
            config.marks.used = Some((log, base));
        });
        assert!(rig.engine.arm());
        assert_eq!(marked_pages(&log), [if event_idx { 5 } else { 4 }]);
        clear(&log);
        rig.engine.disarm();
        let expected: &[usize] = if event_idx { &[] } else { &[4] };
        assert_eq!(marked_pages(&log), expected);
    }
}

#[test]
fn a_log_that_is_too_short_costs_its_marks_and_no_frame() {
    let (mut rig, mut domain, _) = logging();
    let file = memfd(4096);
    let short = Arc::new(DirtyLog::map(1, 100, &foreign(&file)).unwrap());
    reconnect(&mut rig, |_, config| {
        let used = Some((short.clone(), u64::MAX - 3));
        config.marks = Marks { frames: Some(short.clone()), used, ..Marks::default() };
    });
    rig.guest.rx.add(&[(2048, true)]);
    domain.receive(&frame(false, 1, 100));
    rig.send(0..1);
    assert_eq!(rig.guest.rx.take_received().unwrap().1, frame(false, 1, 100));
    assert_eq!(marked_pages(&file), [0; 0]);
}

#[test]
fn a_log_that_is_truncated_ends_the_service_of_its_guest() {
    let (mut rig, _domain, log) = logging();
    log.set_len(0).unwrap();
    rig.send(0..1);
    let events = &rig.shared.port_events[0];
    assert!(events.truncated.load(Ordering::SeqCst));
    rig.guest.tx.drain_used();
    rig.send(1..2);
    assert_eq!(rig.guest.tx.drain_used(), 0, "it was stopped");
}

#[test]
fn a_front_end_that_wants_to_is_told_of_marks() {
    let (mut rig, mut domain, _log) = logging();
    let told = |rig: &Rig| rig.guest.logged.read().is_ok();
    assert!(!told(&rig));
    rig.guest.rx.add(&[(2048, true)]);
    domain.receive(&frame(false, 1, 100));
    rig.turn();
    assert!(told(&rig));
    rig.turn();
    assert!(!told(&rig));
    reconnect(&mut rig, |_, config| (config.marks.frames, config.marks.used) = (None, None));
    rig.send(0..1);
    assert!(!told(&rig));
}

#[test]
fn another_log_takes_the_place_of_the_one_before() {
    let (mut rig, _domain, first) = logging();
    let second = memfd(LOG_BYTES);
    rig.guest.log = Some(second.try_clone().unwrap());
    rig.connect();
    rig.send(0..1);
    assert_eq!(marked_pages(&first), [0; 0]);
    assert_eq!(marked_pages(&second), [TX_USED]);
}

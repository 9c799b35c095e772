use super::*;

#[test]
fn a_frame_reaches_the_guest_behind_an_honest_header() {
    let (mut rig, mut domain) = Rig::new();
    for len in [14, 60, 64, 65, 1514, 2000] {
        domain.receive(&frame(false, len, len as usize));
    }
    rig.turn();
    for len in [14, 60, 64, 65, 1514, 2000] {
        let (header, body) = rig.guest.rx.take_received().unwrap();
        assert_eq!(body, frame(false, len, len as usize));
        assert_eq!(header, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0], "no checksum vouched for");
    }
    rig.assert_no_violation();
}

#[test]
fn buffers_go_round_for_ever() {
    let (mut rig, mut domain) = Rig::new();
    for number in 0..3 * RX_BUFFERS as u32 {
        domain.receive(&frame(false, number, 100));
        rig.turn();
        assert_eq!(rig.guest.rx.take_received().unwrap().1, frame(false, number, 100));
        rig.guest.rx.add(&[(2048, true)]);
    }
    rig.assert_no_violation();
}

#[test]
fn a_frame_is_merged_from_small_chains_and_appears_whole() {
    let mut rig = Rig::bare(FakeGuest::new());
    rig.connect();
    let mut domain = rig.install(0, 1);
    rig.engine.activate(0, 1).unwrap();
    for _ in 0..3 {
        rig.guest.rx.add(&[(512, true)]);
    }
    domain.receive(&frame(false, 1, 1800));
    rig.turn();
    assert_eq!(rig.guest.rx.take_used(), None, "1812 bytes do not fit into three of 512");
    assert!(rig.engine.arm(), "waits for a chain without keeping the loop awake");
    rig.engine.disarm();
    rig.guest.rx.add(&[(512, true)]);
    rig.turn();
    let (header, body) = rig.guest.rx.take_received().unwrap();
    assert_eq!(body, frame(false, 1, 1800));
    assert_eq!(header[10], 4);
}

#[test]
fn without_merging_a_frame_that_does_not_fit_is_dropped() {
    let mut guest = FakeGuest::new();
    guest.mergeable = false;
    let mut rig = Rig::bare(guest);
    rig.connect();
    let mut domain = rig.install(0, 1);
    rig.engine.activate(0, 1).unwrap();
    rig.guest.rx.add(&[(512, true)]);
    rig.guest.rx.add(&[(12, true), (1600, true)]);
    domain.receive(&frame(false, 1, 1514));
    domain.receive(&frame(false, 2, 1514));
    rig.turn();
    assert_eq!(rig.guest.rx.take_used(), Some((0, 0)));
    assert_eq!(rig.guest.rx.take_used(), Some((1, 1526)));
    assert_eq!(rig.shared.counters.rx_too_large.get(), 1);
    assert_eq!(rig.guest.rx.read(rig.guest.rx.buffer(2), 1514), frame(false, 2, 1514));
}

#[test]
fn without_chains_frames_wait_in_the_domains_ring_and_transmission_goes_on() {
    let (mut rig, mut domain) = Rig::new();
    for number in 0..100 {
        domain.receive(&frame(false, number, 100));
    }
    rig.turn();
    assert_eq!(rig.shared.counters.rx_frames.get(), 64);
    assert_eq!(rig.shared.counters.rx_backpressure.get(), 1);
    rig.send(0..10);
    assert_eq!(domain.take_posted(10).len(), 10);
    assert!(rig.engine.arm());
    rig.engine.disarm();
    for _ in 64..100 {
        rig.guest.rx.add(&[(2048, true)]);
    }
    rig.turn();
    let got: Vec<_> = std::iter::from_fn(|| rig.guest.rx.take_received()).collect();
    let frames: Vec<_> = got.into_iter().map(|(_, frame)| frame).collect();
    assert_eq!(numbers(&frames), (0..100).collect::<Vec<_>>());
}

#[test]
fn without_a_guest_frames_are_dropped_and_buffers_go_back() {
    let mut rig = Rig::bare(FakeGuest::new());
    let mut domain = rig.install(0, 1);
    rig.engine.activate(0, 1).unwrap();
    for number in 0..2 * RX_BUFFERS as u32 {
        domain.receive(&frame(false, number, 100));
        rig.turn();
    }
    assert_eq!(rig.shared.counters.rx_no_guest.get(), 2 * RX_BUFFERS as u64);
}

#[test]
fn the_guests_own_frames_and_damaged_ones_are_dropped() {
    let (mut rig, mut domain) = Rig::new();
    domain.receive(&frame(true, 1, 100));
    let buffer = domain.dma(&frame(false, 2, 100));
    let damaged = Entry { buffer, len: 100, flags: EntryFlags::ERROR, ..domain.entry() };
    domain.receive_raw(damaged);
    rig.turn();
    assert_eq!(rig.guest.rx.take_used(), None);
    assert_eq!(rig.shared.counters.rx_own.get(), 1);
    assert_eq!(rig.shared.counters.rx_damaged.get(), 1);
    rig.assert_no_violation();
}

#[test]
fn malformed_chains_come_back_unused_and_the_frame_takes_the_next() {
    let (mut rig, mut domain) = Rig::new();
    for number in 0..64 {
        domain.receive(&frame(false, number, 100));
    }
    rig.turn();
    rig.guest.rx.drain_used();
    let bad = rig.guest.rx.add(&[(2048, false)])[0];
    let outside = rig.guest.rx.add(&[(2048, true)])[0];
    rig.guest.rx.set_descriptor(outside, 0x10, 2048, 2, 0);
    let good = rig.guest.rx.add(&[(2048, true)])[0];
    domain.receive(&frame(false, 99, 100));
    rig.turn();
    assert_eq!(rig.guest.rx.take_used(), Some((bad, 0)));
    assert_eq!(rig.guest.rx.take_used(), Some((outside, 0)));
    assert_eq!(rig.guest.rx.take_used(), Some((good, 112)));
    assert_eq!(rig.shared.counters.rx_malformed.get(), 2);
}

#[test]
fn a_ring_of_nothing_but_malformed_chains_costs_little_and_does_not_stall() {
    let mut rig = Rig::bare(FakeGuest::new());
    rig.connect();
    let mut domain = rig.install(0, 1);
    rig.engine.activate(0, 1).unwrap();
    for _ in 0..QUEUE {
        rig.guest.rx.add(&[(2048, false)]);
    }
    for number in 0..8 {
        domain.receive(&frame(false, number, 100));
    }
    rig.turn();
    assert_eq!(rig.guest.rx.drain_used(), 8 * 3, "three for each frame");
    for number in 8..200 {
        domain.receive(&frame(false, number, 100));
        rig.turn();
    }
    assert_eq!(rig.guest.rx.drain_used(), usize::from(QUEUE) / 3 * 3 - 8 * 3);
}

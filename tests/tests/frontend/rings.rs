//! Invalid virtqueues, which cause an error for their own guest only.

use std::time::Duration;

use warmspare_tests::frontend::{
    Connection, DriverRing, GUEST_BASE, GUEST_MAC, HEADER_BYTES, NEXT, RawFrontend, Request,
    TestGuest, WRITE, body, frame,
};

use crate::Bench;

/// `VIRTQ_DESC_F_INDIRECT`.
const INDIRECT: u16 = 4;
/// Length of a frame of [`frame`] with its header, in bytes.
const FRAME_BYTES: u32 = 112;

/// A malformed chain: a description of the error, and a function that makes the chain and returns
/// its head.
type Malformed = (&'static str, fn(&mut DriverRing) -> u16);

const CHAINS: [Malformed; 14] = [
    ("outside memory", |ring| {
        ring.set_descriptor(0, 0x7fff_0000_0000, FRAME_BYTES, 0, 0);
        0
    }),
    ("in the hole below memory", |ring| {
        ring.set_descriptor(0, 0, FRAME_BYTES, 0, 0);
        0
    }),
    ("runs out of memory", |ring| {
        ring.set_descriptor(0, GUEST_BASE + (4 << 20) - 50, FRAME_BYTES, 0, 0);
        0
    }),
    ("wraps around", |ring| {
        ring.set_descriptor(0, u64::MAX - 10, FRAME_BYTES, 0, 0);
        0
    }),
    ("of 4 GiB", |ring| {
        ring.set_descriptor(0, ring.buffer(0), u32::MAX, 0, 0);
        0
    }),
    ("empty", |ring| {
        ring.set_descriptor(0, ring.buffer(0), 0, 0, 0);
        0
    }),
    ("a header only", |ring| {
        ring.set_descriptor(0, ring.buffer(0), HEADER_BYTES as u32, 0, 0);
        0
    }),
    ("a loop of one", |ring| {
        ring.set_descriptor(0, ring.buffer(0), FRAME_BYTES, NEXT, 0);
        0
    }),
    ("a loop of empty ones", |ring| {
        ring.set_descriptor(0, ring.buffer(0), 0, NEXT, 1);
        ring.set_descriptor(1, ring.buffer(1), 0, NEXT, 0);
        0
    }),
    ("next outside the table", |ring| {
        ring.set_descriptor(0, ring.buffer(0), FRAME_BYTES, NEXT, 9999);
        0
    }),
    ("of too many", |ring| {
        // One more than the ring has descriptors.
        let table = ring.buffer(7);
        ring.set_descriptor(0, table, 16 * 257, INDIRECT, 0);
        for n in 0..257 {
            let next = if n < 256 { NEXT } else { 0 };
            ring.write_descriptor(table + 16 * u64::from(n), ring.buffer(10), 1, next, n + 1);
        }
        0
    }),
    ("an indirect table within itself", |ring| {
        let table = ring.buffer(7);
        ring.set_descriptor(0, table, 32, INDIRECT, 0);
        ring.write_descriptor(table, table, 32, INDIRECT, 0);
        0
    }),
    ("an indirect loop", |ring| {
        let table = ring.buffer(7);
        ring.set_descriptor(0, table, 32, INDIRECT, 0);
        ring.write_descriptor(table, ring.buffer(8), 8, NEXT, 1);
        ring.write_descriptor(table + 16, ring.buffer(8), 8, NEXT, 0);
        0
    }),
    ("an indirect table of odd size outside memory", |ring| {
        ring.set_descriptor(0, u64::MAX - 64, 33, INDIRECT, 0);
        0
    }),
];

#[test]
fn malformed_chains_of_a_guest_that_sends_come_back_and_the_rest_is_sent() {
    let mut bench = Bench::new();
    let mut guest = TestGuest::new();
    let _connection = Connection::start(bench.rig.socket(), &guest);
    for (what, make) in CHAINS.iter().chain(&[DEVICE_WRITES]) {
        let counters = bench.rig.system.switchboard().counters();
        let before = counters.tx_malformed.get();
        // The chain overwrites the descriptors from 0 on, so none of them may be in use.
        warmspare_tests::frontend::wait("an idle ring", || guest.tx.outstanding() == 0);
        let head = make(&mut guest.tx);
        guest.tx.offer(head);
        guest.tx.kick();
        warmspare_tests::frontend::wait(what, || {
            guest.tx.outstanding() == 0 && counters.tx_malformed.get() > before
        });
        while guest.tx.take_used().is_some() {}
        bench.exchange(&mut guest);
    }
    drop(_connection);
    bench.assert_serves();
}

/// A device-writable buffer where the device may only read.
const DEVICE_WRITES: Malformed = ("writable", |ring| {
    ring.set_descriptor(0, ring.buffer(0), FRAME_BYTES, WRITE, 0);
    0
});

#[test]
fn malformed_chains_of_a_guest_that_receives_cost_it_frames_and_nothing_else() {
    let mut bench = Bench::new();
    let readable: Malformed = ("readable", |ring| {
        ring.set_descriptor(0, ring.buffer(0), 2048, 0, 0);
        0
    });
    let serving = |bench: &Bench| {
        let active = bench.rig.active();
        (active, bench.rig.system.failover().state(active))
    };
    let before = serving(&bench);
    for (what, make) in CHAINS.iter().chain(&[readable]) {
        let mut guest = TestGuest::new();
        let _connection = Connection::start(bench.rig.socket(), &guest);
        for _ in 0..3 {
            let head = make(&mut guest.rx);
            guest.rx.offer(head);
            guest.rx.kick();
            bench.lan.send(1);
        }
        bench.rig.run_for(Duration::from_millis(5));
        drop(_connection);
        assert_eq!(serving(&bench), before, "{what}: no domain pays for it");
    }
    bench.assert_serves();
}

#[test]
fn chains_too_small_for_any_frame_do_not_stop_the_ring() {
    let mut bench = Bench::new();
    let mut guest = TestGuest::new();
    let _connection = Connection::start(bench.rig.socket(), &guest);
    for _ in 0..100 {
        guest.rx.add(&[(1, WRITE)]);
    }
    guest.rx.kick();
    for n in 0..10 {
        bench.lan.send(n);
    }
    warmspare_tests::frontend::wait("the small chains to be used up", || {
        guest.rx.outstanding() < 100
    });
    drop(_connection);
    bench.assert_serves();
}

#[test]
fn a_corrupt_ring_is_stopped_and_can_be_started_again() {
    let mut bench = Bench::new();
    let mut guest = TestGuest::new();
    let raw = RawFrontend::start(bench.rig.socket(), &guest);
    let broken = |bench: &Bench| bench.rig.system.switchboard().counters().guest_rings_broken.get();
    for round in 1..=3 {
        // This index claims that more chains are available than the ring has.
        let honest = guest.tx.available();
        guest.ram.store(guest.tx.avail() + 2, honest.wrapping_add(5000));
        guest.tx.kick();
        warmspare_tests::frontend::wait("the ring to be stopped", || broken(&bench) == round);
        bench.rig.run_for(Duration::from_millis(20));
        assert_eq!(broken(&bench), round, "said once");
        guest.ram.store(guest.tx.avail() + 2, honest);
        raw.get(Request::GET_VRING_BASE, &body::state(1, 0));
        raw.start_ring(&guest.tx, Some(std::os::fd::AsRawFd::as_raw_fd(guest.tx.kick_event())));
        bench.exchange(&mut guest);
    }
}

#[test]
fn a_head_outside_the_table_stops_its_ring_only() {
    let mut bench = Bench::new();
    let mut guest = TestGuest::new();
    let _connection = Connection::start(bench.rig.socket(), &guest);
    guest.tx.offer(5000);
    guest.tx.kick();
    let counters = bench.rig.system.switchboard().counters();
    warmspare_tests::frontend::wait("the ring to be stopped", || {
        counters.guest_rings_broken.get() == 1
    });
    // The other ring still works.
    guest.offer_buffers();
    bench.lan.send(77);
    warmspare_tests::frontend::wait("a frame", || guest.receive().is_some());
    drop(_connection);
    bench.assert_serves();
}

#[test]
fn rings_that_lie_in_each_other_or_in_their_buffers_are_survived() {
    let mut bench = Bench::new();
    for (descriptors, avail, used) in [(0, 0, 0), (0, 0x1000, 0x1000), (0x1000, 0x1000, 0x1000)] {
        let mut guest = TestGuest::new();
        let raw = RawFrontend::negotiate(bench.rig.socket());
        raw.share(&guest);
        for ring in guest.rings() {
            raw.describe_ring(ring);
            let mut addresses = body::addresses(ring);
            for (at, offset) in [(8, descriptors), (16, used), (24, avail)] {
                let user = warmspare_tests::frontend::USER_BASE + offset;
                addresses[at..at + 8].copy_from_slice(&u64::to_ne_bytes(user));
            }
            raw.ask(Request::SET_VRING_ADDR, &addresses, &[]);
            raw.kick(ring.index, None);
            raw.ask(Request::SET_VRING_ENABLE, &body::state(ring.index, 1), &[]);
        }
        for n in 0..50 {
            guest.ram.store(GUEST_BASE + 2, n);
            guest.queue(&frame(bench.lan.mac, GUEST_MAC, u32::from(n)));
            bench.lan.send(u32::from(n));
        }
        bench.rig.run_for(Duration::from_millis(10));
        assert!(raw.is_alive());
    }
    bench.lan.take_seen();
    bench.assert_serves();
}

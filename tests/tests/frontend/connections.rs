//! Front-ends that come and go.

use std::time::{Duration, Instant};

use lab::fault::{self, Site};
use warmspare_tests::frontend::{
    Connection, GUEST_MAC, RawFrontend, Request, TestGuest, frame, open_fds, wait,
};
use warmspare_tests::rig::Rig;

use crate::{Bench, turn};

#[test]
fn a_hundred_connections_leave_descriptors_and_mappings_flat() {
    let mut bench = Bench::new();
    let mappings = || std::fs::read_to_string("/proc/self/maps").unwrap().lines().count();
    // The first connection makes all one-time allocations.
    bench.assert_serves();
    let before = (open_fds(), mappings());
    for n in 0..100 {
        match n % 3 {
            0 => bench.assert_serves(),
            1 => drop(Connection::negotiate(bench.rig.socket())),
            _ => drop(RawFrontend::connect(bench.rig.socket())),
        }
    }
    assert_eq!(open_fds(), before.0, "descriptors");
    let after = mappings();
    assert!(after <= before.1 + 4, "{} mappings became {after}", before.1);
    bench.assert_serves();
}

#[test]
fn a_second_front_end_waits_its_turn() {
    let mut bench = Bench::new();
    let mut guest = TestGuest::new();
    let first = Connection::start(bench.rig.socket(), &guest);
    let second = RawFrontend::connect(bench.rig.socket());
    second.send(Request::GET_FEATURES, &[], &[]);
    second.stream().set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    assert!(second.stream().peek_byte().is_none(), "served beside the first");
    bench.exchange(&mut guest);
    drop(first);
    second.stream().set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert!(second.reply().is_some());
}

#[test]
fn front_ends_that_wait_are_counted_and_may_leave() {
    let bench = Bench::new();
    let guest = TestGuest::new();
    let _first = Connection::start(bench.rig.socket(), &guest);
    let seen = || bench.rig.system.switchboard().front_ends()[0];
    let second = RawFrontend::connect(bench.rig.socket());
    wait("the second one to be seen", || seen().connected && seen().waiting == 1);
    drop(second);
    wait("its leaving to be seen", || seen().waiting == 0);
    // More than are accepted beforehand.
    let many: Vec<_> = (0..10).map(|_| RawFrontend::connect(bench.rig.socket())).collect();
    wait("many to be seen", || seen().waiting == 4);
    drop(many);
    wait("their leaving to be seen", || seen().waiting == 0);
    assert!(seen().connected);
}

/// Peeking at the first byte that can be read, which stays in place.
trait PeekByte {
    fn peek_byte(&self) -> Option<u8>;
}

impl PeekByte for std::os::unix::net::UnixStream {
    fn peek_byte(&self) -> Option<u8> {
        use std::os::fd::AsRawFd;
        let mut byte = 0u8;
        // SAFETY: the buffer is one byte that outlives the call.
        let count =
            unsafe { libc::recv(self.as_raw_fd(), (&raw mut byte).cast(), 1, libc::MSG_PEEK) };
        (count == 1).then_some(byte)
    }
}

#[test]
fn a_guest_that_reconnects_goes_on_where_its_rings_stand() {
    let mut bench = Bench::new();
    let mut guest = TestGuest::new();
    let mut expected = Vec::new();
    let mut number = 0;
    for round in 0..20 {
        let connection = Connection::start(bench.rig.socket(), &guest);
        for _ in 0..10 {
            guest.send(&frame(bench.lan.mac, GUEST_MAC, number));
            expected.push(number);
            number += 1;
        }
        // In every other round the guest disconnects while frames are still in flight.
        if round % 2 == 0 {
            bench.lan.expect(number - 1);
        }
        drop(connection);
        // The guest makes this frame available while it is not connected.
        guest.queue(&frame(bench.lan.mac, GUEST_MAC, number));
        expected.push(number);
        number += 1;
    }
    let _connection = Connection::start(bench.rig.socket(), &guest);
    wait("all chains", || guest.tx.outstanding() == 0);
    bench.lan.expect(number - 1);
    assert_eq!(bench.lan.take_seen(), expected, "each frame once, in order");
    bench.exchange(&mut guest);
}

#[test]
fn a_guest_that_vanishes_under_traffic_costs_nothing() {
    let mut bench = Bench::new();
    for n in 0..20 {
        let mut guest = TestGuest::new();
        guest.offer_buffers();
        let connection = Connection::start(bench.rig.socket(), &guest);
        for n in 0..100 {
            guest.send(&frame(bench.lan.mac, GUEST_MAC, n));
            bench.lan.send(n);
        }
        std::thread::sleep(Duration::from_micros(100 * n));
        drop(connection);
    }
    bench.assert_serves();
}

#[test]
fn failovers_go_on_while_front_ends_come_and_go() {
    let mut bench = Bench::new();
    for site in Site::ALL {
        let failed = bench.rig.active();
        let life = bench.rig.system.failover().life(failed).unwrap();
        fault::corrupt_code(bench.rig.slot(failed), life.image(), site).unwrap();
        let mut guest = TestGuest::new();
        let connection = Connection::start(bench.rig.socket(), &guest);
        // Traffic makes the driver run into its fault; the test must not wait for frames that are
        // lost there.
        for n in 0..50 {
            guest.offer_buffers();
            guest.send(&frame(bench.lan.mac, GUEST_MAC, n));
            bench.lan.send(n);
        }
        drop(connection);
        RawFrontend::connect(bench.rig.socket()).send_bytes(b"no message at all");
        let report = bench.rig.wait_failover();
        assert_eq!(report.record.from, failed);
        bench.rig.wait_whole();
        bench.assert_serves();
    }
}

#[test]
fn a_killed_application_guest_is_followed_by_another() {
    let _turn = turn();
    let mut rig = Rig::start();
    for _ in 0..3 {
        rig.restart_app();
        rig.wait_echo();
    }
    rig.assert_service_whole();
}

#[test]
fn a_system_stops_at_once_whatever_its_front_end_does() {
    let bench = Bench::new();
    let guest = TestGuest::new();
    let raw = RawFrontend::start(bench.rig.socket(), &guest);
    raw.send_bytes(&[1, 0, 0]);
    std::thread::sleep(Duration::from_millis(20));
    let socket = bench.rig.socket().to_owned();
    let start = Instant::now();
    drop(bench);
    assert!(start.elapsed() < Duration::from_secs(3), "took {:?}", start.elapsed());
    raw.expect_end();
    assert!(!socket.exists());
}

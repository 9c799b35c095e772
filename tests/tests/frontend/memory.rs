//! Guest memory that does not match the front-end's description.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::time::Duration;

use warmspare_tests::frontend::{
    GUEST_BASE, GUEST_MAC, RawFrontend, Request, TestGuest, USER_BASE, body, frame, open_fds,
};

use crate::Bench;

#[test]
fn memory_that_is_not_there_is_refused() {
    let mut bench = Bench::new();
    let guest = TestGuest::new();
    let fd = guest.ram.file().as_raw_fd();
    let bytes = guest.ram.bytes();
    let raw = RawFrontend::negotiate(bench.rig.socket());
    let regions = [
        ("larger than its file", body::region(GUEST_BASE, bytes + 1, USER_BASE, 0)),
        ("beyond its file", body::region(GUEST_BASE, 4096, USER_BASE, bytes)),
        (
            "offset at the end of numbers",
            body::region(GUEST_BASE, 4096, USER_BASE, u64::MAX - 4095),
        ),
        ("empty", body::region(GUEST_BASE, 0, USER_BASE, 0)),
        ("wraps around", body::region(u64::MAX - 4095, 8192, USER_BASE, 0)),
        ("huge", body::region(0, u64::MAX, USER_BASE, 0)),
    ];
    for (what, region) in &regions {
        let table = body::table(std::slice::from_ref(region));
        assert_ne!(raw.ask(Request::SET_MEM_TABLE, &table, &[fd]), 0, "{what}");
        assert_ne!(raw.ask(Request::ADD_MEM_REG, &body::single(region), &[fd]), 0, "{what}");
    }
    let overlap = body::table(&[
        body::region(GUEST_BASE, 8192, USER_BASE, 0),
        body::region(GUEST_BASE + 4096, 8192, USER_BASE + 0x10_0000, 8192),
    ]);
    assert_ne!(raw.ask(Request::SET_MEM_TABLE, &overlap, &[fd, fd]), 0);
    assert!(raw.is_alive());
    drop(raw);
    bench.assert_serves();
}

#[test]
fn only_memory_is_taken_for_memory() {
    let mut bench = Bench::new();
    let raw = RawFrontend::negotiate(bench.rig.socket());
    let table = body::table(&[body::region(GUEST_BASE, 4096, USER_BASE, 0)]);
    for path in ["/dev/zero", "/dev/null", "/proc/self/exe", "/proc/self/mem", "/tmp"] {
        let file = File::open(path).unwrap();
        assert_ne!(raw.ask(Request::SET_MEM_TABLE, &table, &[file.as_raw_fd()]), 0, "{path}");
    }
    drop(raw);
    bench.assert_serves();
}

#[test]
fn memory_that_is_truncated_under_traffic_costs_that_connection_only() {
    let mut bench = Bench::new();
    bench.assert_serves();
    let before = open_fds();
    for pages in [0, 1, 3, 8, 256, 300, 520] {
        let mut guest = TestGuest::new();
        let raw = RawFrontend::start(bench.rig.socket(), &guest);
        bench.exchange(&mut guest);
        guest.offer_buffers();
        for n in 0..64 {
            guest.queue(&frame(bench.lan.mac, GUEST_MAC, n));
        }
        guest.ram.file().set_len(pages * 4096).unwrap();
        // From here on, the test must not touch the memory either.
        guest.tx.kick();
        for n in 0..200 {
            bench.lan.send(n);
        }
        raw.expect_end();
    }
    assert_eq!(open_fds(), before);
    bench.lan.take_seen();
    bench.assert_serves();
}

#[test]
fn memory_truncated_before_its_rings_start_is_noticed() {
    let mut bench = Bench::new();
    let guest = TestGuest::new();
    let raw = RawFrontend::negotiate(bench.rig.socket());
    raw.share(&guest);
    raw.describe_ring(&guest.tx);
    guest.ram.file().set_len(0).unwrap();
    let kick = guest.tx.kick_event().as_raw_fd();
    assert_ne!(raw.kick(1, Some(kick)), 0);
    drop(raw);
    bench.assert_serves();
}

#[test]
fn a_region_may_go_and_come_back_under_a_running_ring() {
    let mut bench = Bench::new();
    let mut guest = TestGuest::new();
    let raw = RawFrontend::start(bench.rig.socket(), &guest);
    bench.exchange(&mut guest);
    let region = body::single(&body::whole(&guest));
    let fd = guest.ram.file().as_raw_fd();
    for round in 0..5 {
        assert_eq!(raw.ask(Request::REM_MEM_REG, &region, &[]), 0);
        bench.lan.take_seen();
        guest.send(&frame(bench.lan.mac, GUEST_MAC, round));
        bench.lan.expect_silence(Duration::from_millis(10));
        assert_eq!(raw.ask(Request::ADD_MEM_REG, &region, &[fd]), 0);
        bench.lan.expect(round);
        bench.exchange(&mut guest);
    }
    // The guest gets another memory table while it runs, with the same memory in two halves.
    let half = guest.ram.bytes() / 2;
    let halves = body::table(&[
        body::region(GUEST_BASE, half, USER_BASE, 0),
        body::region(GUEST_BASE + half, half, USER_BASE + half, half),
    ]);
    assert_eq!(raw.ask(Request::SET_MEM_TABLE, &halves, &[fd, fd]), 0);
    bench.exchange(&mut guest);
}

#[test]
fn regions_without_number_are_refused_in_the_end() {
    let mut bench = Bench::new();
    let guest = TestGuest::new();
    let raw = RawFrontend::negotiate(bench.rig.socket());
    let fd = guest.ram.file().as_raw_fd();
    let slots = raw.get(Request::GET_MAX_MEM_SLOTS, &[]).number();
    for n in 0..slots + 3 {
        let start = n * 0x10_0000;
        let region = body::single(&body::region(start, 4096, USER_BASE + start, 0));
        let refused = raw.ask(Request::ADD_MEM_REG, &region, &[fd]) != 0;
        assert_eq!(refused, n >= slots, "region {n} of {slots}");
    }
    drop(raw);
    bench.assert_serves();
}

//! Descriptors on a file system that does not answer: they hold up no request, no other guest and no
//! shutdown.

use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use warmspare_tests::frontend::{
    GUEST_BASE, HangingFile, NEED_REPLY, RawFrontend, Request, TestGuest, USER_BASE, body,
};

use crate::Bench;

/// When the daemon ends, should anybody wait for it.
const PATIENCE: Duration = Duration::from_secs(20);
/// All of a test is over long before.
const SOON: Duration = Duration::from_secs(10);

/// Passes the file in each place where a descriptor can be.
fn pass_everywhere(raw: &RawFrontend, guest: &TestGuest, fd: i32) {
    let behind = GUEST_BASE + guest.ram.bytes();
    let region = body::region(behind, 4096, USER_BASE + guest.ram.bytes(), 0);
    assert_eq!(raw.ask(Request::ADD_MEM_REG, &body::single(&region), &[fd]), 0, "left out");
    for request in [Request::SET_VRING_CALL, Request::SET_VRING_ERR, Request::SET_VRING_KICK] {
        for ring in [0, 1] {
            assert_eq!(raw.ask(request, &body::number(ring), &[fd]), 0, "{request:?}");
        }
    }
    let log: Vec<u8> = [4096u64, 0].iter().flat_map(|word| word.to_ne_bytes()).collect();
    raw.send_raw(Request::SET_LOG_BASE as u32, 1 | NEED_REPLY, &log, &[fd]);
    assert_eq!(raw.reply().expect("an answer").number(), 1, "no memory");
}

#[test]
fn descriptors_of_a_hanging_file_system_hold_nobody_up() {
    let hanging = HangingFile::new("hanging", PATIENCE);
    let start = Instant::now();
    let mut bench = Bench::new();
    let mut guest = TestGuest::new();
    let raw = RawFrontend::start(bench.rig.socket(), &guest);
    pass_everywhere(&raw, &guest, hanging.file().as_raw_fd());
    // A ring with such a kick is polled.
    bench.exchange(&mut guest);
    drop(raw);
    bench.assert_serves();
    drop(bench);
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}

#[test]
fn a_front_end_that_passes_them_without_end_is_served_again_when_they_are_closed() {
    let hanging = HangingFile::new("hanging-all", PATIENCE);
    let mut bench = Bench::new();
    let fd = hanging.file().as_raw_fd();
    let start = Instant::now();
    let raw = RawFrontend::negotiate(bench.rig.socket());
    for _ in 0..100 {
        raw.send_raw(Request::SET_VRING_CALL as u32, 1, &body::number(0), &[fd]);
    }
    raw.expect_end();
    drop(raw);
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    hanging.end();
    bench.assert_serves();
}

//! Invalid messages. Each ends its own connection, or is refused where the front-end asked for a
//! reply; the next front-end is served.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use warmspare_tests::frontend::{NEED_REPLY, RawFrontend, Request, TestGuest, body, open_fds};
use warmspare_tests::rig::StopAtEnd;

use crate::Bench;

const VERSION: u32 = 1;
/// Three times as long as a front-end may take for the rest of a message, or for a reply.
const SOON: Duration = Duration::from_secs(3);

#[test]
fn bytes_without_shape_end_their_connection() {
    let mut bench = Bench::new();
    let before = open_fds();
    let socket = bench.rig.socket().to_owned();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 100,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let bytes = prop::collection::vec(any::<u8>(), 1..300);
    let ended = runner.run(&bytes, |bytes| {
        let raw = RawFrontend::connect(&socket);
        raw.send_bytes(&bytes);
        raw.stream().shutdown(std::net::Shutdown::Write).unwrap();
        raw.expect_end();
        Ok(())
    });
    ended.unwrap();
    assert_eq!(open_fds(), before);
    bench.assert_serves();
}

#[test]
fn malformed_headers_and_bodies_end_their_connection() {
    let mut bench = Bench::new();
    let header = |request: u32, flags: u32, size: u32| -> Vec<u8> {
        [request, flags, size].iter().flat_map(|word| word.to_ne_bytes()).collect()
    };
    let features = Request::GET_FEATURES as u32;
    let cases: [(&str, Vec<u8>); 9] = [
        ("no version", header(features, 0, 0)),
        ("another version", header(features, 2, 0)),
        ("a reply", header(features, VERSION | 4, 0)),
        ("body of 4 GiB", header(features, VERSION, u32::MAX)),
        ("body of 5000", [header(features, VERSION, 5000), vec![0; 5000]].concat()),
        ("body too short", {
            [header(Request::SET_FEATURES as u32, VERSION, 4), vec![0; 4]].concat()
        }),
        ("body too long", {
            [header(Request::SET_VRING_NUM as u32, VERSION, 64), vec![0; 64]].concat()
        }),
        ("a table of 2^32 - 1 regions", {
            let body = [u32::MAX, 0].iter().flat_map(|word| word.to_ne_bytes()).collect();
            [header(Request::SET_MEM_TABLE as u32, VERSION, 8), body].concat()
        }),
        ("a configuration of 4 GiB", {
            let words = [0, u32::MAX, 0].iter().flat_map(|word| word.to_ne_bytes()).collect();
            [header(Request::GET_CONFIG as u32, VERSION, 12), words].concat()
        }),
    ];
    for (what, bytes) in cases {
        let raw = RawFrontend::connect(bench.rig.socket());
        raw.send_bytes(&bytes);
        raw.expect_end();
        println!("{what}: ended");
    }
    bench.assert_serves();
}

#[test]
fn requests_that_are_unknown_or_not_offered_are_refused() {
    let mut bench = Bench::new();
    for request in [0, 45, 1000, u32::MAX, Request::IOTLB_MSG as u32] {
        // With an acknowledgement requested, the message is refused and the connection stays open.
        let raw = RawFrontend::negotiate(bench.rig.socket());
        raw.send_raw(request, VERSION | NEED_REPLY, &[0; 16], &[]);
        assert_ne!(raw.reply().expect("a refusal").number(), 0, "request {request}");
        assert!(raw.is_alive(), "request {request}");
        // Without one, the back-end can signal the error only by closing the connection.
        raw.send_raw(request, VERSION, &[0; 16], &[]);
        raw.expect_end();
    }
    bench.assert_serves();
}

#[test]
fn a_request_with_a_reply_of_its_own_is_not_refused_by_an_acknowledgement() {
    let mut bench = Bench::new();
    let raw = RawFrontend::negotiate(bench.rig.socket());
    let request = Request::GET_VRING_BASE as u32;
    raw.send_raw(request, VERSION | NEED_REPLY, &body::state(9, 0), &[]);
    raw.expect_end();
    bench.assert_serves();
}

#[test]
fn impossible_values_are_refused() {
    let mut bench = Bench::new();
    let raw = RawFrontend::negotiate(bench.rig.socket());
    let refused = [
        (Request::SET_FEATURES, body::number(u64::MAX)),
        (Request::SET_PROTOCOL_FEATURES, body::number(u64::MAX)),
        (Request::SET_VRING_NUM, body::state(2, 256)),
        (Request::SET_VRING_NUM, body::state(u32::MAX, 256)),
        (Request::SET_VRING_BASE, body::state(0, 65_536)),
        (Request::SET_VRING_ENABLE, body::state(7, 1)),
        (Request::REM_MEM_REG, body::single(&body::region(0, 4096, 0, 0))),
    ];
    for (request, body) in refused {
        assert_ne!(raw.ask(request, &body, &[]), 0, "{request:?}");
    }
    assert!(raw.is_alive());
    drop(raw);
    bench.assert_serves();
}

#[test]
fn impossible_rings_are_refused_when_they_start() {
    let mut bench = Bench::new();
    let guest = TestGuest::new();
    let raw = RawFrontend::negotiate(bench.rig.socket());
    raw.share(&guest);
    let kick = guest.tx.kick_event().as_raw_fd();
    for size in [0, 3, 65_536, u32::MAX] {
        raw.describe_ring(&guest.tx);
        raw.ask(Request::SET_VRING_NUM, &body::state(1, size), &[]);
        assert_ne!(raw.kick(1, Some(kick)), 0, "{size} descriptors");
        raw.get(Request::GET_VRING_BASE, &body::state(1, 0));
    }
    for (at, wrong) in [(8, 1u64), (16, u64::MAX), (24, 0x7000)] {
        let mut addresses = body::addresses(&guest.tx);
        addresses[at..at + 8].copy_from_slice(&wrong.to_ne_bytes());
        raw.describe_ring(&guest.tx);
        raw.ask(Request::SET_VRING_ADDR, &addresses, &[]);
        assert_ne!(raw.kick(1, Some(kick)), 0, "address {wrong:#x} at {at}");
        raw.get(Request::GET_VRING_BASE, &body::state(1, 0));
    }
    drop(raw);
    bench.assert_serves();
}

#[test]
fn wrong_numbers_of_descriptors_end_their_connection_and_none_stay_open() {
    let mut bench = Bench::new();
    bench.assert_serves();
    let before = open_fds();
    let guest = TestGuest::new();
    let null = File::open("/dev/null").unwrap();
    let fds = |count| vec![null.as_raw_fd(); count];
    let table = body::table(&[body::whole(&guest)]);
    let region = body::single(&body::whole(&guest));
    let cases = [
        (Request::GET_FEATURES, vec![], 1),
        (Request::SET_OWNER, vec![], 3),
        (Request::SET_MEM_TABLE, table.clone(), 0),
        (Request::SET_MEM_TABLE, table.clone(), 2),
        (Request::SET_MEM_TABLE, table, 33),
        (Request::ADD_MEM_REG, region.clone(), 0),
        (Request::ADD_MEM_REG, region, 2),
        (Request::SET_LOG_BASE, vec![0; 16], 0),
        (Request::SET_LOG_BASE, vec![0; 16], 2),
        (Request::SET_LOG_FD, vec![], 0),
        (Request::SET_VRING_KICK, body::number(0), 0),
        (Request::SET_VRING_KICK, body::number(0), 2),
        (Request::SET_VRING_CALL, body::number(0x100), 1),
        (Request::SET_VRING_ENABLE, body::state(0, 1), 200),
    ];
    for (request, body, count) in cases {
        let raw = RawFrontend::negotiate(bench.rig.socket());
        raw.send(request, &body, &fds(count));
        raw.expect_end();
    }
    drop((guest, null));
    assert!(open_fds() <= before, "{before} descriptors became {}", open_fds());
    bench.assert_serves();
}

/// Checks that the next front-end is served though the one before it has not gone.
fn assert_serves_soon(bench: &mut Bench) {
    let start = Instant::now();
    bench.assert_serves();
    assert!(start.elapsed() < SOON, "served after {:?}", start.elapsed());
}

#[test]
fn half_a_message_holds_the_place_for_a_second_at_most() {
    let mut bench = Bench::new();
    let slow = RawFrontend::connect(bench.rig.socket());
    slow.send_bytes(&[1, 0, 0, 0, 1, 0]);
    assert_serves_soon(&mut bench);
    slow.expect_end();
    // Sending a byte now and then does not prolong the time either.
    let dripping = RawFrontend::connect(bench.rig.socket());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _end = StopAtEnd(&stop);
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                dripping.send_bytes(&[1]);
                std::thread::sleep(Duration::from_millis(300));
            }
        });
        std::thread::sleep(Duration::from_millis(100));
        assert_serves_soon(&mut bench);
    });
}

#[test]
fn half_a_message_holds_up_no_frame() {
    let mut bench = Bench::new();
    let mut guest = TestGuest::new();
    let raw = RawFrontend::start(bench.rig.socket(), &guest);
    raw.send_bytes(&[1, 0, 0, 0, 1, 0]);
    bench.exchange(&mut guest);
}

#[test]
fn a_front_end_that_never_reads_its_replies_loses_its_place() {
    let mut bench = Bench::new();
    let raw = RawFrontend::connect(bench.rig.socket());
    raw.stream().set_nonblocking(true).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _end = StopAtEnd(&stop);
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                raw.send(Request::GET_FEATURES, &[], &[]);
            }
        });
        std::thread::sleep(Duration::from_millis(50));
        assert_serves_soon(&mut bench);
    });
}

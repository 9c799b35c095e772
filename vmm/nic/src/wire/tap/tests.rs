//! A real TAP in a network namespace of the test's own thread.

use std::io;
use std::process::Command;
use std::time::{Duration, Instant};

use super::*;

/// Moves this thread into a fresh network namespace, which goes with it.
fn enter_namespace() {
    // SAFETY: plain integers; only this thread is concerned.
    let done = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    assert_eq!(
        done,
        0,
        "no network namespace ({}): this test needs root or CAP_SYS_ADMIN",
        io::Error::last_os_error()
    );
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status();
    assert!(status.expect("iproute2 is installed").success(), "ip {arguments}");
}

/// Waits until the link is as said, by the events alone.
fn wait_link(tap: &Tap, up: bool) {
    let end = Instant::now() + Duration::from_secs(5);
    while tap.link_up() != up {
        assert!(Instant::now() < end, "the link does not become {up}");
        if let Some(fd) = tap.link_changed() {
            use std::os::fd::AsRawFd;
            let mut polled = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one entry, alive throughout.
            unsafe { libc::poll(&mut polled, 1, 100) };
        }
        tap.follow_link();
    }
}

#[test]
fn a_tap_that_is_not_there_is_created_and_works_both_ways() {
    enter_namespace();
    let tap = Tap::open("t0").unwrap();
    ip("link add name br0 type bridge");
    ip("link set br0 up");
    ip("link set t0 master br0");
    ip("addr add 10.9.0.1/24 dev br0");
    wait_link(&tap, true);
    // Who has 10.9.0.1? The kernel answers to whoever asks.
    let mut ask = vec![0xff_u8; 6];
    ask.extend([0x52, 0x54, 0, 1, 2, 3, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    ask.extend([0x52, 0x54, 0, 1, 2, 3, 10, 9, 0, 2, 0, 0, 0, 0, 0, 0, 10, 9, 0, 1]);
    let mut frame = vec![0; MAX_FRAME_BYTES];
    let end = Instant::now() + Duration::from_secs(5);
    loop {
        assert!(Instant::now() < end, "no answer");
        tap.send(&ask);
        std::thread::sleep(Duration::from_millis(5));
        tap.begin_receive();
        let mut received = std::iter::from_fn(|| {
            let len = tap.receive(&mut frame)?;
            Some(frame[..len].to_vec())
        });
        if received.any(|frame| frame[12..14] == [8, 6] && frame[20..22] == [0, 2]) {
            break;
        }
    }
    let counters = tap.counters();
    assert!(counters.sent > 0 && counters.received > 0, "{counters:?}");
}

#[test]
fn the_link_follows_the_interface() {
    enter_namespace();
    ip("tuntap add t1 mode tap");
    let tap = Tap::open("t1").unwrap();
    assert!(!tap.link_up(), "an interface that is there is not switched on by us");
    ip("link set t1 up");
    wait_link(&tap, true);
    ip("link set t1 down");
    wait_link(&tap, false);
    tap.send(&[0; 60]);
    assert_eq!(tap.counters().refused, 1);
    ip("link set t1 up");
    wait_link(&tap, true);
}

#[test]
fn a_tap_that_is_deleted_is_a_dead_cable_and_never_ready() {
    enter_namespace();
    ip("tuntap add t2 mode tap");
    let tap = Tap::open("t2").unwrap();
    ip("link set t2 up");
    wait_link(&tap, true);
    ip("link del t2");
    wait_link(&tap, false);
    assert!(tap.readable().is_none() && tap.link_changed().is_none());
    assert_eq!(tap.receive(&mut [0; 64]), None);
}

#[test]
fn mistakes_are_told_apart() {
    enter_namespace();
    ip("link add name br0 type bridge");
    assert!(matches!(Tap::open("br0"), Err(TapError::NoTap { .. })));
    assert!(matches!(Tap::open("no/name with spaces"), Err(TapError::Name(_))));
    let _first = Tap::open("t3").unwrap();
    assert!(matches!(Tap::open("t3"), Err(TapError::Busy { .. })));
    ip("tuntap add t4 mode tap multi_queue");
    assert!(matches!(Tap::open("t4"), Err(TapError::NoTap { .. })));
}

#[test]
fn a_persistent_tap_can_be_taken_again() {
    enter_namespace();
    ip("tuntap add t5 mode tap vnet_hdr");
    ip("link set t5 up");
    for _ in 0..3 {
        let tap = Tap::open("t5").unwrap();
        wait_link(&tap, true);
    }
    // The kernel takes its time with a lost carrier.
    let end = Instant::now() + Duration::from_secs(5);
    while is_running("t5").unwrap() {
        assert!(Instant::now() < end, "without us it has a carrier");
        std::thread::sleep(Duration::from_millis(20));
    }
}

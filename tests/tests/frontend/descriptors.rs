//! Kick and call descriptors that are not what they should be.

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use warmspare_tests::frontend::{
    GUEST_MAC, NEED_REPLY, RawFrontend, Request, TestGuest, body, frame, wait,
};

use crate::Bench;

fn pipe() -> (OwnedFd, OwnedFd) {
    let mut ends = [0; 2];
    // SAFETY: the call writes two descriptors, which nothing else owns.
    unsafe {
        assert_eq!(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC), 0);
        (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1]))
    }
}

/// Starts both rings with a kick descriptor of some kind.
fn start_with(bench: &Bench, guest: &TestGuest, kick: Option<i32>) -> RawFrontend {
    let raw = RawFrontend::negotiate(bench.rig.socket());
    raw.share(guest);
    for ring in guest.rings() {
        raw.start_ring(ring, kick);
    }
    raw
}

#[test]
fn a_ring_without_a_kick_descriptor_is_polled() {
    let mut bench = Bench::new();
    let mut guest = TestGuest::new();
    let _raw = start_with(&bench, &guest, None);
    bench.exchange(&mut guest);
}

#[test]
fn files_and_devices_for_a_kick_descriptor_are_never_touched() {
    let mut bench = Bench::new();
    for path in ["/proc/self/exe", "/dev/zero", "/dev/null", "/proc/self/mem"] {
        let file = File::open(path).unwrap();
        let mut guest = TestGuest::new();
        let _raw = start_with(&bench, &guest, Some(file.as_raw_fd()));
        bench.exchange(&mut guest);
    }
    bench.assert_serves();
}

#[test]
fn a_pipe_kicks_and_a_closed_one_does_not_spin() {
    let mut bench = Bench::new();
    let (read, write) = pipe();
    let mut guest = TestGuest::new();
    let _raw = start_with(&bench, &guest, Some(read.as_raw_fd()));
    for n in 0..10 {
        guest.queue(&frame(bench.lan.mac, GUEST_MAC, n));
        // SAFETY: the buffer is one byte that outlives the call.
        unsafe { libc::write(write.as_raw_fd(), (&raw const n).cast(), 1) };
        bench.lan.expect(n);
    }
    drop(write);
    std::thread::sleep(Duration::from_millis(20));
    let turns = |bench: &Bench| bench.rig.system.switchboard().counters().turns.get();
    let before = turns(&bench);
    std::thread::sleep(Duration::from_millis(200));
    let spent = turns(&bench) - before;
    assert!(spent < 400, "{spent} turns of the switchboard in 200 ms with nothing to do");
    bench.rig.run_for(Duration::from_millis(1));
    drop(_raw);
    bench.assert_serves();
}

#[test]
fn a_call_that_nobody_reads_never_blocks() {
    let mut bench = Bench::new();
    let mut guest = TestGuest::new();
    let _raw = RawFrontend::start(bench.rig.socket(), &guest);
    for ring in guest.rings() {
        let call = ring.call_event();
        // The event counter is as full as it gets, and the descriptor is set to blocking, because
        // both sides share the file status flags.
        call.read().ok();
        call.write(u64::MAX - 1).unwrap();
        // SAFETY: the arguments are plain integers and an open descriptor.
        unsafe { libc::fcntl(call.as_raw_fd(), libc::F_SETFL, 0) };
    }
    for n in 0..100 {
        guest.send(&frame(bench.lan.mac, GUEST_MAC, n));
        bench.lan.expect(n);
    }
    bench.exchange(&mut guest);
    // Receiving a new call descriptor must not block the thread of the socket either.
    let call = guest.tx.call_event().as_raw_fd();
    assert_eq!(_raw.ask(Request::SET_VRING_CALL, &body::number(1), &[call]), 0);
    assert_eq!(_raw.ask(Request::SET_VRING_CALL, &body::number(0x101), &[]), 0);
}

#[test]
fn a_missing_or_strange_call_descriptor_is_no_harm() {
    let mut bench = Bench::new();
    let mut guest = TestGuest::new();
    let raw = RawFrontend::start(bench.rig.socket(), &guest);
    assert_eq!(raw.ask(Request::SET_VRING_CALL, &body::number(1 | 0x100), &[]), 0);
    bench.exchange(&mut guest);
    let (_read, write) = pipe();
    raw.send_raw(
        Request::SET_VRING_CALL as u32,
        1 | NEED_REPLY,
        &body::number(0),
        &[write.as_raw_fd()],
    );
    raw.reply().expect("an answer");
    bench.exchange(&mut guest);
}

#[test]
fn call_descriptors_are_signalled_when_they_are_set() {
    let bench = Bench::new();
    let guest = TestGuest::new();
    let raw = RawFrontend::negotiate(bench.rig.socket());
    for ring in guest.rings() {
        for _ in 0..3 {
            let call = ring.call_event().as_raw_fd();
            let number = body::number(u64::from(ring.index));
            assert_eq!(raw.ask(Request::SET_VRING_CALL, &number, &[call]), 0);
            wait("a call", || ring.calls() > 0);
        }
    }
}

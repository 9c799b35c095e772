//! A real TAP in a network namespace of the test's own thread.

use std::io;
use std::process::Command;
use std::time::{Duration, Instant};

use super::*;
use platform::budget::TAP_RETRY;

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

/// Number of an interface.
fn index_of(name: &str) -> u32 {
    let name = std::ffi::CString::new(name).unwrap();
    // SAFETY: a string with its final zero, alive throughout.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    assert_ne!(index, 0, "{}", io::Error::last_os_error());
    index
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
fn a_tap_that_is_deleted_has_no_link_until_it_is_made_again() {
    enter_namespace();
    ip("tuntap add t2 mode tap");
    let tap = Tap::open("t2").unwrap();
    ip("link set t2 up");
    wait_link(&tap, true);
    for _ in 0..3 {
        ip("link del t2");
        wait_link(&tap, false);
        assert!(tap.readable().is_none() && !tap.is_present());
        assert_eq!(tap.receive(&mut [0; 64]), None);
        assert!(tap.trouble().unwrap().contains("t2"));
        std::thread::sleep(TAP_RETRY + Duration::from_millis(100));
        tap.follow_link();
        assert!(!tap.is_present(), "whoever deleted it makes it again");

        ip("tuntap add t2 mode tap");
        ip("link set t2 up");
        wait_link(&tap, true);
        assert!(tap.is_present() && tap.readable().is_some() && tap.trouble().is_none());
        let sent = tap.counters().sent;
        tap.send(&[0; 60]);
        assert_eq!(tap.counters().sent, sent + 1);
    }
}

#[test]
fn a_port_that_leaves_its_bridge_is_back_when_it_is_a_port_again() {
    enter_namespace();
    ip("tuntap add t6 mode tap");
    ip("link add name br0 type bridge");
    ip("link set br0 up");
    ip("link set t6 master br0 up");
    let tap = Tap::open("t6").unwrap();
    wait_link(&tap, true);
    for _ in 0..20 {
        ip("link set t6 nomaster");
        wait_link(&tap, false);
        assert!(tap.is_present() && tap.trouble().is_some());
        ip("link set t6 master br0");
        wait_link(&tap, true);
    }
    ip("link del br0");
    wait_link(&tap, false);
    ip("link add name br1 type bridge");
    ip("link set br1 up");
    ip("link set t6 master br1");
    wait_link(&tap, true);
    assert!(tap.trouble().is_none());
}

#[test]
fn a_port_that_its_bridge_blocks_has_no_link() {
    enter_namespace();
    ip("tuntap add t7 mode tap");
    ip("link add name br0 type bridge stp_state 1 forward_delay 200 hello_time 100");
    ip("link set br0 up");
    ip("link set t7 master br0 up");
    let tap = Tap::open("t7").unwrap();
    // Carrier, listening, learning, forwarding: 2 s for each of the two in the middle.
    let mut told = Vec::new();
    let end = Instant::now() + Duration::from_secs(15);
    while !tap.link_up() {
        assert!(Instant::now() < end, "never forwards: {told:?}");
        if let Some(trouble) = tap.trouble().filter(|trouble| told.last() != Some(trouble)) {
            told.push(trouble);
        }
        std::thread::sleep(Duration::from_millis(20));
        tap.follow_link();
    }
    for state in ["listening", "learning"] {
        assert!(told.contains(&format!("port blocked by the bridge ({state})")), "{told:?}");
    }
    assert!(tap.trouble().is_none());
}

#[test]
fn a_tap_is_followed_by_its_name() {
    enter_namespace();
    ip("tuntap add t8 mode tap");
    let tap = Tap::open("t8").unwrap();
    ip("link set t8 up");
    wait_link(&tap, true);
    // Kept while no other has its name.
    ip("link set t8 down");
    ip("link set t8 name t8-old");
    ip("link set t8-old up");
    wait_link(&tap, true);
    ip("tuntap add t8 mode tap");
    let end = Instant::now() + Duration::from_secs(5);
    while tap.link_up() || !tap.is_present() {
        assert!(Instant::now() < end, "the new one is not attached to");
        tap.follow_link();
    }
    ip("link set t8 up");
    wait_link(&tap, true);
    let _other = Tap::open("t8-old").expect("the old one is let go of");
}

#[test]
fn a_tap_that_cannot_be_had_yet_is_waited_for_and_a_mistake_is_not() {
    enter_namespace();
    let first = Tap::open("t9").unwrap();
    let waiting = Tap::open_or_await("t9", DEFAULT_MTU).unwrap();
    assert!(!waiting.is_present() && waiting.trouble().unwrap().contains("in use"));
    drop(first);
    ip("tuntap add t9 mode tap");
    ip("link set t9 up");
    wait_link(&waiting, true);

    ip("link add name br0 type bridge");
    assert!(matches!(Tap::open_or_await("br0", DEFAULT_MTU), Err(TapError::NoTap { .. })));
    assert!(matches!(Tap::open_or_await("with space", DEFAULT_MTU), Err(TapError::Name(_))));
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

/// Attaches to a TAP that was just let go of. A program that another test starts holds copies of all
/// descriptors for a moment, until it is executed.
fn open_soon(name: &str) -> Arc<Tap> {
    let end = Instant::now() + Duration::from_secs(1);
    loop {
        match Tap::open(name) {
            Err(TapError::Busy { .. }) if Instant::now() < end => {}
            opened => return opened.unwrap(),
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_persistent_tap_can_be_taken_again() {
    enter_namespace();
    ip("tuntap add t5 mode tap vnet_hdr");
    ip("link set t5 up");
    for _ in 0..3 {
        let tap = open_soon("t5");
        wait_link(&tap, true);
    }
    // The kernel takes its time with a lost carrier.
    let end = Instant::now() + Duration::from_secs(5);
    let index = index_of("t5");
    while link::ask(index).unwrap().running {
        assert!(Instant::now() < end, "without us it has a carrier");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// MTU of an interface, as `ip` shows it: /sys is that of another network namespace.
fn mtu(name: &str) -> String {
    let shown = Command::new("ip").args(["-o", "link", "show", name]).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    shown.split_whitespace().skip_while(|word| *word != "mtu").skip(1).take(1).collect()
}

#[test]
fn a_tap_that_is_made_gets_the_mtu_and_one_that_is_there_keeps_its_own() {
    enter_namespace();
    let _made = Tap::open_or_await("t10", 9000).unwrap();
    ip("tuntap add t11 mode tap");
    let _found = Tap::open_or_await("t11", 9000).unwrap();
    assert_eq!((mtu("t10").as_str(), mtu("t11").as_str()), ("9000", "1500"));
}

//! The application guest on real KVM, against a back-end of another make.

mod backend;
mod peer;

use std::path::PathBuf;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use app_guest::layout;

use super::config::ECHO_PORT;
use super::error::ConnectionError;
use super::*;
use backend::{Backend, Offer, PATIENCE};

/// A fresh place for a socket.
struct Socket(PathBuf);

impl Socket {
    fn new(name: &str) -> Self {
        let file = format!("warmspare-app-{name}-{}.sock", std::process::id());
        Self(std::env::temp_dir().join(file))
    }

    fn config(&self) -> AppConfig {
        AppConfig {
            socket: self.0.clone(),
            mac: StationMac(peer::MAC),
            address: Ipv4Cidr { address: peer::IP.into(), prefix_len: 24 },
            udp_port: ECHO_PORT,
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A guest at a back-end that serves it, and what it sends.
struct Bench {
    socket: Socket,
    backend: Backend,
    sent: Receiver<Vec<u8>>,
    app: App,
}

impl Bench {
    fn new(name: &str, offer: Offer) -> Self {
        let socket = Socket::new(name);
        let (backend, sent) = Backend::listen(&socket.0, offer);
        let app = App::start(&socket.config()).expect("the guest starts");
        let mut bench = Self { socket, backend, sent, app };
        bench.greet();
        bench
    }

    /// ARP both ways, so that the guest knows where to answer.
    fn greet(&mut self) {
        self.backend.deliver(&[peer::arp_request()]);
        assert_eq!(self.wait_for(peer::arp_answer), peer::MAC);
    }

    /// The next frame of a kind.
    fn wait_for<T>(&self, take: impl Fn(&[u8]) -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let frame = self.sent.recv_timeout(left).expect("the guest answers");
            if let Some(found) = take(&frame) {
                return found;
            }
        }
    }

    fn echo(&self, payload: &[u8]) {
        self.backend.deliver(&[peer::datagram(payload)]);
        assert_eq!(self.wait_for(|frame| peer::echo(frame).map(<[u8]>::to_vec)), payload);
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + len) as u8).collect()
}

#[test]
fn arp_ping_and_datagrams_are_answered() {
    let bench = Bench::new("answers", Offer::full(peer::MAC));

    bench.backend.deliver(&[peer::ping(b"are you there?")]);
    let answer = bench.wait_for(|frame| peer::ping_answer(frame).map(<[u8]>::to_vec));
    assert_eq!(answer, b"are you there?");
    for len in [0, 1, 17, 18, 100, 1471, 1472] {
        bench.echo(&pattern(len));
    }

    let report = bench.app.stop().unwrap();
    assert!(report.ready);
    assert_eq!((report.datagrams_echoed, report.datagrams_dropped), (7, 0));
    assert_eq!((report.frames_in, report.frames_out), (9, 9));
}

#[test]
fn the_least_of_back_ends_is_enough() {
    let bench = Bench::new("least", Offer::least());
    for n in 0..100u8 {
        bench.echo(&[n; 64]);
    }
    assert_eq!(bench.backend.counters().features, Offer::least().features);
    bench.app.stop().unwrap();
}

#[test]
fn a_burst_of_a_whole_ring_comes_back_in_order() {
    let bench = Bench::new("burst", Offer::full(peer::MAC));
    for len in [16, 1472] {
        let payloads: Vec<Vec<u8>> =
            (0..256u16).map(|n| [&n.to_be_bytes()[..], &pattern(len - 2)].concat()).collect();
        let frames: Vec<Vec<u8>> = payloads.iter().map(|payload| peer::datagram(payload)).collect();

        bench.backend.deliver(&frames);

        for payload in &payloads {
            assert_eq!(&bench.wait_for(|frame| peer::echo(frame).map(<[u8]>::to_vec)), payload);
        }
    }
    assert_eq!(bench.app.stop().unwrap().datagrams_dropped, 0);
}

#[test]
fn a_guest_without_transmit_buffers_sleeps_and_loses_nothing() {
    const DATAGRAMS: u16 = 400;
    for (name, offer) in [("held", Offer::full(peer::MAC)), ("held-least", Offer::least())] {
        let bench = Bench::new(name, offer);
        bench.backend.hold(true);
        let frames: Vec<_> = (0..DATAGRAMS).map(|n| peer::datagram(&n.to_be_bytes())).collect();
        bench.backend.deliver(&frames);
        std::thread::sleep(Duration::from_millis(50));

        let before = bench.app.report();
        std::thread::sleep(Duration::from_millis(100));
        let after = bench.app.report();
        assert_eq!(before, after, "{name}: the guest sleeps");
        assert!(after.frames_out < u64::from(DATAGRAMS), "{name}: its ring is full");

        bench.backend.hold(false);
        for n in 0..DATAGRAMS {
            let echoed = bench.wait_for(|frame| peer::echo(frame).map(<[u8]>::to_vec));
            assert_eq!(echoed, n.to_be_bytes(), "{name}");
        }
        bench.app.stop().unwrap();
    }
}

#[test]
fn ring_indices_wrap_without_a_lost_wakeup() {
    const DATAGRAMS: u32 = 70_000;
    const AT_ONCE: u32 = 100;
    let bench = Bench::new("wrap", Offer::full(peer::MAC));
    for start in (0..DATAGRAMS).step_by(AT_ONCE as usize) {
        let numbers = start..start + AT_ONCE;
        let frames: Vec<_> = numbers.clone().map(|n| peer::datagram(&n.to_be_bytes())).collect();
        bench.backend.deliver(&frames);
        for n in numbers {
            let echoed = bench.wait_for(|frame| peer::echo(frame).map(<[u8]>::to_vec));
            assert_eq!(echoed, n.to_be_bytes());
        }
    }
    bench.app.stop().unwrap();
}

#[test]
fn a_datagram_costs_one_exit_to_user_space_and_one_notification() {
    const DATAGRAMS: u64 = 200;
    let bench = Bench::new("exits", Offer::full(peer::MAC));
    let before = bench.app.report();

    for n in 0..DATAGRAMS {
        bench.echo(&n.to_be_bytes());
        // Longer than the guest needs to park again, so that no two share a wake.
        std::thread::sleep(Duration::from_millis(1));
    }

    let after = bench.app.report();
    assert_eq!(after.register_accesses, before.register_accesses, "set-up only");
    let waits = after.waits - before.waits;
    let notifies = after.notifies - before.notifies;
    println!("{waits} waits, {notifies} notifications, {DATAGRAMS} datagrams");
    // A few more are allowed: the guest may park between a frame and its answer's completion.
    assert!(waits <= DATAGRAMS + DATAGRAMS / 10, "{waits} waits");
    assert!(notifies <= DATAGRAMS + DATAGRAMS / 10, "{notifies} notifications");
}

#[test]
fn the_guest_goes_on_when_the_back_end_comes_back() {
    let mut bench = Bench::new("reconnect", Offer::full(peer::MAC));
    for round in 0..5u8 {
        for n in 0..100 {
            bench.echo(&[round, n]);
        }
        let path = bench.socket.0.clone();
        drop(bench.backend);
        (bench.backend, bench.sent) = Backend::listen(&path, Offer::full(peer::MAC));
    }
    bench.echo(b"still here");
    let report = bench.app.stop().unwrap();
    assert_eq!(report.datagrams_echoed, 501);
}

#[test]
fn a_back_end_that_dies_with_a_burst_in_hand_leaves_the_rings_sound() {
    let mut bench = Bench::new("burst-death", Offer::full(peer::MAC));
    for round in 0..20u8 {
        let frames: Vec<_> = (0..200).map(|n| peer::datagram(&[n])).collect();
        bench.backend.deliver(&frames);
        let path = bench.socket.0.clone();
        drop(bench.backend);
        (bench.backend, bench.sent) = Backend::listen(&path, Offer::full(peer::MAC));
        bench.backend.deliver(&[peer::datagram(&[round, round])]);
        let is_ours = |frame: &[u8]| (peer::echo(frame)? == [round, round]).then_some(());
        bench.wait_for(is_ours);
    }
    bench.app.stop().unwrap();
}

#[test]
fn the_guest_stops_while_its_back_end_is_gone() {
    let bench = Bench::new("gone", Offer::full(peer::MAC));
    drop(bench.backend);
    std::thread::sleep(Duration::from_millis(20));
    let begin = Instant::now();
    bench.app.stop().unwrap();
    assert!(begin.elapsed() < platform::budget::BACKEND_DEADLINE);
}

#[test]
fn a_changed_canary_is_reported() {
    let bench = Bench::new("canary", Offer::full(peer::MAC));
    bench.app.ram().write(layout::CANARY_BASE + 40, &[1]).unwrap();
    let result = bench.app.stop();
    let found = match &result {
        Err(AppError::Canary { word: 5 }) => true,
        Err(AppError::GuestPanicked { text, .. }) => text.contains("canary word 5"),
        _ => false,
    };
    assert!(found, "{result:?}");
}

fn refused(socket: &Socket) -> ConnectionError {
    match App::start(&socket.config()) {
        Err(error @ AppError::Socket { .. }) => {
            assert!(error.is_usage());
            assert!(error.to_string().contains(socket.0.to_str().unwrap()));
            let AppError::Socket { source, .. } = error else { unreachable!() };
            source
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("started"),
    }
}

#[test]
fn unusable_sockets_are_named() {
    let socket = Socket::new("unusable");
    assert!(matches!(refused(&socket), ConnectionError::Connect(_)), "nothing there");

    std::fs::write(&socket.0, "not a socket").unwrap();
    assert!(matches!(refused(&socket), ConnectionError::Connect(_)), "a file");

    let long = Socket(std::env::temp_dir().join("x".repeat(200)));
    assert!(matches!(refused(&long), ConnectionError::PathTooLong));
}

#[test]
fn a_back_end_that_never_answers_is_given_up() {
    let socket = Socket::new("silent");
    let _listener = std::os::unix::net::UnixListener::bind(&socket.0).unwrap();
    assert!(matches!(refused(&socket), ConnectionError::NoAnswer));
}

#[test]
fn a_back_end_without_virtio_1_is_refused() {
    let socket = Socket::new("legacy");
    let (_backend, _sent) = Backend::listen(&socket.0, Offer { features: 0, mac: None });
    assert!(matches!(refused(&socket), ConnectionError::Features { .. }));
}

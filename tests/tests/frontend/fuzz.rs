//! Random front-ends for a bounded time. For a longer run:
//! `WARMSPARE_FUZZ_SECONDS=600 cargo test -p warmspare-tests --test frontend fuzz -- --nocapture`.
//! `WARMSPARE_FUZZ_SEED`, printed at the start, repeats a run as far as thread scheduling allows.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
use warmspare_tests::frontend::{
    Connection, FEATURES, GUEST_BASE, NEED_REPLY, RawFrontend, Request, TestGuest, USER_BASE, body,
    open_fds,
};

use crate::Bench;

fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// Returns a test runner with a known seed, and the time at which to stop.
fn start() -> (TestRunner, Instant) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed = number_from("WARMSPARE_FUZZ_SEED").unwrap_or(now.as_nanos() as u64);
    println!("WARMSPARE_FUZZ_SEED={seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let seconds = number_from("WARMSPARE_FUZZ_SECONDS").unwrap_or(5);
    let config = Config { failure_persistence: None, ..Config::default() };
    (TestRunner::new_with_rng(config, rng), Instant::now() + Duration::from_secs(seconds))
}

fn draw<T>(runner: &mut TestRunner, strategy: &impl Strategy<Value = T>) -> T {
    strategy.new_tree(runner).expect("a value").current()
}

/// Checks that the next front-end is served, whatever the previous ones did.
fn settle(bench: &mut Bench) {
    // This connection is answered only after the previous ones have ended.
    drop(Connection::negotiate(bench.rig.socket()));
    bench.settle();
    bench.lan.take_seen();
    bench.assert_serves();
}

/// `VHOST_F_LOG_ALL`.
const LOG_ALL: u64 = 1 << 26;

/// Boundary values that are likely to provoke errors.
fn edgy() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0..4u64,
        2 => prop::sample::select(vec![255, 256, 257, 4096, 32_768, 65_535, 65_536, 1 << 32]),
        2 => prop::sample::select(vec![u64::MAX, u64::MAX - 4095, 1 << 63, u64::from(u32::MAX)]),
        2 => (0..0x40_0000u64).prop_map(|offset| GUEST_BASE + offset),
        2 => (0..0x8000u64).prop_map(|offset| USER_BASE + (offset & !15)),
        1 => prop::sample::select(vec![FEATURES, FEATURES | LOG_ALL]),
        1 => any::<u64>(),
    ]
}

/// Message bodies of every shape, with numbers of every kind.
fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let word = || edgy().prop_map(|value| value as u32);
    let words = |count| prop::collection::vec(edgy(), count);
    let flat = |words: Vec<u64>| words.iter().flat_map(|w| w.to_ne_bytes()).collect::<Vec<u8>>();
    prop_oneof![
        2 => Just(Vec::new()),
        4 => edgy().prop_map(body::number),
        6 => (0..3u32, word()).prop_map(|(ring, value)| body::state(ring, value)),
        3 => (0..3u32, 0..3u32, words(4)).prop_map(move |(ring, flags, words)| {
            [body::state(ring, flags), flat(words)].concat()
        }),
        2 => words(2).prop_map(flat),
        3 => words(5).prop_map(flat),
        3 => (0..4u32, words(4)).prop_map(move |(count, words)| {
            [body::state(count, 0), flat(words)].concat()
        }),
        2 => prop::collection::vec(any::<u8>(), 0..64),
    ]
}

/// One message: request, whether a reply is wanted, body, kinds of descriptors.
type Message = (u32, bool, Vec<u8>, Vec<usize>);

fn messages() -> impl Strategy<Value = Vec<Message>> {
    let log =
        prop::sample::select(vec![Request::SET_LOG_BASE as u32, Request::SET_FEATURES as u32]);
    let request = prop_oneof![20 => 0..46u32, 2 => log, 1 => any::<u32>()];
    let fds = prop_oneof![
        4 => Just(vec![]),
        5 => (0..6usize).prop_map(|kind| vec![kind]),
        1 => prop::collection::vec(0..6usize, 2..10),
    ];
    let message = (request, prop::bool::weighted(0.9), bodies(), fds);
    prop::collection::vec(message, 1..24)
}

#[test]
fn fuzz_any_messages_leave_the_next_front_end_served() {
    let mut bench = Bench::new();
    bench.assert_serves();
    let before = open_fds();
    let (mut runner, end) = start();
    let (event, null) = (EventFd::new(EFD_NONBLOCK).unwrap(), File::open("/dev/null").unwrap());
    let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut cases = 0u32;
    while Instant::now() < end {
        let case = draw(&mut runner, &messages());
        // Half of the front-ends begin with a correct start.
        let mut guest = TestGuest::new();
        let raw = if draw(&mut runner, &any::<bool>()) {
            RawFrontend::start(bench.rig.socket(), &guest)
        } else {
            RawFrontend::connect(bench.rig.socket())
        };
        guest.offer_buffers();
        for (request, wants_reply, body, kinds) in &case {
            let kinds = [
                guest.ram.file().as_raw_fd(),
                guest.ram.file().as_raw_fd(),
                guest.tx.kick_event().as_raw_fd(),
                event.as_raw_fd(),
                null.as_raw_fd(),
                socket.as_raw_fd(),
            ]
            .into_iter()
            .enumerate()
            .filter_map(|(n, fd)| kinds.contains(&n).then_some(fd))
            .collect::<Vec<_>>();
            let flags = 1 | if *wants_reply { NEED_REPLY } else { 0 };
            raw.send_raw(*request, flags, body, &kinds);
            bench.lan.send(*request);
        }
        raw.stream().shutdown(std::net::Shutdown::Write).unwrap();
        raw.expect_end();
        cases += 1;
        if cases.is_multiple_of(50) {
            settle(&mut bench);
        }
    }
    println!("{cases} front-ends");
    drop((event, null, socket, _other));
    settle(&mut bench);
    assert!(open_fds() <= before, "{before} descriptors became {}", open_fds());
}

/// A scribble over rings and buffers: offset from the guest's base, bytes.
fn scribbles() -> impl Strategy<Value = Vec<(u64, Vec<u8>)>> {
    let descriptor =
        (edgy(), edgy(), 0..8u16, 0..300u16).prop_map(|(address, len, flags, next)| {
            let mut bytes = address.to_le_bytes().to_vec();
            bytes.extend((len as u32).to_le_bytes());
            bytes.extend(flags.to_le_bytes());
            bytes.extend(next.to_le_bytes());
            bytes
        });
    let in_table = (0..2u64, 0..256u64).prop_map(|(ring, n)| ring * 0x4000 + 16 * n);
    let index = (0..2u64, 0..64u16)
        .prop_map(|(ring, index)| (ring * 0x4000 + 0x1002, index.to_le_bytes().to_vec()));
    let anywhere = (0..0x8000u64, prop::collection::vec(any::<u8>(), 1..16));
    let scribble = prop_oneof![6 => (in_table, descriptor), 3 => index, 1 => anywhere];
    prop::collection::vec(scribble, 1..40)
}

#[test]
fn fuzz_any_rings_leave_the_next_front_end_served() {
    let mut bench = Bench::new();
    let (mut runner, end) = start();
    let mut cases = 0u32;
    while Instant::now() < end {
        let mut guest = TestGuest::new();
        let raw = RawFrontend::start(bench.rig.socket(), &guest);
        guest.offer_buffers();
        for (offset, bytes) in draw(&mut runner, &scribbles()) {
            guest.ram.write(GUEST_BASE + offset, &bytes);
            guest.tx.kick();
            guest.rx.kick();
            bench.lan.send(cases);
        }
        // Messages are answered whatever the state of the rings.
        assert_eq!(raw.ask(Request::SET_VRING_ENABLE, &body::state(0, 1), &[]), 0);
        cases += 1;
        if cases.is_multiple_of(50) {
            drop(raw);
            settle(&mut bench);
        }
    }
    println!("{cases} guests");
    settle(&mut bench);
}

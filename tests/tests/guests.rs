//! Several application guests on one pair of NICs: each is served, none can harm another, and all
//! fail over together.

use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lab::traffic::{Addresses, AppProcess, Sender};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use supervisor::topology::{AppSpec, MacAddress, Topology};
use warmspare_tests::frontend::{
    Connection, GUEST_BASE, GUEST_MAC, Station, TestGuest, frame, number_of, wait,
};
use warmspare_tests::rig::Rig;

/// The second guest's MAC address.
const SECOND: [u8; 6] = [0x52, 0x54, 0x00, 0x77, 0x73, 0x02];

/// How long a hostile guest runs.
const FUZZ: Duration = Duration::from_secs(3);

/// Lets one system run at a time.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn add_second(topology: &mut Topology) {
    let socket = topology.apps[0].socket.with_extension("second");
    topology.apps.push(AppSpec::new(socket, MacAddress(SECOND)));
}

#[test]
fn both_guests_echo_before_and_after_each_failover() {
    let _turn = turn();
    let mut rig = Rig::start_with(add_second);
    let second = &rig.topology.apps[1];
    let _app =
        AppProcess::spawn(&warmspare_tests::program(), &second.socket, second.mac, "10.77.0.3/24");
    let mut addresses = Addresses::DEFAULT;
    addresses.own_mac.0[5] ^= 1;
    addresses.guest_ip = "10.77.0.3".parse().unwrap();
    let port = rig.lan("second");
    let sender = Sender::spawn(port, addresses, Duration::from_millis(1), 100_000).unwrap();
    rig.wait("the second guest's first echo", |_| sender.first_echo_ns().is_some());
    let mut since = Vec::new();
    for _ in 0..3 {
        rig.fail_active();
        rig.wait_whole();
        rig.run_for(Duration::from_millis(60));
        since.push(platform::clock::monotonic_ns());
    }
    rig.run_for(Duration::from_millis(120));
    let (first, second) = (rig.finish_traffic(), sender.finish());
    for ledger in [first, second] {
        assert_eq!(ledger.total_corrupted(), 0);
        for (n, at_ns) in since.iter().enumerate() {
            let lost = ledger.lost_between(at_ns - 30_000_000, at_ns - 10_000_000);
            assert_eq!(lost, 0, "datagrams sent after failover {n} are lost");
        }
        assert!(ledger.total_echoed() > 0);
    }
}

/// A system with two hand-made guests and a station.
struct Pair {
    rig: Rig,
    lan: Station,
    guests: [TestGuest; 2],
    connections: [Option<Connection>; 2],
}

impl Pair {
    fn new() -> Self {
        let mut rig = Rig::start_without_app_with(add_second);
        let lan = Station::new(&mut rig);
        let guests = [GUEST_MAC, SECOND].map(TestGuest::with_mac);
        let apps = &rig.topology.apps;
        let connect = |n: usize| Connection::start(&apps[n].socket, &guests[n]);
        let connections = [Some(connect(0)), Some(connect(1))];
        Self { rig, lan, guests, connections }
    }
}

/// Sends a frame from one guest to the other.
fn pass(from: &mut TestGuest, to: &mut TestGuest, number: u32) {
    to.offer_buffers();
    from.send(&frame(to.mac, from.mac, number));
    wait("a frame from guest to guest", || {
        to.receive().is_some_and(|frame| number_of(&frame) == Some(number))
    });
    while from.tx.take_used().is_some() {}
}

#[test]
fn guests_reach_each_other_before_and_after_a_failover() {
    let _turn = turn();
    let mut pair = Pair::new();
    for round in 0..3 {
        let [first, second] = &mut pair.guests;
        first.exchange(&pair.lan, 100 + round);
        second.exchange(&pair.lan, 200 + round);
        pair.lan.take_seen();
        pass(first, second, 300 + round);
        pass(second, first, 300 + round);
        let seen = pair.lan.take_seen();
        assert!(!seen.contains(&(300 + round)), "it never reaches the LAN: {seen:?}");
        pair.rig.fail_active();
        pair.rig.wait_whole();
    }
}

#[test]
fn a_guest_that_floods_and_takes_nothing_leaves_the_other_its_service() {
    let _turn = turn();
    let mut pair = Pair::new();
    let [idle, served] = &mut pair.guests;
    served.exchange(&pair.lan, 1);
    for round in 0..40 {
        // The first guest's ring is always full, and it has no receive buffers at all.
        while idle.tx.take_used().is_some() {}
        while idle.tx.outstanding() < 200 {
            idle.queue(&frame([2, 0, 0, 0, 0, 99], GUEST_MAC, 5));
        }
        idle.tx.kick();
        (0..50).for_each(|number| pair.lan.send(number));
        served.exchange(&pair.lan, 1000 + round);
        if round % 20 == 10 {
            pair.rig.fail_active();
            pair.rig.wait_whole();
        }
    }
    let lost = pair.rig.system.switchboard().counters().rx_overrun.get();
    assert!(lost > 0, "the first guest's frames should have overrun");
}

#[test]
fn a_guest_with_corrupt_rings_leaves_the_other_its_service() {
    let _turn = turn();
    let mut pair = Pair::new();
    let [hostile, served] = &mut pair.guests;
    served.exchange(&pair.lan, 1);
    for ring in [&mut hostile.tx, &mut hostile.rx] {
        // The ring holds a loop of descriptors, a descriptor outside of memory, and an impossible
        // index.
        ring.set_descriptor(0, ring.buffer(0), 64, 1, 0);
        ring.set_descriptor(1, u64::MAX - 8, 64, 0, 0);
        ring.offer(0);
        ring.offer(1);
        (0..2000).for_each(|_| ring.offer(7));
        ring.kick();
    }
    let counters = pair.rig.system.switchboard().counters();
    wait("a ring to be stopped", || counters.guest_rings_broken.get() > 0);
    for number in 2..20 {
        pair.lan.send(number);
        served.exchange(&pair.lan, 100 + number);
    }
    pair.rig.fail_active();
    served.exchange(&pair.lan, 500);
    pair.rig.wait_whole();
}

/// Random bytes anywhere in both rings: descriptors, indices, flags.
fn scribbles() -> impl Strategy<Value = Vec<(u64, Vec<u8>)>> {
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..16),
        Just(vec![0xff; 8]),
        Just(vec![0; 16]),
        prop::collection::vec(0..4u8, 2..8),
    ];
    prop::collection::vec((0..0x8000u64 - 16, bytes), 1..24)
}

#[test]
fn whatever_one_guest_writes_into_its_rings_the_other_is_served_meanwhile() {
    let _turn = turn();
    let mut pair = Pair::new();
    let socket = pair.rig.socket().to_owned();
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    let end = Instant::now() + FUZZ;
    let mut number = 1;
    while Instant::now() < end || number < 16 {
        let [hostile, served] = &mut pair.guests;
        hostile.offer_buffers();
        hostile.queue(&frame(SECOND, GUEST_MAC, 7));
        let tree = scribbles().new_tree(&mut runner).unwrap();
        for (offset, bytes) in tree.current() {
            hostile.ram.write(GUEST_BASE + offset, &bytes);
        }
        hostile.tx.kick();
        hostile.rx.kick();
        served.exchange(&pair.lan, number);
        number += 1;
        if number % 8 == 0 {
            // Rings that were found corrupt stay stopped; a new front-end begins with fresh ones.
            *hostile = TestGuest::with_mac(GUEST_MAC);
            pair.connections[0] = None;
            pair.connections[0] = Some(Connection::start(&socket, hostile));
        }
    }
}

#[test]
fn an_application_guest_ends_with_whoever_started_it() {
    let _turn = turn();
    let rig = Rig::start_with(add_second);
    let mut guest = Command::new(warmspare_tests::program())
        .args(["app", "--end-with-parent", "--socket"])
        .arg(&rig.topology.apps[1].socket.path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    rig.run_for(Duration::from_millis(200));
    assert_eq!(guest.try_wait().unwrap(), None, "it serves");
    // This has the same effect as killing the process that holds the other end.
    drop(guest.stdin.take());
    assert!(guest.wait().unwrap().success());
}

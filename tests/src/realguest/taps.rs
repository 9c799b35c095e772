//! TAPs that come and go, and bridges that block them. These tests need root, but no QEMU.

use std::time::{Duration, Instant};

use lab::traffic::Ledger;
use nic::wire::Tap;

use super::tests::{Folder, PATIENCE, PERIOD, app};
use super::*;
use guest::GUEST;
use lan::{Lan, TAPS};
use ping::Ping;
use service::InProcess;

/// A service behind a bridge, a guest, and a host that pings it.
struct Stage {
    ping: Ping,
    _app: lab::traffic::AppProcess,
    service: InProcess,
    lan: Lan,
    _folder: Folder,
}

impl Stage {
    fn new(name: &str) -> Self {
        let folder = Folder::new(name);
        let (topology, _) = example("tap", &folder.0).unwrap();
        let lan = Lan::new().unwrap();
        let service = InProcess::start(lan.bridge(), &topology).unwrap();
        let app = app(&topology);
        let ping = Ping::start(lan.host(), GUEST, PERIOD).unwrap();
        ping.wait_answers(PATIENCE).unwrap();
        Self { ping, _app: app, service, lan, _folder: folder }
    }

    fn ip(&self, arguments: &str) {
        self.lan.bridge().ip(arguments).unwrap();
    }

    fn make_tap(&self, name: &str) {
        self.ip(&format!("tuntap add {name} mode tap"));
        self.ip(&format!("link set {name} master br0 up"));
    }

    fn wait(&self, what: &str, holds: impl Fn(&InProcess) -> bool) {
        self.service.wait(what, holds).unwrap();
    }

    /// Waits until all is as at the start.
    fn wait_whole(&self) {
        self.service.wait_redundant().unwrap();
        self.ping.wait_answers(PATIENCE).unwrap();
        assert_eq!([0, 1].map(|index| self.service.trouble(index)), [None, None]);
    }

    fn finish(self) -> Ledger {
        let ledger = self.ping.finish().unwrap();
        assert_eq!(ledger.total_corrupted(), 0);
        ledger
    }
}

#[test]
fn a_tap_that_is_deleted_is_left_and_used_again_when_it_is_made_again() {
    let stage = Stage::new("deleted");
    for _ in 0..2 {
        let active = stage.service.active().unwrap();
        stage.ip(&format!("link del {}", TAPS[active]));
        let report = stage.service.wait_failover_of(active).unwrap();
        assert_eq!(report.record.verdict.cause(), "link");
        stage.ping.wait_answers(PATIENCE).unwrap();
        assert!(stage.service.trouble(active).unwrap().contains(TAPS[active]));
        stage.make_tap(TAPS[active]);
        stage.wait_whole();
    }
    for tap in TAPS {
        stage.ip(&format!("link del {tap}"));
    }
    stage.wait("both links to be lost", |service| ![0, 1].iter().any(|&n| service.link_is_up(n)));
    for tap in TAPS {
        stage.make_tap(tap);
    }
    stage.wait_whole();
    stage.finish();
}

#[test]
fn a_tap_that_leaves_its_bridge_is_left_and_is_a_spare_when_it_is_back() {
    let stage = Stage::new("left");
    for _ in 0..3 {
        let active = stage.service.active().unwrap();
        stage.ip(&format!("link set {} nomaster", TAPS[active]));
        stage.service.wait_failover_of(active).unwrap();
        stage.ping.wait_answers(PATIENCE).unwrap();
        assert!(!stage.service.is_redundant());
        stage.ip(&format!("link set {} master br0", TAPS[active]));
        stage.wait_whole();
    }
    // The bridge made again, and its ports put into it.
    stage.ip("link del br0");
    stage.wait("both links to be lost", |service| ![0, 1].iter().any(|&n| service.link_is_up(n)));
    stage.ip("link add br0 type bridge");
    stage.ip("link set br0 up");
    for port in ["v0"].iter().chain(&TAPS) {
        stage.ip(&format!("link set {port} master br0"));
    }
    stage.wait_whole();
    stage.finish();
}

#[test]
fn a_port_that_its_bridge_blocks_is_no_spare_until_it_forwards() {
    let stage = Stage::new("blocked");
    let spare = 1 - stage.service.active().unwrap();
    stage.ip("link set br0 type bridge forward_delay 200");
    stage.ip("link set br0 type bridge stp_state 1");
    stage.ip(&format!("link set {} down", TAPS[spare]));
    stage.ip(&format!("link set {} up", TAPS[spare]));
    stage.wait("a blocked port", |service| {
        service.trouble(spare).is_some_and(|trouble| trouble.contains("blocked by the bridge"))
    });
    assert!(!stage.service.is_redundant(), "with a port that forwards nothing");
    let began = Instant::now();
    stage.wait("a port that forwards", |service| service.trouble(spare).is_none());
    assert!(began.elapsed() > Duration::from_secs(1), "listening and learning take 2 s each");
    stage.wait_whole();
    stage.finish();
}

#[test]
fn a_service_starts_with_one_tap_and_takes_the_other_when_it_can_be_had() {
    let folder = Folder::new("half");
    let (topology, _) = example("tap", &folder.0).unwrap();
    let lan = Lan::new().unwrap();
    let held = TAPS.map(|tap| lan.bridge().run(|| Tap::open(tap).unwrap()).unwrap());
    let service = InProcess::start_without_waiting(lan.bridge(), &topology).unwrap();
    assert!([0, 1].iter().all(|&n| service.trouble(n).unwrap().contains("in use")));
    let _app = app(&topology);
    let [first, second] = held;
    drop(second);
    service
        .wait("one domain to serve", |service| {
            service.link_is_up(1) && service.active().is_ok_and(|active| active == 1)
        })
        .unwrap();
    let ping = Ping::start(lan.host(), GUEST, PERIOD).unwrap();
    ping.wait_answers(PATIENCE).unwrap();
    assert!(!service.is_redundant());
    drop(first);
    service.wait_redundant().unwrap();
    assert_eq!(ping.finish().unwrap().total_corrupted(), 0);
}

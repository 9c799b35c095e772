//! Tests of the built-in application guest behind a real bridge. They need root, but no QEMU.

use std::time::Duration;

use lab::fault::{Cause, Site};
use lab::traffic::{Addresses, AppProcess};

use super::*;
use guest::GUEST;
use lan::TAPS;
use ping::Ping;
use service::{InProcess, Program};

pub(super) const PERIOD: Duration = Duration::from_millis(1);
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// A folder that is removed when the test ends.
pub(super) struct Folder(pub(super) PathBuf);

impl Folder {
    pub(super) fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("ws-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(super) fn app(topology: &Topology) -> AppProcess {
    let app = &topology.apps[0];
    let end = std::time::Instant::now() + PATIENCE;
    while !app.socket.exists() {
        assert!(std::time::Instant::now() < end, "no socket to connect to");
        std::thread::sleep(Duration::from_millis(5));
    }
    let net = Addresses::DEFAULT_GUEST_NET;
    AppProcess::spawn(&crate::program(), &app.socket, app.mac, net).unwrap()
}

#[test]
fn the_tap_example_serves_a_host_behind_a_bridge() {
    let folder = Folder::new("tap");
    let (topology, file) = example("tap", &folder.0).unwrap();
    let lan = Lan::new().unwrap();
    let _program = Program::start(lan.bridge(), &file).unwrap();
    let _app = app(&topology);
    let ping = Ping::start(lan.host(), GUEST, PERIOD).unwrap();
    ping.wait_answers(PATIENCE).unwrap();
    let ledger = ping.finish().unwrap();
    assert_eq!(ledger.total_corrupted(), 0);
    let port = lan.port_of(&topology.apps[0].mac.to_string()).unwrap();
    assert_eq!(port.as_deref(), Some(TAPS[0]), "the first domain's");
}

#[test]
fn the_bridge_learns_the_guest_at_the_other_port_after_each_failover() {
    let folder = Folder::new("fdb");
    let (topology, _) = example("tap", &folder.0).unwrap();
    let lan = Lan::new().unwrap();
    let service = InProcess::start(lan.bridge(), &topology).unwrap();
    let _app = app(&topology);
    let ping = Ping::start(lan.host(), GUEST, PERIOD).unwrap();
    ping.wait_answers(PATIENCE).unwrap();
    let mac = topology.apps[0].mac.to_string();
    for variant in 0..Site::ALL.len() {
        let failed = service.active().unwrap();
        service.inject(Cause::Crash, variant).unwrap();
        service.wait_failover().unwrap();
        let active = service.active().unwrap();
        assert_ne!(active, failed);
        let end = std::time::Instant::now() + PATIENCE;
        while lan.port_of(&mac).unwrap().as_deref() != Some(TAPS[active]) {
            assert!(std::time::Instant::now() < end, "still learned elsewhere");
        }
        ping.wait_answers(PATIENCE).unwrap();
        service.wait_redundant().unwrap();
    }
    assert_eq!(ping.finish().unwrap().total_corrupted(), 0);
}

#[test]
fn a_tap_in_use_is_one_line_and_status_2() {
    let folder = Folder::new("busy");
    let (topology, file) = example("tap", &folder.0).unwrap();
    let lan = Lan::new().unwrap();
    let _service = InProcess::start(lan.bridge(), &topology).unwrap();
    let output = std::process::Command::new("ip")
        .args(["netns", "exec", lan.bridge().name()])
        .arg(crate::program())
        .args(["run", "--exit-if-unusable"])
        .arg(&file)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.trim().lines().count() == 1 && text.contains("ws-a is in use"), "{text}");
}

#[test]
fn a_tap_that_is_switched_off_is_a_pulled_cable() {
    let folder = Folder::new("cable");
    let (topology, _) = example("tap", &folder.0).unwrap();
    let lan = Lan::new().unwrap();
    let service = InProcess::start(lan.bridge(), &topology).unwrap();
    let _app = app(&topology);
    let ping = Ping::start(lan.host(), GUEST, PERIOD).unwrap();
    ping.wait_answers(PATIENCE).unwrap();
    for _ in 0..4 {
        let failed = service.active().unwrap();
        lan.bridge().ip(&format!("link set {} down", TAPS[failed])).unwrap();
        let report = service.wait_failover().unwrap();
        assert_eq!(report.record.verdict.cause(), "link");
        assert_ne!(service.active().unwrap(), failed);
        ping.wait_answers(PATIENCE).unwrap();
        lan.bridge().ip(&format!("link set {} up", TAPS[failed])).unwrap();
        service.wait_redundant().unwrap();
    }
    assert_eq!(ping.finish().unwrap().total_corrupted(), 0);
}

//! `run` as a service, and the commands that inspect and control it.

use std::io::Read;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use supervisor::topology::{Policy, Topology};
use warmspare_tests::rig::PATIENCE;
use warmspare_tests::{emulation, program};

/// The interval within which the service manager expects a watchdog notification.
const WATCHDOG: Duration = Duration::from_secs(1);

/// A running service in a folder of its own; stopped when dropped.
struct Service {
    process: Child,
    folder: PathBuf,
    manager: UnixDatagram,
}

impl Service {
    fn start(name: &str) -> Self {
        Self::start_with(name, |_| ())
    }

    /// Starts a service after `change` has adjusted its command.
    fn start_with(name: &str, change: impl FnOnce(&mut Command)) -> Self {
        Self::start_topology(name, change, |_| ())
    }

    /// Does the same with a changed topology.
    fn start_topology(
        name: &str,
        change: impl FnOnce(&mut Command),
        change_topology: impl FnOnce(&mut Topology),
    ) -> Self {
        let folder =
            std::env::temp_dir().join(format!("warmspare-service-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let mut topology = emulation::demo(&folder.join("app.sock"));
        change_topology(&mut topology);
        let text = serde_json::to_string(&topology).unwrap();
        std::fs::write(folder.join("topology.json"), text).unwrap();
        let manager = UnixDatagram::bind(folder.join("notify.sock")).unwrap();
        manager.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut command = Command::new(program());
        command
            .arg("run")
            .arg(folder.join("topology.json"))
            .arg("--api-socket")
            .arg(folder.join("api.sock"))
            .arg("--event-file")
            .arg(folder.join("events.jsonl"))
            .env("NOTIFY_SOCKET", folder.join("notify.sock"));
        change(&mut command);
        let process = command.spawn().unwrap();
        let service = Self { process, folder, manager };
        while !service.told().starts_with("READY=1\n") {}
        service
    }

    /// Waits for the next message to the service manager and returns it.
    fn told(&self) -> String {
        let mut buffer = [0; 256];
        let len = self.manager.recv(&mut buffer).expect("a word to the service manager");
        String::from_utf8(buffer[..len].to_vec()).unwrap()
    }

    fn ask(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(program());
        command.args(arguments).arg("--api-socket").arg(self.folder.join("api.sock"));
        command.output().unwrap()
    }

    fn state(&self) -> Value {
        let output = self.ask(&["status", "--format", "json"]);
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn wait_redundant(&self) {
        let end = Instant::now() + PATIENCE;
        while !self.ask(&["status", "--check"]).status.success() {
            assert!(Instant::now() < end, "waited in vain for redundancy");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn signal(&self, name: &str) {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }

    /// The newest event of a kind, once there is one.
    fn wait_event(&self, kind: &str) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let events = String::from_utf8(self.ask(&["events"]).stdout).unwrap();
            let parsed = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            if let Some(event) = parsed.rev().find(|event| event["event"] == kind) {
                return event;
            }
            assert!(Instant::now() < end, "waited in vain for {kind}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn stop(&mut self) -> Option<i32> {
        self.signal("-TERM");
        self.process.wait().unwrap().code()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_service_is_looked_at_switched_and_stopped() {
    let mut service = Service::start("whole");
    service.wait_redundant();
    let state = service.state();
    assert_eq!((&state["schema"], &state["active"]), (&"warmspare.state/1".into(), &"a".into()));
    let output = service.ask(&["switch"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "b has taken over from a\n");
    service.wait_redundant();
    assert_eq!(service.state()["active"], "b");
    let output = service.ask(&["switch", "a"]);
    assert!(output.status.success(), "{output:?}");
    service.wait_redundant();

    let output = service.ask(&["drill"]);
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("b could take over"), "{output:?}");
    let image = service.folder.join("driver");
    let written = Command::new(program()).args(["image", "--driver"]).arg(&image).status();
    assert!(written.unwrap().success());
    let image = image.to_str().unwrap();
    let output = service.ask(&["upgrade", image, "--probation-ms", "50"]);
    assert!(output.status.success(), "{output:?}");
    service.wait_redundant();
    assert!(service.ask(&["switch", "a"]).status.success());

    let text = String::from_utf8(service.ask(&["status"]).stdout).unwrap();
    assert!(text.contains("redundant, a serves") && text.contains("no domain has failed"));
    let events = String::from_utf8(service.ask(&["events"]).stdout).unwrap();
    let kinds: Vec<Value> = events
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["event"].clone())
        .collect();
    assert_eq!(kinds.iter().filter(|kind| *kind == "switched").count(), 4, "{events}");
    // An upgrade rebuilds each spare. The loss of redundancy meanwhile is reported unless no sample
    // falls into so short a time; each reported loss is followed by a reported recovery.
    let count = |wanted: &str| kinds.iter().filter(|kind| *kind == wanted).count();
    let (lost, regained) = (count("redundancy-lost"), count("redundancy-regained"));
    assert_eq!(regained, lost + 1, "{events}");

    assert_eq!(service.stop(), Some(0));
    let file = std::fs::read_to_string(service.folder.join("events.jsonl")).unwrap();
    assert!(file.starts_with(&events), "the file has what the socket told");
    assert!(!service.folder.join("api.sock").exists());
}

#[test]
fn a_service_without_a_spare_is_ready_and_says_that_it_is_not_redundant() {
    // Starting returns when the service manager was told READY=1.
    let service = Service::start_topology(
        "reboot",
        |_| (),
        |topology| {
            topology.policy = Policy::Reboot;
            topology.domains.truncate(1);
        },
    );
    assert_eq!(
        (&service.state()["active"], &service.state()["redundant"]),
        (&"a".into(), &false.into())
    );
    assert_eq!(service.ask(&["status", "--check"]).status.code(), Some(1));
}

#[test]
fn the_watchdog_is_told_while_the_supervisor_looks() {
    let service = Service::start_with("watchdog", |command| {
        command.env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
    });
    while service.told() != "WATCHDOG=1" {}
    for _ in 0..3 {
        let since = Instant::now();
        while service.told() != "WATCHDOG=1" {}
        assert!(since.elapsed() < WATCHDOG, "it would have been killed: {:?}", since.elapsed());
    }
}

#[test]
fn a_hangup_reloads_what_can_be_reloaded_and_says_what_cannot() {
    let mut service = Service::start_with("reload", |command| {
        command.args(["--log-format", "json"]).stderr(Stdio::piped());
    });
    let path = service.folder.join("topology.json");
    let mut topology: Value =
        serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let called = service.folder.join("called");
    topology["notify"] = serde_json::json!([{
        "events": ["switched"], "run": ["/usr/bin/touch", called.to_str().unwrap()],
    }]);
    topology["name"] = "other".into();
    std::fs::write(&path, topology.to_string()).unwrap();
    service.signal("-HUP");
    let event = service.wait_event("reloaded");
    assert_eq!(event["applied"], serde_json::json!(["notify"]));
    assert_eq!(event["ignored"], serde_json::json!(["name"]));

    service.wait_redundant();
    assert!(service.ask(&["switch"]).status.success());
    let end = Instant::now() + PATIENCE;
    while !called.exists() {
        assert!(Instant::now() < end, "the new program was not called");
        std::thread::sleep(Duration::from_millis(5));
    }

    std::fs::write(&path, "{").unwrap();
    service.signal("-HUP");
    let event = service.wait_event("reload-failed");
    assert!(event["reason"].as_str().unwrap().contains("topology.json"), "{event}");
    assert_eq!(service.stop(), Some(0));
    let mut text = String::new();
    service.process.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert!(line["fields"]["message"].is_string(), "{line}");
    }
    assert!(text.contains("takes a restart: name"), "{text}");
}

#[test]
fn what_cannot_be_done_is_one_line_and_changes_nothing() {
    let service = Service::start("refuse");
    service.wait_redundant();
    for (arguments, word) in [
        (&["switch", "zz"][..], "no domain `zz`"),
        (&["switch", "a"], "does not stand by"),
        (&["drill", "a"], "no domain stands by"),
        (&["upgrade", "/etc/passwd"], "new driver cannot be read"),
        (&["upgrade", "/dev/zero"], "a device, not a regular file"),
    ] {
        let output = service.ask(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains(word), "{}", stderr(&output));
        assert_eq!(stderr(&output).lines().count(), 1);
    }
    let state = service.state();
    assert_eq!((&state["active"], &state["redundant"]), (&"a".into(), &true.into()));
}

#[test]
fn without_a_service_the_clients_say_what_to_name() {
    for command in ["status", "events", "switch", "top"] {
        let arguments = [command, "--api-socket", "/no/such.sock"];
        let output = Command::new(program()).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{command}");
        assert!(stderr(&output).contains("--api-socket"), "{}", stderr(&output));
    }
}

#[test]
fn a_dashboard_for_all_without_a_token_is_refused() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/demo.json");
    let mut value: Value =
        serde_json::from_str(&std::fs::read_to_string(example).unwrap()).unwrap();
    let socket = std::env::temp_dir().join(format!("warmspare-open-{}.sock", std::process::id()));
    value["apps"][0]["socket"] = socket.to_str().unwrap().into();
    let path = socket.with_extension("json");
    std::fs::write(&path, value.to_string()).unwrap();
    let output = Command::new(program())
        .args(["run", path.to_str().unwrap(), "--dashboard", "0.0.0.0:0"])
        .output()
        .unwrap();
    std::fs::remove_file(path).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--token-file"), "{}", stderr(&output));
}

//! Examining a running domain: it is paused, dumped and debugged while the service continues.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lab::fault::{Cause, Victim};
use microvm::domain::{DomainId, VcpuState};
use operate::control::client::{Client, ClientError};
use operate::control::{
    DomainRequest, DrillRequest, Dumped, ErrorCode, GdbRequest, Opened, PauseRequest, Paused,
    Plane, PlaneOptions, Resumed, SwitchRequest, Switched,
};
use operate::observe::Snapshot;
use supervisor::topology::{DumpSpec, Limits};
use supervisor::{Event, RoleState};
use warmspare_tests::rig::Rig;

/// The tests run one at a time: they stop domains for a while and check what the others do
/// meanwhile.
static TURN: Mutex<()> = Mutex::new(());

/// A running system with its control socket, and a folder for dumps.
struct Stage {
    plane: Plane,
    rig: Rig,
    client: Client,
    folder: PathBuf,
    _turn: MutexGuard<'static, ()>,
}

impl Stage {
    fn set(name: &str) -> Self {
        Self::set_with(name, Limits::default())
    }

    fn set_with(name: &str, limits: Limits) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let name = format!("warmspare-examine-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let dumps = DumpSpec::in_dir(&folder.join("dumps"));
        let rig = Rig::start_with(|topology| {
            topology.dumps = Some(dumps);
            topology.limits = limits;
            // A scheduled drill would run into breakpoints that are meant for other code.
            topology.drill.every_s = 0;
        });
        let socket = folder.join("api.sock");
        let options = PlaneOptions { api_socket: Some(socket.clone()), ..PlaneOptions::default() };
        let plane = Plane::start(&options, &rig.topology, &rig.system).unwrap();
        Self { plane, rig, client: Client::new(&socket), folder, _turn: turn }
    }

    fn name(&self, id: DomainId) -> String {
        self.rig.slot(id).name.clone()
    }

    fn spare(&self) -> DomainId {
        DomainId(1 - self.rig.active().0)
    }

    fn role(&self, id: DomainId) -> RoleState {
        self.rig.system.failover().state(id).0
    }

    fn pause(&self, id: DomainId, switch_first: bool) -> Result<Paused, ClientError> {
        self.client.post("/api/v1/pause", &PauseRequest { domain: self.name(id), switch_first })
    }

    fn of(&self, id: DomainId) -> DomainRequest {
        DomainRequest { domain: self.name(id) }
    }

    fn gdb_server(&self, id: DomainId, switch_first: bool) -> Opened {
        let request = GdbRequest { domain: self.name(id), switch_first, socket: None };
        self.client.post("/api/v1/gdb", &request).unwrap()
    }

    fn state(&self) -> Snapshot {
        self.client.get("/api/v1/state").unwrap()
    }

    fn crash(&self, id: DomainId) {
        let life = self.rig.system.failover().life(id).unwrap();
        let victim = Victim { slot: self.rig.slot(id), life: &life, port: None };
        victim.inject(Cause::Crash, 2).unwrap();
    }

    /// Checks that no domain has failed since the test began.
    fn assert_no_failover(&self) {
        for event in self.rig.system.events().try_iter() {
            assert!(!matches!(event, Event::Failover(_)), "{event:?}");
            self.plane.record(&event);
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn refused<T: std::fmt::Debug>(result: Result<T, ClientError>) -> ErrorCode {
    match result.unwrap_err() {
        ClientError::Refused(error) => error.code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_paused_standby_stands_still_and_is_no_healthy_spare() {
    let stage = Stage::set("pause");
    let spare = stage.spare();
    let done = stage.pause(spare, false).unwrap();
    assert_eq!(done.serves, Some(stage.name(stage.rig.active())));
    let life = stage.rig.system.failover().life(spare).unwrap();
    stage.rig.wait("the vCPU to be held", |_| life.state() == VcpuState::Held);
    assert!(!stage.state().redundant);
    let switch: Result<Switched, _> =
        stage.client.post("/api/v1/switch", &SwitchRequest { to: Some(stage.name(spare)) });
    assert_eq!(refused(switch), ErrorCode::Unhealthy);
    let drill: Result<serde_json::Value, _> =
        stage.client.post("/api/v1/drill", &DrillRequest { domain: Some(stage.name(spare)) });
    assert_eq!(refused(drill), ErrorCode::Unhealthy);
    let _: Resumed = stage.client.post("/api/v1/resume", &stage.of(spare)).unwrap();
    assert!(stage.state().redundant && !life.is_held());
    let again: Result<Resumed, _> = stage.client.post("/api/v1/resume", &stage.of(spare));
    assert_eq!(refused(again), ErrorCode::NotPaused);
    stage.assert_no_failover();
}

#[test]
fn the_active_domain_is_paused_only_after_a_switch() {
    let stage = Stage::set("switch");
    let active = stage.rig.active();
    assert_eq!(refused(stage.pause(active, false)), ErrorCode::Serves);
    assert_eq!(stage.rig.active(), active);
    let done = stage.pause(active, true).unwrap();
    assert_eq!(done.serves, Some(stage.name(stage.rig.active())));
    assert_ne!(stage.rig.active(), active);
    let life = stage.rig.system.failover().life(active).unwrap();
    stage.rig.wait("the vCPU to be held", |_| life.state() == VcpuState::Held);
    stage.assert_no_failover();
}

#[test]
fn a_paused_standby_takes_over_all_the_same() {
    let stage = Stage::set("needed");
    let (active, spare) = (stage.rig.active(), stage.spare());
    stage.pause(spare, false).unwrap();
    stage.crash(active);
    let report = stage.rig.wait_failover();
    assert_eq!(report.record.to, Some(spare));
    assert!(report.first_sent_ns.is_some(), "it sends");
    stage.rig.wait_whole();
    let life = stage.rig.system.failover().life(spare).unwrap();
    assert!(!life.is_held());
}

/// Runs gdb with these commands in this folder and returns its output.
fn gdb(folder: &Path, arguments: &[&str], commands: &[String]) -> Output {
    let mut gdb = Command::new("gdb");
    gdb.args(["-batch", "-nx", "-ex", "set pagination off"]);
    for command in commands {
        gdb.args(["-ex", command]);
    }
    let gdb = gdb.args(arguments).current_dir(folder).stdin(Stdio::null());
    gdb.output().expect("gdb is needed: apt-get install gdb")
}

fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    format!("{text}{}", String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_living_domain_leaves_a_core_file_and_serves_on() {
    let stage = Stage::set("dump");
    for id in [stage.rig.active(), stage.spare()] {
        let life = stage.rig.system.failover().life(id).unwrap();
        let dumped: Dumped = stage.client.post("/api/v1/dump", &stage.of(id)).unwrap();
        let text = said(&gdb(&dumped.folder, &["domain.elf", "core"], &["bt".into()]));
        assert!(text.contains("#0") && text.contains("domain_main"), "{text}");
        assert!(!text.contains("warning"), "{text}");
        assert!(dumped.folder.ends_with(format!(
            "{:06}-{}-request",
            id.0 as u32 + 1,
            stage.name(id)
        )));
        assert_eq!(stage.rig.system.failover().state(id).1, life.epoch(), "the same life goes on");
        assert!(!life.is_held());
    }
    stage.rig.run_for(Duration::from_millis(100));
    stage.assert_no_failover();
    assert!(stage.state().redundant);
}

#[test]
fn a_dump_needs_a_domain_that_runs() {
    let limits =
        Limits { failures: 1, quarantine_s: 600, quarantine_max_s: 600, ..Limits::default() };
    let stage = Stage::set_with("unknown", limits);
    let request = DomainRequest { domain: "zz".into() };
    let dump: Result<Dumped, _> = stage.client.post("/api/v1/dump", &request);
    assert_eq!(refused(dump), ErrorCode::UnknownDomain);
    let active = stage.rig.active();
    stage.crash(active);
    stage.rig.wait("a quarantine", |_| stage.role(active) == RoleState::Quarantined);
    let dump: Result<Dumped, _> = stage.client.post("/api/v1/dump", &stage.of(active));
    assert_eq!(refused(dump), ErrorCode::NotRunning);
}

#[test]
fn gdb_stops_in_the_transmit_path_of_the_domain_that_serves() {
    let stage = Stage::set("gdb");
    let active = stage.rig.active();
    let epoch = stage.rig.system.failover().state(active).1;
    let opened = stage.gdb_server(active, false);
    let second: Result<Opened, _> = stage.client.post(
        "/api/v1/gdb",
        &GdbRequest { domain: stage.name(active), switch_first: false, socket: None },
    );
    assert_eq!(refused(second), ErrorCode::Debugged);
    let commands = [
        format!("target remote {}", opened.socket.display()),
        "break domain_tx_path".into(),
        "continue".into(),
        "bt".into(),
        "info registers rip".into(),
        "x/2i $pc".into(),
        "stepi".into(),
        "stepi".into(),
        "continue".into(),
        "delete".into(),
        "print 6 * 7".into(),
        "detach".into(),
    ];
    let text = said(&gdb(&stage.folder, &[opened.program.to_str().unwrap()], &commands));
    assert_eq!(text.matches("Breakpoint 1, ").count(), 2, "{text}");
    assert!(text.contains("#0") && text.contains("domain_tx_path"), "{text}");
    assert!(text.contains("domain_loop_turn") && text.contains("domain_main"), "{text}");
    assert!(text.contains("symbols.rs:"), "source lines: {text}");
    assert!(text.contains("$1 = 42") && text.contains("detached"), "{text}");
    assert_goes_on(&stage, active, epoch);
    stage.rig.wait("the files to be gone", |_| !opened.socket.exists());
    assert!(!opened.program.exists());
}

/// Checks that the same life of the domain still serves, that frames pass through it, and that no
/// failure was reported.
fn assert_goes_on(stage: &Stage, active: DomainId, epoch: u32) {
    let sent = |stage: &Stage| stage.state().counters["tx_frames"];
    let before = sent(stage);
    stage.rig.wait("frames of the guest", |_| sent(stage) > before + 10);
    assert_eq!(stage.rig.active(), active);
    assert_eq!(stage.rig.system.failover().state(active).1, epoch, "it was not rebuilt");
    stage.assert_no_failover();
}

#[test]
fn traffic_goes_on_while_a_domain_is_debugged_that_another_has_relieved() {
    let stage = Stage::set("first");
    let relieved = stage.rig.active();
    let epoch = stage.rig.system.failover().state(relieved).1;
    let opened = stage.gdb_server(relieved, true);
    let serves = stage.rig.active();
    assert_ne!(serves, relieved);
    let mark = stage.folder.join("stopped");
    let go_on = stage.folder.join("go-on");
    let wait = format!(
        "shell touch {}; for n in $(seq 600); do [ -e {} ] && break; sleep 0.1; done",
        mark.display(),
        go_on.display()
    );
    let target = format!("target remote {}", opened.socket.display());
    let program = opened.program.to_str().unwrap().to_owned();
    let folder = stage.folder.clone();
    let debugger = std::thread::spawn(move || {
        said(&gdb(&folder, &[&program], &[target, "bt".into(), wait, "detach".into()]))
    });
    stage.rig.wait("gdb to stop it", |_| mark.exists());
    let life = stage.rig.system.failover().life(relieved).unwrap();
    assert_eq!(life.state(), VcpuState::Held);
    let serving = stage.rig.system.failover().state(serves).1;
    assert_goes_on(&stage, serves, serving);
    assert_eq!(stage.role(relieved), RoleState::Standby);
    std::fs::write(&go_on, "").unwrap();
    let text = debugger.join().unwrap();
    assert!(text.contains("domain_main"), "{text}");
    stage.rig.wait("the domain to run on", |_| !life.is_held());
    assert_eq!(stage.rig.system.failover().state(relieved).1, epoch, "it was not rebuilt");
    stage.rig.wait("redundancy", |_| stage.state().redundant);
}

#[test]
fn a_debugged_standby_is_let_go_when_it_has_to_serve() {
    let stage = Stage::set("yield");
    let (active, spare) = (stage.rig.active(), stage.spare());
    let opened = stage.gdb_server(spare, false);
    let mark = stage.folder.join("stopped");
    let wait = format!("shell touch {}; sleep 3", mark.display());
    let commands = [
        format!("target remote {}", opened.socket.display()),
        "break domain_tx_path".into(),
        wait,
        "continue".into(),
    ];
    let program = opened.program.to_str().unwrap().to_owned();
    let folder = stage.folder.clone();
    let debugger = std::thread::spawn(move || said(&gdb(&folder, &[&program], &commands)));
    stage.rig.wait("gdb to stop it", |_| mark.exists());
    let life = stage.rig.system.failover().life(spare).unwrap();
    assert_eq!(life.state(), VcpuState::Held);
    drop(life);
    stage.crash(active);
    let report = stage.rig.wait_failover();
    assert_eq!(report.record.to, Some(spare));
    assert!(report.first_sent_ns.is_some(), "no breakpoint stops it");
    stage.rig.wait_whole();
    let text = debugger.join().unwrap();
    assert!(text.contains("Breakpoint 1 at "), "gdb has set it: {text}");
    assert!(!text.contains("Breakpoint 1, "), "{text}");
    let epoch = stage.rig.system.failover().state(spare).1;
    assert_goes_on(&stage, spare, epoch);
}

#[test]
fn the_command_line_asks_for_the_same() {
    let stage = Stage::set("commands");
    let spare = stage.spare();
    let ask = |arguments: &[&str]| {
        let mut command = Command::new(warmspare_tests::program());
        command.args(arguments).arg("--api-socket").arg(stage.folder.join("api.sock"));
        command.output().unwrap()
    };
    let name = stage.name(spare);
    assert!(said(&ask(&["pause", &name])).contains("is paused until"));
    assert!(said(&ask(&["resume", &name])).contains("runs again"));
    let output = ask(&["dump", &name]);
    let folder = String::from_utf8(output.stdout).unwrap();
    assert!(Path::new(folder.trim_end()).join("core").is_file(), "{folder}");
    let output = ask(&["gdb", &name]);
    assert!(said(&output).starts_with("gdb -ex 'target remote "), "{output:?}");
    let output = ask(&["pause", &stage.name(stage.rig.active())]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("let another domain serve first"), "{output:?}");
}

//! The unit in `examples`: systemd finds no fault in it, and runs it.
//!
//! The second test is run by name only, because a service manager needs cgroups that it may write:
//! `cargo test --release -p warmspare-tests --test service_manager -- --ignored`, as root. Some
//! empty cgroups stay behind.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use supervisor::topology::Topology;
use warmspare_tests::rig::PATIENCE;
use warmspare_tests::running::Folder;
use warmspare_tests::{program, workspace};

/// What the manager finds below `/srv` of its own namespaces.
const PROGRAM: &str = "/srv/warmspare";
const TOPOLOGY: &str = "/srv/topology.json";

/// Prepares namespaces in which a service manager can do no harm, and becomes it. All that it would
/// write to is empty there and in memory. The device of KVM belongs to the group that the unit
/// names, as udev would have it.
const BECOME_MANAGER: &str = r#"
set -e
mount --make-rprivate /
mount -t tmpfs warmspare-test /srv
cp -r "$1"/. /srv
for folder in /run /tmp /var/tmp /var/lib /var/log /var/cache; do
    mount -t tmpfs warmspare-test "$folder"
done
mkdir /run/systemd
cp /etc/group /srv/group
grep -q '^kvm:' /srv/group || echo 'kvm:x:60123:' >> /srv/group
mount --bind /srv/group /etc/group
mknod -m 0660 /srv/kvm c $(stat -c '0x%t 0x%T' /dev/kvm)
chgrp kvm /srv/kvm
mount --bind /srv/kvm /dev/kvm
export container=test SYSTEMD_UNIT_PATH=/srv/units SYSTEMD_GENERATOR_PATH=/srv/none
exec /lib/systemd/systemd --system --unit=warmspare.service --log-level=warning \
    --log-target=console --show-status=no
"#;

/// The unit, with the paths that the manager of a test knows.
fn unit(program: &str, topology: &str) -> String {
    let unit = std::fs::read_to_string(workspace().join("examples/warmspare.service")).unwrap();
    assert!(unit.contains("/usr/bin/warmspare run /etc/warmspare/topology.json"));
    unit.replace("/usr/bin/warmspare", program).replace("/etc/warmspare/topology.json", topology)
}

#[test]
fn systemd_finds_no_fault_in_the_unit() {
    let folder = Folder::new("unit");
    let path = folder.join("warmspare.service");
    std::fs::write(&path, unit(program().to_str().unwrap(), TOPOLOGY)).unwrap();
    let output = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(&path)
        .output()
        .expect("systemd-analyze is missing: apt-get install systemd");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{}: {said}", output.status);
}

/// A service manager that runs the unit; it ends when dropped.
struct Manager {
    unshare: Child,
    /// The manager's process, from outside.
    pid: String,
}

impl Manager {
    fn start(folder: &Folder) -> Self {
        let mut unshare = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--mount", "--cgroup"])
            .args(["--mount-proc", "--kill-child", "sh", "-c", BECOME_MANAGER, "sh"])
            .arg(folder.join(""))
            .stdin(Stdio::null())
            .spawn()
            .expect("unshare is missing: apt-get install util-linux");
        let children = format!("/proc/{0}/task/{0}/children", unshare.id());
        let end = Instant::now() + PATIENCE;
        loop {
            assert_eq!(unshare.try_wait().unwrap(), None, "the manager has ended");
            let pid = std::fs::read_to_string(&children).unwrap_or_default().trim().to_owned();
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            if name.trim() == "systemd" {
                return Self { unshare, pid };
            }
            assert!(Instant::now() < end, "no service manager");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Runs a command where the manager is, and returns what it prints.
    fn run(&self, command: &[&str]) -> String {
        let output = Command::new("nsenter")
            .args(["--target", &self.pid, "--mount", "--pid", "--"])
            .args(command)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    fn systemctl(&self, arguments: &[&str]) {
        self.run(&[&["systemctl"], arguments, &["warmspare.service"]].concat());
    }

    /// A property of the unit.
    fn show(&self, property: &str) -> String {
        let option = format!("--property={property}");
        let line = self.run(&["systemctl", "show", "--value", &option, "warmspare.service"]);
        line.trim().to_owned()
    }

    fn wait_until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !is_so(self) {
            assert!(Instant::now() < end, "waited in vain for {what}: {}", self.state());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn state(&self) -> String {
        let properties = ["ActiveState", "Result", "StatusText", "ExecMainStatus", "NRestarts"];
        let log = self.run(&["cat", "/srv/log"]);
        format!("{:?}, log: {log}", properties.map(|property| self.show(property)))
    }

    fn wait_redundant(&self) {
        self.wait_until("redundancy", |manager| {
            manager.show("ActiveState") == "active"
                && manager.show("StatusText").starts_with("redundant")
        });
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
    }
}

/// Writes what the manager is to find: the program, a topology, the unit, and what the unit takes
/// for granted of a booted machine.
fn furnish(folder: &Folder) {
    let units = folder.join("units");
    let settings = units.join("warmspare.service.d");
    std::fs::create_dir_all(&settings).unwrap();
    std::fs::copy(program(), folder.join("warmspare")).unwrap();
    let topology = Topology::demo(Path::new("/run/warmspare/app.sock"));
    std::fs::write(folder.join("topology.json"), serde_json::to_string(&topology).unwrap())
        .unwrap();
    std::fs::write(units.join("warmspare.service"), unit(PROGRAM, TOPOLOGY)).unwrap();
    let bare = "[Unit]\nDefaultDependencies=no\n";
    for target in ["basic", "sysinit", "shutdown", "multi-user", "network"] {
        std::fs::write(units.join(format!("{target}.target")), bare).unwrap();
    }
    let service = "[Service]\nStandardError=append:/srv/log\nWatchdogSec=2\nTimeoutAbortSec=1\n";
    std::fs::write(settings.join("test.conf"), format!("{bare}{service}")).unwrap();
}

#[test]
#[ignore = "needs cgroups that can be written"]
fn a_service_manager_starts_reloads_and_restarts_it() {
    let folder = Folder::new("manager");
    furnish(&folder);
    let manager = Manager::start(&folder);
    manager.wait_redundant();
    assert_eq!(manager.show("NRestarts"), "0");

    manager.systemctl(&["reload"]);
    manager.wait_until("a reload", |m| m.run(&["cat", "/srv/log"]).contains("reloaded: "));

    manager.systemctl(&["kill", "--signal=KILL", "--kill-who=main"]);
    manager.wait_until("a restart", |m| m.show("NRestarts") == "1");
    manager.wait_redundant();

    // A stopped process tells the watchdog nothing.
    manager.systemctl(&["kill", "--signal=STOP", "--kill-who=main"]);
    manager.wait_until("the watchdog", |m| m.show("NRestarts") == "2");
    manager.wait_redundant();

    manager.systemctl(&["stop"]);
    assert_eq!(
        (manager.show("ActiveState"), manager.show("Result")),
        ("inactive".into(), "success".into())
    );

    // A mistake of the user is not tried again and again.
    manager.run(&["sh", "-c", "echo '{}' > /srv/topology.json"]);
    manager.systemctl(&["start"]);
    manager.wait_until("the end", |m| m.show("ActiveState") == "failed");
    assert_eq!(
        (manager.show("ExecMainStatus"), manager.show("NRestarts")),
        ("2".into(), "0".into())
    );
}

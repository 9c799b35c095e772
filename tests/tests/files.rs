//! The files and sockets of a running system: events on a full disk, rotation by others, the rights
//! of a guest's socket, and whose files are removed at the end.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use warmspare_tests::rig::PATIENCE;
use warmspare_tests::running::{Folder, Running};

/// A small file system in a folder, unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: PathBuf, kib: u32) -> Self {
        std::fs::create_dir(&at).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={kib}k"), "warmspare-test"]).arg(&at);
        let mounted = mount.status().expect("mount, from util-linux");
        assert!(mounted.success(), "this test mounts a small file system: run it as root");
        Self(at)
    }

    fn fill(&self) {
        // Ends with an error when the disk is full.
        let _ = std::fs::write(self.0.join("fill"), vec![0; 1 << 20]);
    }

    fn make_room(&self) {
        std::fs::remove_file(self.0.join("fill")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn lines(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let parsed = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("torn: {line}"));
    text.lines().map(parsed).collect()
}

/// Numbers of the switches in the system's own events.
fn switches(running: &Running) -> Vec<u64> {
    let events = running.client().text("/api/v1/events").unwrap();
    let events = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let switched = events.filter(|event| event["event"] == "switched");
    switched.map(|event| event["seq"].as_u64().unwrap()).collect()
}

/// Waits until the newest switch is in the file.
fn wait_written(running: &Running, file: &Path) {
    let newest = switches(running).pop().unwrap();
    let end = Instant::now() + PATIENCE;
    let is_there = || lines(file).iter().any(|line| line["seq"] == newest);
    while !is_there() {
        assert!(Instant::now() < end, "event {newest} is not in {}", file.display());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_full_disk_tears_no_event_and_the_loss_is_told() {
    let folder = Folder::new("full-disk");
    let disk = SmallDisk::mount(folder.join("disk"), 64);
    let file = disk.0.join("events");
    let topology = folder.topology(|_| ());
    let option = ["--event-file", file.to_str().unwrap()];
    let running = Running::start(&folder, &topology, &option, Stdio::null());
    running.switch(3);
    wait_written(&running, &file);
    disk.fill();
    running.switch(40);
    std::thread::sleep(Duration::from_millis(300));
    disk.make_room();
    running.switch(2);
    wait_written(&running, &file);

    let written = lines(&file);
    let numbers: Vec<u64> = written.iter().filter_map(|line| line["seq"].as_u64()).collect();
    let newest = *numbers.last().unwrap();
    let missing = newest - numbers.len() as u64;
    let lost = written.iter().filter(|line| line["event"] == "lost");
    let told: u64 = lost.map(|line| line["count"].as_u64().unwrap()).sum();
    assert!(missing > 0, "the disk was never full");
    assert_eq!(told, missing);
    assert!(running.end().success());
}

#[test]
fn an_event_file_that_was_moved_or_removed_is_made_anew() {
    let folder = Folder::new("rotated");
    let (file, moved) = (folder.join("events"), folder.join("events.old"));
    let topology = folder.topology(|_| ());
    let option = ["--event-file", file.to_str().unwrap()];
    let running = Running::start(&folder, &topology, &option, Stdio::null());
    running.switch(1);
    wait_written(&running, &file);
    std::fs::rename(&file, &moved).unwrap();
    let before = moved.metadata().unwrap().len();
    running.signal("HUP");
    let end = Instant::now() + PATIENCE;
    while !file.exists() {
        assert!(Instant::now() < end, "no new file after SIGHUP");
        std::thread::sleep(Duration::from_millis(10));
    }
    running.switch(1);
    wait_written(&running, &file);
    assert_eq!(moved.metadata().unwrap().len(), before, "the old file went on growing");
    std::fs::remove_file(&file).unwrap();
    running.switch(1);
    wait_written(&running, &file);
    assert!(running.end().success());
}

#[test]
fn a_guests_socket_has_the_rights_of_the_topology() {
    let folder = Folder::new("rights");
    let topology = folder.topology(|v| {
        v["apps"][0]["group"] = "4711".into();
        v["apps"][0]["mode"] = "0660".into();
    });
    let running = Running::start(&folder, &topology, &[], Stdio::null());
    let socket = folder.join("app.sock").metadata().unwrap();
    assert_eq!(socket.permissions().mode() & 0o777, 0o660);
    assert_eq!(socket.gid(), 4711);
    running.switch(1);
    let after = folder.join("app.sock").metadata().unwrap();
    assert_eq!((after.gid(), after.mode()), (socket.gid(), socket.mode()));
    assert!(running.end().success());
}

#[test]
fn sockets_that_another_program_has_taken_stay_at_the_end() {
    let folder = Folder::new("taken");
    let topology = folder.topology(|_| ());
    let running = Running::start(&folder, &topology, &[], Stdio::null());
    let taken = ["app.sock", "api.sock"].map(|name| {
        let path = folder.join(name);
        std::fs::remove_file(&path).unwrap();
        UnixListener::bind(&path).unwrap()
    });
    assert!(running.end().success());
    assert!(folder.join("app.sock").exists() && folder.join("api.sock").exists());
    drop(taken);
}

#[test]
fn a_file_of_another_kind_is_refused_on_reload_too() {
    let folder = Folder::new("reload");
    let topology = folder.topology(|_| ());
    let running = Running::start(&folder, &topology, &[], Stdio::null());
    std::fs::remove_file(&topology).unwrap();
    assert!(Command::new("mkfifo").arg(&topology).status().unwrap().success());
    running.signal("HUP");
    let end = Instant::now() + PATIENCE;
    let refused = || {
        let events = running.client().text("/api/v1/events").unwrap();
        events.lines().any(|line| line.contains("reload-failed") && line.contains("a pipe"))
    };
    while !refused() {
        assert!(Instant::now() < end, "the reload hangs");
        std::thread::sleep(Duration::from_millis(10));
    }
    running.switch(1);
    assert!(running.end().success());
}

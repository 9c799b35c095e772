//! More front-ends, connections or open files than there is room for: each is told, and an operator
//! gets through.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use warmspare_tests::program;
use warmspare_tests::rig::PATIENCE;
use warmspare_tests::running::{Folder, Running};

fn wait(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_second_front_end_is_told_in_the_log_in_the_state_and_as_an_event() {
    let folder = Folder::new("second");
    let topology = folder.topology(|_| ());
    let log = folder.join("log");
    let stderr = std::fs::File::create(&log).unwrap();
    let running = Running::start(&folder, &topology, &[], stderr.into());
    let app = |running: &Running| running.state().unwrap().apps[0].clone();
    let first = UnixStream::connect(folder.join("app.sock")).unwrap();
    wait("the first one", || app(&running).connected);
    let second = UnixStream::connect(folder.join("app.sock")).unwrap();
    wait("the second one", || app(&running).waiting == 1);

    let event = || running.client().text("/api/v1/events").unwrap().contains("front-end-waits");
    wait("the event", event);
    let told = || std::fs::read_to_string(&log).unwrap().contains("a second front-end (process ");
    wait("the log line", told);
    let metrics = running.client().text("/metrics").unwrap();
    let line = metrics.lines().find(|line| line.starts_with("warmspare_front_ends_waiting{"));
    assert!(line.unwrap().ends_with(" 1"), "{line:?}");
    let mut status = Command::new(program());
    status.arg("status").arg("--api-socket").arg(folder.join("api.sock"));
    let text = String::from_utf8(status.output().unwrap().stdout).unwrap();
    assert!(text.contains("app.sock: 1 waiting"), "{text}");

    drop(first);
    wait("the second one's turn", || app(&running).connected && app(&running).waiting == 0);
    drop(second);
    assert!(running.end().success());
}

#[test]
fn an_operator_gets_through_whoever_else_is_connected() {
    platform::process_limits::raise_open_files().unwrap();
    let folder = Folder::new("crowd");
    let topology = folder.topology(|_| ());
    let running = Running::start(&folder, &topology, &[], Stdio::null());
    let requests: [&[u8]; 3] = [
        b"",
        b"GET /api/v1/st",
        b"GET /api/v1/events?follow=true HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ];
    let mut crowd = Vec::new();
    for request in requests {
        for _ in 0..600 {
            let mut stream = UnixStream::connect(folder.join("api.sock")).unwrap();
            // An error means that it was cut already.
            let _ = stream.write_all(request);
            crowd.push(stream);
        }
        assert!(running.state().is_some(), "no answer beside {} others", crowd.len());
        running.switch(1);
    }
    drop(crowd);
    assert!(running.end().success());
}

#[test]
fn too_few_open_files_are_told_at_the_start() {
    let folder = Folder::new("few");
    let topology = folder.topology(|_| ());
    let mut command = Command::new("prlimit");
    command.arg("--nofile=64:64").arg(program()).arg("run").arg(&topology);
    let output = command.output().expect("prlimit, from util-linux");
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("open files") && text.contains("the limit is 64"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[test]
fn what_a_topology_is_said_to_need_suffices() {
    let folder = Folder::new("enough");
    let path = folder.topology(|v| {
        let domain = serde_json::json!({ "name": "c",
            "nic": { "emulated": { "name": "nic-c", "wire": { "switch": "lan" } } } });
        v["domains"].as_array_mut().unwrap().push(domain);
    });
    let topology = supervisor::topology::Topology::load(&path).unwrap();
    let need = operate::control::descriptors::needed(&topology) as usize;
    let running = Running::start(&folder, &path, &["--dashboard", "127.0.0.1:0"], Stdio::null());
    let open = || std::fs::read_dir(format!("/proc/{}/fd", running.pid())).unwrap().count();
    let before = open();
    running.switch(3);
    println!("{before} open files, {need} said to be needed");
    assert!(before + 60 <= need, "{before} of {need}");
    assert!(running.end().success());
}

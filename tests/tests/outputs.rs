//! Nobody reads what the program writes: standard error costs lines and nothing else, and a command
//! whose reader has gone is quiet.

use std::io::{self, Read};
use std::process::{Command, Stdio};

use warmspare_tests::program;
use warmspare_tests::running::{Folder, Running};

/// Enough switches to fill a pipe and the queue of lines behind it.
const MANY: usize = 1500;

fn lost(running: &Running) -> u64 {
    let metrics = running.client().text("/metrics").unwrap();
    let line = metrics.lines().find(|line| line.starts_with("warmspare_log_lines_lost_total "));
    line.unwrap().split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_log_whose_reader_is_gone_or_whose_disk_is_full_costs_lines_only() {
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap().into();
    let gone = || io::pipe().unwrap().1.into();
    for (name, stderr) in [("full", full()), ("gone", gone())] {
        let stderr: Stdio = stderr;
        let folder = Folder::new(name);
        let topology = folder.topology(|_| ());
        let running = Running::start(&folder, &topology, &[], stderr);
        running.switch(6);
        assert!(lost(&running) >= 6, "{name}");
        assert!(running.end().success(), "{name}");
    }
}

#[test]
fn a_log_that_nobody_reads_holds_nothing_up_and_tells_what_it_lost() {
    let folder = Folder::new("stuck");
    let topology = folder.topology(|_| ());
    let (mut reader, writer) = io::pipe().unwrap();
    let running = Running::start(&folder, &topology, &["--log-format", "json"], writer.into());
    running.switch(MANY);
    let lines = lost(&running);
    assert!(lines > 0, "the queue was not filled");

    let drain = std::thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).map(|_| text)
    });
    running.switch(1);
    assert!(running.end().success());
    let text = drain.join().unwrap().unwrap();
    let parsed = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
    let told: u64 = text.lines().map(parsed).filter_map(|l| l["fields"]["lines"].as_u64()).sum();
    assert!(told >= lines, "{told} of {lines}");
}

#[test]
fn a_stuck_log_does_not_hold_up_the_end() {
    let folder = Folder::new("stuck-end");
    let topology = folder.topology(|_| ());
    let (reader, writer) = io::pipe().unwrap();
    let running = Running::start(&folder, &topology, &[], writer.into());
    running.switch(MANY);
    assert!(running.end().success());
    drop(reader);
}

/// Runs a command whose reader is gone, and returns its status and what it says.
fn without_reader(arguments: &[&str]) -> (Option<i32>, String) {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let child = Command::new(program())
        .args(arguments)
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_command_whose_reader_is_gone_is_quiet_and_has_succeeded() {
    let folder = Folder::new("reader");
    let topology = folder.topology(|_| ());
    let running = Running::start(&folder, &topology, &[], Stdio::null());
    let (socket, topology) = (folder.join("api.sock"), topology.display().to_string());
    let socket = socket.to_str().unwrap();
    let commands: [&[&str]; 9] = [
        &["schema"],
        &["--help"],
        &["devices"],
        &["validate", &topology],
        &["status", "--api-socket", socket],
        &["status", "--format", "json", "--api-socket", socket],
        &["events", "--api-socket", socket],
        &["top", "--interval-ms", "100", "--api-socket", socket],
        &["switch", "--api-socket", socket],
    ];
    for command in commands {
        assert_eq!(without_reader(command), (Some(0), String::new()), "{command:?}");
    }
    assert!(running.end().success());
}

#[test]
fn a_full_disk_is_a_failure_in_one_line() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = Command::new(program()).arg("schema").stdout(full).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains("No space left"), "{text}");
}

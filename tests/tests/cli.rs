//! A user's mistake ends the command with one line on standard error and status 2.

use std::path::PathBuf;
use std::process::Command;

use warmspare_tests::program;
use warmspare_tests::running::Folder;

fn topology(name: &str, text: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("warmspare-{}-{name}.json", std::process::id()));
    std::fs::write(&path, text).unwrap();
    path
}

fn demo() -> serde_json::Value {
    serde_json::from_str(include_str!("../../examples/demo.json")).unwrap()
}

/// Runs `warmspare`, expects status 2 and one line, and returns the line.
fn mistake(arguments: &[&str]) -> String {
    let output = Command::new(program()).args(arguments).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
    assert_eq!(text.trim_end().lines().count(), 1, "one line: {text}");
    assert!(output.stdout.is_empty());
    text
}

fn mistake_in(name: &str, change: impl FnOnce(&mut serde_json::Value)) -> String {
    let mut value = demo();
    change(&mut value);
    let path = topology(name, &value.to_string());
    let line = mistake(&["run", path.to_str().unwrap()]);
    std::fs::remove_file(path).unwrap();
    line
}

#[test]
fn the_example_is_valid() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/demo.json");
    let output = Command::new(program()).args(["validate", example]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn the_schema_is_json() {
    let output = Command::new(program()).arg("schema").output().unwrap();
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(schema["title"], "Topology");
}

#[test]
fn a_missing_file_is_named() {
    assert!(mistake(&["validate", "/no/such.json"]).contains("/no/such.json"));
}

#[test]
fn an_unknown_key_is_named() {
    let line = mistake_in("key", |v| v["domains"][0]["colour"] = "red".into());
    assert!(line.contains("domains[0]") && line.contains("colour"), "{line}");
}

#[test]
fn one_domain_is_too_few() {
    let line = mistake_in("one", |v| drop(v["domains"].as_array_mut().unwrap().pop()));
    assert!(line.contains("needs two domains"), "{line}");
}

#[test]
fn a_socket_that_is_in_use_is_refused() {
    let path = std::env::temp_dir().join(format!("warmspare-{}-used.sock", std::process::id()));
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let line = mistake_in("used", |v| v["apps"][0]["socket"] = path.to_str().unwrap().into());
    assert!(line.contains(path.to_str().unwrap()), "{line}");
    drop(listener);
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_mistyped_option_is_one_line_too() {
    assert!(mistake(&["demo", "--faults", "0"]).contains("--faults"));
    assert!(mistake(&["demo", "--fault", "3"]).contains("--fault"));
    for value in ["soon", "NaN", "-1"] {
        let limit = format!("--max-median-interruption-ms={value}");
        assert!(mistake(&["demo", &limit]).contains("--max-median-interruption-ms"), "{value}");
    }
    assert!(mistake(&[]).contains("--help"));
}

#[test]
fn a_file_of_another_kind_is_refused_at_once_by_whatever_reads_it() {
    let folder = Folder::new("kinds");
    let fifo = folder.join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let topology = folder.topology(|_| ());
    let (topology, out) = (topology.to_str().unwrap(), folder.join("out"));
    let fifo = fifo.to_str().unwrap();
    for (file, kind) in [(fifo, "a pipe"), ("/dev/zero", "a device"), ("/tmp", "a folder")] {
        let commands: [&[&str]; 5] = [
            &["validate", file],
            &["run", file],
            &["run", topology, "--dashboard", "127.0.0.1:0", "--token-file", file],
            &["run", topology, "--event-file", file],
            &["campaign", file, "--out", out.to_str().unwrap()],
        ];
        for command in commands {
            let line = mistake(command);
            assert!(line.contains(file) && line.contains(kind), "{command:?}: {line}");
        }
    }
}

#[test]
fn a_mistake_is_a_short_line_without_control_characters() {
    let folder = Folder::new("short");
    let path = folder.join("bad.json");
    let key = format!("{{\"{}\\u001b[31m\\n\": 1}}", "k".repeat(100_000));
    for text in [key, "[".repeat(100_000), "\u{feff}{}".to_owned(), " ".repeat(2_000_000)] {
        std::fs::write(&path, text).unwrap();
        let line = mistake(&["validate", path.to_str().unwrap()]);
        assert!(line.chars().count() < 500, "{} characters", line.chars().count());
        assert!(!line.trim_end().chars().any(char::is_control), "{line:?}");
    }
    let line = mistake(&["validate", "/no/such\n\u{1b}[31mfile"]);
    assert!(!line.trim_end().chars().any(char::is_control), "{line:?}");
}

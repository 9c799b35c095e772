//! `warmspare report` as a user runs it. The campaigns here are made up; nothing was injected.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};
use warmspare_tests::browser::{Browser, Look};
use warmspare_tests::program;
use warmspare_tests::rig::PATIENCE;

const TOKEN: &str = "0123456789abcdef";

/// A campaign's folder, removed when dropped.
struct Campaign(PathBuf);

impl Campaign {
    /// Creates a campaign with two crashes and one fault that was never reached.
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("warmspare-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        let manifest = json!({
            "schema": "warmspare.campaign/1",
            "campaign": { "name": "made up", "faults": [{ "code": {} }], "until": { "injections": 3 } },
            "file": "made-up.json", "version": "0", "revision": null, "image": "00",
            "began": "2000-01-01T00:00:00Z", "jobs": 1,
            "machine": { "cpu": "none", "processors": 1, "kernel": "none", "realtime": true },
        });
        std::fs::write(path.join("campaign.json"), manifest.to_string()).unwrap();
        let campaign = Self(path);
        let lines = [record(1, true), record(2, true), record(3, false)];
        campaign.write(&lines.map(|line| line.to_string() + "\n").concat());
        campaign
    }

    fn write(&self, injections: &str) {
        std::fs::write(self.0.join("injections.jsonl"), injections).unwrap();
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Campaign {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn record(id: u64, crashed: bool) -> Value {
    let verdict = json!({ "cause": "crash", "text": "-", "detect_us": 40.0, "switch_us": 200.0 });
    json!({
        "schema": "warmspare.injection/1", "id": id, "configuration": "fast-spare", "seed": id,
        "kind": "code",
        "fault": { "address": 4096, "function": "made_up", "segment": "text", "activation": 1 },
        "moment_us": 500, "armed_ms": 1.0, "activated": crashed, "activated_after_us": null,
        "verdict": if crashed { verdict } else { Value::Null },
        "outcome": if crashed { "crash" } else { "not-activated" },
        "interruption_us": if crashed { json!(1000 * id) } else { Value::Null },
        "frames": { "sent": 9, "received": 9, "lost": 0, "duplicated": 0, "corrupted": 0 },
        "recovery": [], "machine_stall_ms": 0.0,
    })
}

fn report(arguments: &[&str]) -> Output {
    Command::new(program()).arg("report").args(arguments).output().unwrap()
}

/// Expects status 2 and one line, and returns the line.
fn mistake(arguments: &[&str]) -> String {
    let output = report(arguments);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
    assert_eq!(text.trim_end().lines().count(), 1, "one line: {text}");
    assert!(output.stdout.is_empty());
    text
}

#[test]
fn a_campaign_is_reported_in_each_format() {
    let campaign = Campaign::new("formats");
    let print = |format| {
        let output = report(&[campaign.path(), "--format", format]);
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(print("text").contains("3 attempted, 2 injected (activated), 2 detected"));
    let json: Value = serde_json::from_str(&print("json")).unwrap();
    assert_eq!(json["schema"], "warmspare.report/1");
    assert_eq!(json["groups"][0]["restored"]["count"], 2);
    assert!(print("html").contains("Service back after 2 of 2 detected failures"));
}

#[test]
fn a_torn_last_line_is_a_warning() {
    let campaign = Campaign::new("torn");
    campaign.write(&format!("{}\n{{\"schema\":\"warmsp", record(1, true)));
    let output = report(&[campaign.path()]);
    let warning = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{warning}");
    assert_eq!(warning.trim_end().lines().count(), 1, "{warning}");
    assert!(warning.contains("injections.jsonl:2: the last line is torn"), "{warning}");
    assert!(String::from_utf8(output.stdout).unwrap().contains("1 attempted"));
}

#[test]
fn mistakes_end_in_one_line_and_status_two() {
    assert!(mistake(&["/no/such"]).contains("/no/such: there is no such folder"));
    let campaign = Campaign::new("mistakes");
    campaign.write("");
    assert!(mistake(&[campaign.path()]).contains("no injection is recorded"));
    campaign.write("{\"schema\":\"warmspare.injection/2\"}\n");
    let line = mistake(&[campaign.path()]);
    assert!(line.contains("injections.jsonl:1: the schema is `warmspare.injection/2`"), "{line}");
    campaign.write("{\"schema\":\"warmspare.injection/1\"}\n");
    assert!(mistake(&[campaign.path()]).contains("injections.jsonl:1: missing field"));
    std::fs::remove_file(campaign.0.join("campaign.json")).unwrap();
    assert!(mistake(&[campaign.path()]).contains("holds no campaign"));
}

#[test]
fn an_address_that_others_reach_takes_a_token_file() {
    let campaign = Campaign::new("open");
    let line = mistake(&[campaign.path(), "--serve", "0.0.0.0:0"]);
    assert!(line.contains("--token-file"), "{line}");
}

/// A report that is being served; ended when dropped.
struct Server {
    program: Child,
    port: u16,
}

impl Server {
    fn start(arguments: &[&str]) -> Self {
        let mut program = Command::new(program())
            .arg("report")
            .args(arguments)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(program.stderr.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim_end().trim_end_matches('/').rsplit(':').next().unwrap();
        let port = port.parse().unwrap_or_else(|_| panic!("no address in {line:?}"));
        Self { program, port }
    }

    /// Sends a GET request and returns the status line and the body.
    fn get(&self, path: &str, headers: &str) -> (String, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n");
        stream.write_all(format!("{head}{headers}\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.lines().next().unwrap().into(), body.into())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

#[test]
fn on_loopback_the_page_is_served_as_the_folder_is() {
    let campaign = Campaign::new("loopback");
    let server = Server::start(&[campaign.path(), "--serve", "127.0.0.1:0"]);
    let (status, page) = server.get("/", "");
    assert!(status.contains(" 200 ") && page.contains("2 of 2 detected"), "{status}");
    let more: String = (1..=5).map(|id| record(id, true).to_string() + "\n").collect();
    campaign.write(&more);
    assert!(server.get("/page.html", "").1.contains("5 of 5 detected"));
    assert!(server.get("/page.json", "").1.starts_with('{'));
    campaign.write("nonsense\n");
    let (status, body) = server.get("/page.json", "");
    assert!(status.contains(" 409 ") && body.contains("injections.jsonl:1"), "{status} {body}");
    assert!(server.get("/other", "").0.contains(" 404 "));
}

#[test]
fn beyond_loopback_the_page_takes_the_token() {
    let campaign = Campaign::new("token");
    let file = campaign.0.join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let arguments =
        [campaign.path(), "--serve", "0.0.0.0:0", "--token-file", file.to_str().unwrap()];
    let server = Server::start(&arguments);
    let (status, opening) = server.get("/", "");
    assert!(status.contains(" 200 ") && !opening.contains("detected"), "{status}");
    assert!(server.get("/page.html", "").0.contains(" 401 "));
    assert!(server.get("/page.json", "Authorization: Bearer wrong\r\n").0.contains(" 401 "));
    let right = format!("Authorization: Bearer {TOKEN}\r\n");
    assert!(server.get("/page.html", &right).1.contains("2 of 2 detected"));

    // A browser that is given the token can open the page, and the page's own script works there.
    let browser = Browser::start();
    browser.look(Look { width: 500, height: 900, dark: true });
    browser.open(&format!("http://127.0.0.1:{}/#token={TOKEN}", server.port));
    browser.wait("the report", "return document.querySelector('.verdict .word') !== null");
    browser.wait("a sortable table", "return document.querySelector('th button') !== null");
    let sorted = browser.run(
        "const head = document.querySelector('table.sortable th.number');
         head.querySelector('button').click();
         return head.getAttribute('aria-sort');",
    );
    assert_eq!(sorted, "descending");
    let wider = browser.run("return document.documentElement.scrollWidth > innerWidth;");
    assert_eq!(wider, false, "no sideways scrolling of the whole page on a phone");
}

//! The server over real sockets, in front of a made-up system.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde_json::{Value, json};

use super::actions::Actions;
use super::client::{Client, ClientError};
use super::config::{ControlConfig, ControlError, DashboardConfig};
use super::endpoints::{ENDPOINTS, Endpoint};
use super::openapi::document;
use super::server::ControlServer;
use super::token::Token;
use super::*;
use crate::observe::event::{EventLine, Occurrence};
use crate::observe::testing::FakeSystem;
use crate::observe::{DomainView, FailoverView, Observer, Rates, ReceivedEvent, Snapshot};
use supervisor::{ExamineError, RoleState, SwitchError};

impl Actions for FakeSystem {
    fn switch(&self, to: Option<&str>) -> Result<Switched, ApiError> {
        match to {
            None | Some("b") => Ok(Switched { from: "a".into(), to: "b".into(), waited_us: 100.0 }),
            Some("a") => {
                Err(SwitchError::NotStandby { name: "a".into(), state: RoleState::Active }.into())
            }
            Some(_) => Err(ApiError::new(ErrorCode::UnknownDomain, "there is no such domain")),
        }
    }

    fn drill(&self, domain: Option<&str>) -> Result<Drilled, ApiError> {
        Ok(Drilled {
            domain: domain.unwrap_or("b").into(),
            passed: true,
            blame: None,
            attempts: 1,
            round_trip_us: 900.0,
        })
    }

    fn upgrade(&self, image: &Path, _: Option<Duration>) -> Result<Upgraded, ApiError> {
        Err(ApiError::new(ErrorCode::BadImage, image.display().to_string()))
    }

    fn pause(&self, domain: &str, _: bool) -> Result<Paused, ApiError> {
        match domain {
            "b" => Ok(Paused { domain: "b".into(), serves: Some("a".into()) }),
            "a" => Err(ExamineError::Serves { name: "a".into() }.into()),
            _ => Err(ApiError::new(ErrorCode::UnknownDomain, "there is no such domain")),
        }
    }

    fn resume(&self, domain: &str) -> Result<Resumed, ApiError> {
        match domain {
            "b" => Ok(Resumed { domain: "b".into() }),
            name => Err(ExamineError::NotPaused { name: name.into() }.into()),
        }
    }

    fn dump(&self, domain: &str) -> Result<Dumped, ApiError> {
        Ok(Dumped { domain: domain.into(), folder: "/dumps/1".into(), held_us: 900.0 })
    }

    fn debug(&self, domain: &str, _: bool, socket: Option<&Path>) -> Result<Opened, ApiError> {
        let socket = socket.unwrap_or(Path::new("/gdb.sock")).to_owned();
        let program = socket.with_extension("elf");
        Ok(Opened { domain: domain.into(), serves: None, socket, program })
    }
}

struct Rig {
    fake: Arc<FakeSystem>,
    observer: Observer,
    server: ControlServer,
    socket: PathBuf,
    token: Token,
}

fn socket_path() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("warmspare-control-{}-{number}.sock", std::process::id()))
}

impl Rig {
    fn start() -> Self {
        Self::start_at(socket_path(), "127.0.0.1:0")
    }

    fn start_at(socket: PathBuf, listen: &str) -> Self {
        let (fake, observer) = FakeSystem::observed();
        let listen = listen.parse().unwrap();
        let token = Token::random().unwrap();
        let config = ControlConfig {
            socket: Some(socket.clone()),
            dashboard: Some(DashboardConfig { listen, token: token.clone(), hosts: Vec::new() }),
            dumps: Some(dumps_folder()),
            connections: 64,
        };
        let server = ControlServer::spawn(&config, observer.clone(), fake.clone()).unwrap();
        Self { fake, observer, server, socket, token }
    }

    fn client(&self) -> Client {
        Client::new(&self.socket)
    }

    /// Sends bytes to the socket and returns the whole answer: status, head and body.
    fn raw(&self, request: &[u8]) -> (u16, String, String) {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        converse(&mut stream, request)
    }

    fn refused(&self, request: &str) -> (u16, ErrorCode) {
        let (status, _, body) = self.raw(request.as_bytes());
        let body: ErrorBody = serde_json::from_str(&body).unwrap_or_else(|e| panic!("{e}: {body}"));
        (status, body.error.code)
    }
}

fn converse(stream: &mut (impl Read + Write), request: &[u8]) -> (u16, String, String) {
    stream.write_all(request).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_lowercase(), body.to_owned())
}

/// The smallest body that a path takes.
fn body(path: &str) -> &'static str {
    match path {
        "/api/v1/switch" | "/api/v1/drill" => "{}",
        _ => "{\"domain\":\"b\"}",
    }
}

fn over_tcp(address: SocketAddr, request: &str) -> (u16, String, String) {
    converse(&mut TcpStream::connect(address).unwrap(), request.as_bytes())
}

fn post(path: &str, kind: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.0\r\nHost: localhost\r\nContent-Type: {kind}\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
}

#[test]
fn the_socket_is_its_owners_and_goes_with_the_server() {
    let rig = Rig::start();
    let mode = std::fs::metadata(&rig.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    drop(rig.server);
    assert!(!rig.socket.exists());
}

#[test]
fn a_socket_in_use_is_refused_and_a_dead_one_replaced() {
    let rig = Rig::start();
    let config = ControlConfig { socket: Some(rig.socket.clone()), ..ControlConfig::default() };
    let second = ControlServer::spawn(&config, rig.observer.clone(), rig.fake.clone());
    assert!(matches!(second, Err(ControlError::Socket { .. })));
    let dead = socket_path();
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    let rig = Rig::start_at(dead, "127.0.0.1:0");
    assert!(rig.client().get::<Snapshot>("/api/v1/state").is_ok());
}

#[test]
fn the_state_shows_both_domains_and_what_happened() {
    let rig = Rig::start();
    rig.fake.crash(&rig.observer, "crash", 400);
    let state: Snapshot = rig.client().get("/api/v1/state").unwrap();
    assert_eq!(state.schema, "warmspare.state/1");
    assert!(state.redundant);
    assert_eq!(state.active.as_deref(), Some("b"));
    let roles: Vec<_> = state.domains.iter().map(|d| (d.name.as_str(), d.role)).collect();
    assert_eq!(roles, [("a", RoleState::Standby), ("b", RoleState::Active)]);
    assert_eq!(state.last_failovers[0].to.as_deref(), Some("b"));
    assert_eq!(state.interruption.by_cause["crash"].count, 1);
}

#[test]
fn every_documented_path_answers_as_documented() {
    let rig = Rig::start();
    rig.fake.crash(&rig.observer, "crash", 400);
    let apart = ["/api/v1/upgrade", "/api/v1/dumps/{dump}/{file}"];
    let answers = |e: &&Endpoint| e.answers != ["text/event-stream"] && !apart.contains(&e.path);
    for endpoint in ENDPOINTS.iter().filter(answers) {
        let path = endpoint.path.replace("{name}", "a");
        let request = match endpoint.method {
            "get" => format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n"),
            _ => post(&path, "application/json", body(&path)),
        };
        let (status, head, body) = rig.raw(request.as_bytes());
        assert_eq!(status, 200, "{path}: {body}");
        let kind = format!("content-type: {}", endpoint.answers[0]);
        assert!(head.contains(&kind), "{path}: {head}");
    }
    let client = rig.client();
    let _: DomainView = client.get("/api/v1/domains/a").unwrap();
    let _: Vec<FailoverView> = client.get("/api/v1/failovers?most=3").unwrap();
    let _: Vec<Rates> = client.get("/api/v1/samples").unwrap();
    let served: Value = client.get("/api/v1/openapi.json").unwrap();
    assert_eq!(served, document());
}

#[test]
fn invalid_requests_get_a_typed_error() {
    let rig = Rig::start();
    let get = |path: &str| format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
    let switch = |body: &str| post("/api/v1/switch", "application/json", body);
    let json = |path: &str, body: &str| post(path, "application/json", body);
    let huge = format!("{{\"to\":\"{}\"}}", "x".repeat(10_000));
    for (request, status, code) in [
        (get("/nothing"), 404, ErrorCode::UnknownPath),
        (get("/api/v1/switch"), 405, ErrorCode::UnknownMethod),
        (get("/api/v1/domains/zz"), 404, ErrorCode::UnknownDomain),
        (get("/api/v1/failovers?most=-1"), 400, ErrorCode::BadRequest),
        (get("/api/v1/events?colour=red"), 400, ErrorCode::BadRequest),
        (switch(&huge), 413, ErrorCode::TooLarge),
        (switch("{"), 400, ErrorCode::BadJson),
        (switch("{} {}"), 400, ErrorCode::BadJson),
        (switch("{\"from\":\"a\"}"), 400, ErrorCode::BadJson),
        (switch("{\"to\":7}"), 400, ErrorCode::BadJson),
        (switch("{\"to\":\"zz\"}"), 404, ErrorCode::UnknownDomain),
        (switch("{\"to\":\"a\"}"), 409, ErrorCode::NotStandby),
        (
            post("/api/v1/upgrade", "application/json", "{\"image\":\"/x\"}"),
            422,
            ErrorCode::BadImage,
        ),
        (post("/api/v1/upgrade", "application/json", "{}"), 400, ErrorCode::BadJson),
        (json("/api/v1/pause", "{}"), 400, ErrorCode::BadJson),
        (json("/api/v1/pause", "{\"domain\":\"a\"}"), 409, ErrorCode::Serves),
        (json("/api/v1/resume", "{\"domain\":\"a\"}"), 409, ErrorCode::NotPaused),
        (json("/api/v1/gdb", "{\"domain\":7}"), 400, ErrorCode::BadJson),
        (post("/api/v1/switch", "text/plain", "{}"), 415, ErrorCode::NotJson),
    ] {
        assert_eq!(rig.refused(&request), (status, code), "{}", &request[..60.min(request.len())]);
    }
}

#[test]
fn what_is_no_http_ends_that_connection_only() {
    let rig = Rig::start();
    for garbage in [&b"\0\xff\x16\x03\x01"[..], b"GET / HTTP/9.9\r\n\r\n", &[b'a'; 100_000]] {
        let mut stream = UnixStream::connect(&rig.socket).unwrap();
        // The server may have hung up before everything was written.
        let _ = stream.write_all(garbage);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let status = answer.split(|byte| *byte == b' ').nth(1);
        assert_ne!(status, Some(&b"200"[..]), "{}", String::from_utf8_lossy(&answer));
    }
    assert!(rig.client().get::<Snapshot>("/api/v1/state").is_ok());
}

#[test]
fn events_are_lines_first_the_kept_ones_then_those_that_come() {
    let rig = Rig::start();
    rig.fake.crash(&rig.observer, "crash", 400);
    let kept = rig.client().text("/api/v1/events?after=1").unwrap();
    let parsed: Vec<EventLine> =
        kept.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(parsed[0].seq, 2);
    assert!(parsed.iter().any(|event| matches!(event.occurrence, Occurrence::Failover(_))));
    let last = kept.lines().count() as u64 + 1;
    let path = format!("/api/v1/events?follow=true&after={}", last - 1);
    let mut lines = rig.client().lines(&path).unwrap();
    let mut next =
        || -> EventLine { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    assert_eq!(next().seq, last);
    rig.fake.report(&rig.observer.recorder, ReceivedEvent::Link { nic: "nic-b".into(), up: false });
    assert_eq!(next().occurrence, Occurrence::Link { nic: "nic-b".into(), up: false });
    assert_eq!(next().occurrence, Occurrence::RedundancyLost);
}

/// Reads server-sent events until one of this kind, and returns its data.
fn wait_event(stream: &mut impl BufRead, kind: &str) -> Value {
    let mut line = String::new();
    loop {
        line.clear();
        assert!(stream.read_line(&mut line).unwrap() > 0, "the stream ended");
        if line.trim_end() == format!("event: {kind}") {
            break;
        }
    }
    while !line.starts_with("data: ") {
        line.clear();
        stream.read_line(&mut line).unwrap();
    }
    serde_json::from_str(&line["data: ".len()..]).unwrap()
}

#[test]
fn the_live_feed_shows_a_crash_within_a_second() {
    let rig = Rig::start();
    let mut stream = TcpStream::connect(rig.server.dashboard().unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.write_all(b"GET /api/v1/live HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
    let mut stream = BufReader::new(stream);
    assert_eq!(wait_event(&mut stream, "state")["active"], "a");
    let crashed = std::time::Instant::now();
    rig.fake.crash(&rig.observer, "crash", 400);
    assert_eq!(wait_event(&mut stream, "failover")["from"], "a");
    while wait_event(&mut stream, "state")["active"] != "b" {}
    assert!(crashed.elapsed() < Duration::from_secs(1));
}

#[test]
fn a_browser_that_comes_back_misses_nothing() {
    let rig = Rig::start();
    let mut stream = UnixStream::connect(&rig.socket).unwrap();
    let request =
        b"GET /api/v1/events HTTP/1.0\r\nHost: localhost\r\nAccept: text/event-stream\r\n\
        Last-Event-ID: 2\r\n\r\n";
    stream.write_all(request).unwrap();
    let event = wait_event(&mut BufReader::new(stream), "redundancy-regained");
    assert_eq!(event["seq"], 3);
}

#[test]
fn a_stuck_subscriber_delays_nobody_and_is_told_of_its_loss() {
    let rig = Rig::start();
    let mut stuck = UnixStream::connect(&rig.socket).unwrap();
    stuck.write_all(b"GET /api/v1/events?follow=true HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
    // Its first bytes are there, so it is subscribed; from here on it reads nothing.
    let mut first = [0; 1];
    stuck.read_exact(&mut first).unwrap();
    for n in 0..20_000 {
        rig.observer.recorder.record(ReceivedEvent::Link { nic: "nic-a".into(), up: n % 2 == 1 });
    }
    assert!(rig.client().get::<Snapshot>("/api/v1/state").is_ok());
    stuck.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let told = BufReader::new(stuck).lines().map_while(Result::ok).find_map(|line| {
        let value: Value = serde_json::from_str(&line).ok()?;
        (value["event"] == "lost").then(|| value["count"].as_u64().unwrap())
    });
    assert!(told.is_some_and(|lost| lost > 0), "{told:?}");
}

#[test]
fn on_the_network_changes_take_the_token() {
    let rig = Rig::start();
    let address = rig.server.dashboard().unwrap();
    let request = post("/api/v1/switch", "application/json", "{}");
    let (status, head, _) = over_tcp(address, &request);
    assert_eq!(status, 401);
    assert!(head.contains("www-authenticate: bearer"));
    let with = |token: &str| {
        let header = format!("\r\nAuthorization: Bearer {token}\r\nContent-Type:");
        over_tcp(address, &request.replacen("\r\nContent-Type:", &header, 1)).0
    };
    assert_eq!((with("0123456789abcdef"), with(rig.token.reveal())), (401, 200));
    let foreign = "GET /api/v1/state HTTP/1.0\r\nHost: evil.example\r\n\r\n";
    assert_eq!(over_tcp(address, foreign).0, 403);
}

#[test]
fn the_page_needs_nothing_from_elsewhere() {
    let rig = Rig::start();
    let address = rig.server.dashboard().unwrap();
    for path in ["/", "/page.css", "/page.js", "/charts.js"] {
        let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
        let (status, head, body) = over_tcp(address, &request);
        assert_eq!(status, 200, "{path}");
        assert!(head.contains("content-security-policy: default-src 'none'"), "{head}");
        let outside = body.replace("http://www.w3.org/2000/svg", "");
        assert!(!outside.contains("http://") && !outside.contains("https://"), "{path}");
    }
}

/// A folder with one dump in it, and a file beside it that must not be served. It is made once,
/// because another test may be reading it.
fn dumps_folder() -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(make_dumps_folder).clone()
}

fn make_dumps_folder() -> PathBuf {
    let folder = std::env::temp_dir().join(format!("warmspare-dumps-{}", std::process::id()));
    let dump = folder.join("000001-a-crash");
    std::fs::create_dir_all(&dump).unwrap();
    std::fs::write(dump.join("failure.json"), "{\"cause\":\"crash\"}").unwrap();
    std::fs::write(dump.join("secret"), "no").unwrap();
    std::fs::write(folder.join("failure.json"), "no").unwrap();
    folder
}

#[test]
fn files_of_dumps_are_served_and_nothing_else() {
    let rig = Rig::start();
    let get = |path: &str| format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
    let path = "/api/v1/dumps/000001-a-crash/failure.json";
    let (status, head, body) = rig.raw(get(path).as_bytes());
    assert_eq!((status, &*body), (200, "{\"cause\":\"crash\"}"));
    assert!(head.contains("attachment"), "{head}");
    for bad in [
        "/api/v1/dumps/000001-a-crash/secret",
        "/api/v1/dumps/000001-a-crash/core",
        "/api/v1/dumps/000002-a-crash/failure.json",
        "/api/v1/dumps/%2e%2e/failure.json",
        "/api/v1/dumps/000001-a-crash%2f..%2f/failure.json",
        "/api/v1/dumps/000001-a-%2e%2e%2f/failure.json",
        "/api/v1/dumps/000001-a-crash/..%2ffailure.json",
    ] {
        assert_eq!(rig.refused(&get(bad)), (404, ErrorCode::UnknownDump), "{bad}");
    }
    let (status, ..) = over_tcp(rig.server.dashboard().unwrap(), &get(path));
    assert_eq!(status, 401, "on the network it takes the token");
}

#[test]
fn a_switch_says_who_serves_now() {
    let rig = Rig::start();
    let request = SwitchRequest { to: Some("b".into()) };
    let done: Switched = rig.client().post("/api/v1/switch", &request).unwrap();
    assert_eq!((done.from.as_str(), done.to.as_str()), ("a", "b"));
    let request = json!({ "to": "a" });
    match rig.client().post::<Switched>("/api/v1/switch", &request) {
        Err(ClientError::Refused(error)) => assert_eq!(error.code, ErrorCode::NotStandby),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_client_without_a_server_is_told_what_to_name() {
    let error = Client::new(&socket_path()).get::<Snapshot>("/api/v1/state").unwrap_err();
    assert!(error.to_string().contains("--api-socket"), "{error}");
}

#[test]
fn a_real_parser_accepts_the_metrics() {
    let rig = Rig::start();
    rig.fake.crash(&rig.observer, "crash", 400);
    rig.fake.crash(&rig.observer, "protocol", 90);
    let text = rig.client().text("/metrics").unwrap();
    for wanted in [
        "warmspare_redundant 1\n",
        "warmspare_failovers_total{cause=\"crash\",outcome=\"taken-over\"} 1\n",
        "warmspare_domain_role{domain=\"a\",role=\"active\"} 1\n",
        "warmspare_link_up{nic=\"nic-b\",domain=\"b\"} 1\n",
        "warmspare_interruption_seconds_count{cause=\"protocol\"} 1\n",
        "warmspare_failover_duration_seconds_count{phase=\"detect\",cause=\"crash\"} 1\n",
    ] {
        assert!(text.contains(wanted), "{wanted} in {text}");
    }
    let mut promtool = std::process::Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("promtool is missing: apt-get install prometheus");
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

//! Any number of watching clients, some of them stuck, delay neither the data path nor a failover.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lab::fault::{self, Site};
use operate::control::client::Client;
use operate::control::{Plane, PlaneOptions};
use operate::observe::{FailoverOutcome, FailoverView, Snapshot};
use supervisor::Event;
use warmspare_tests::rig::{PATIENCE, Rig};

const SUBSCRIBERS: usize = 100;
const STUCK: usize = 10;
const SCRAPE_PERIOD: Duration = Duration::from_millis(100);
const CRASHES: usize = 12;
const FLOOD: usize = 20_000;
/// Limit on a watched failover: this many times as long as an unwatched one, plus the slack below.
const MOST_TIMES: f64 = 2.0;
const SLACK_US: f64 = 1000.0;

struct Watched {
    rig: Rig,
    plane: Plane,
    client: Client,
    socket: PathBuf,
}

impl Watched {
    fn start() -> Self {
        let rig = Rig::start();
        let name = format!("warmspare-watchers-{}.sock", std::process::id());
        let socket = std::env::temp_dir().join(name);
        let options = PlaneOptions { api_socket: Some(socket.clone()), ..PlaneOptions::default() };
        let plane = Plane::start(&options, &rig.topology, &rig.system).unwrap();
        Self { rig, plane, client: Client::new(&socket), socket }
    }

    fn hear_until(&self, what: &str, holds: impl Fn() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !holds() {
            assert!(Instant::now() < end, "waited in vain for {what}");
            if let Ok(event) = self.rig.system.events().recv_timeout(Duration::from_millis(5)) {
                self.plane.record(&event);
            }
        }
    }

    /// Crashes the active domain `times` times; returns the newest failures, newest first.
    fn crash(&self, times: usize) -> Vec<FailoverView> {
        for n in 0..times {
            self.rig.wait_whole();
            self.rig.run_for(Duration::from_millis(20));
            let active = self.rig.active();
            let life = self.rig.system.failover().life(active).unwrap();
            fault::corrupt_code(self.rig.slot(active), life.image(), Site::ALL[n % 3]).unwrap();
            self.hear_until("a failover", || self.rig.system.failover().active() != Some(active));
            self.hear_until("redundancy", || self.plane.is_redundant());
        }
        self.rig.run_for(Duration::from_millis(50));
        self.rig.system.events().try_iter().for_each(|event| self.plane.record(&event));
        self.client.get(&format!("/api/v1/failovers?most={times}")).unwrap()
    }
}

fn subscribe(socket: &Path) -> UnixStream {
    let mut stream = UnixStream::connect(socket).unwrap();
    let request = b"GET /api/v1/events?follow=true HTTP/1.0\r\nHost: localhost\r\n\r\n";
    stream.write_all(request).unwrap();
    stream
}

/// Reads lines until told to stop, and counts them.
fn read_on(
    mut stream: UnixStream,
    stop: Arc<AtomicBool>,
    lines: Arc<AtomicUsize>,
) -> JoinHandle<()> {
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while !stop.load(Ordering::Relaxed) {
            let read = stream.read(&mut buffer).unwrap_or(0);
            let new = buffer[..read].iter().filter(|&&byte| byte == b'\n').count();
            lines.fetch_add(new, Ordering::Relaxed);
        }
    })
}

fn scrape(socket: PathBuf, stop: Arc<AtomicBool>) -> JoinHandle<usize> {
    std::thread::spawn(move || {
        let client = Client::new(&socket);
        let mut scrapes = 0;
        while !stop.load(Ordering::Relaxed) {
            assert!(client.text("/metrics").unwrap().contains("warmspare_redundant"));
            scrapes += 1;
            std::thread::sleep(SCRAPE_PERIOD);
        }
        scrapes
    })
}

/// Median time from verdict to first frame, in microseconds.
fn median_switch_us(failovers: &[FailoverView]) -> f64 {
    let switch = |f: &FailoverView| Some(f.phases.release_us? + f.phases.first_frame_us?);
    let mut all: Vec<f64> = failovers.iter().filter_map(switch).collect();
    assert_eq!(all.len(), failovers.len(), "each failover has a first frame");
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// Reads what a stuck subscriber has missed, and returns how many events it is told that it lost.
fn told_lost(stuck: UnixStream) -> u64 {
    stuck.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut lines = BufReader::new(stuck).lines().map_while(Result::ok);
    let lost = lines.find_map(|line| {
        let value: serde_json::Value = serde_json::from_str(&line).ok()?;
        (value["event"] == "lost").then(|| value["count"].as_u64())?
    });
    lost.expect("a word about what was lost")
}

fn all_taken_over(failovers: &[FailoverView]) {
    assert_eq!(failovers.len(), CRASHES);
    for failover in failovers {
        assert_eq!(failover.outcome, FailoverOutcome::TakenOver, "{failover:?}");
    }
}

#[test]
fn a_hundred_subscribers_and_a_scraper_keep_no_failover_from_its_end() {
    let watched = Watched::start();
    let alone = watched.crash(CRASHES);
    all_taken_over(&alone);

    let (stop, lines) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let stuck: Vec<_> = (0..STUCK).map(|_| subscribe(&watched.socket)).collect();
    let reader = |_| read_on(subscribe(&watched.socket), stop.clone(), lines.clone());
    let readers: Vec<_> = (STUCK..SUBSCRIBERS).map(reader).collect();
    let scraper = scrape(watched.socket.clone(), stop.clone());
    let crowded = watched.crash(CRASHES);
    all_taken_over(&crowded);
    let events_of_a_crash = 4;
    let least = (SUBSCRIBERS - STUCK) * CRASHES * events_of_a_crash;
    watched.hear_until("all readers", || lines.load(Ordering::Relaxed) >= least);
    stop.store(true, Ordering::Relaxed);
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    assert!(scraper.join().unwrap() > 0);

    // This is more than the connections of the stuck clients hold, so that they lose events.
    for n in 0..FLOOD {
        watched.plane.record(&Event::Link { nic: "nic-x".into(), up: n % 2 == 0 });
    }
    for stuck in stuck {
        assert!(told_lost(stuck) > 0);
    }
    let state: Snapshot = watched.client.get("/api/v1/state").unwrap();
    assert!(state.redundant);
    let (alone_us, crowded_us) = (median_switch_us(&alone), median_switch_us(&crowded));
    let said = format!("{alone_us:.0} µs alone, {crowded_us:.0} µs with all of them");
    eprintln!("verdict to first frame, median of {CRASHES}: {said}");
    assert!(crowded_us <= MOST_TIMES * alone_us + SLACK_US, "{said}");
}

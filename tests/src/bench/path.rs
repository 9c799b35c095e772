//! Frame rate and cost per frame, through the switchboard alone and through the whole path.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nic::wire::{MAX_FRAME_BYTES, Port, Wire};
use switchboard::{Counters, Switchboard};

use super::alone::Alone;
use super::load::Load;
use super::sample::{Exits, Row, Sample};
use super::{BenchArgs, Figure};
use crate::frontend::{Connection, GUEST_MAC};
use crate::rig::Rig;

const GROUP: &str = "data-path";
/// MAC address of the station on the LAN.
const STATION_MAC: [u8; 6] = [0x02, 0x77, 0x73, 0, 0, 0x21];
/// Bytes of the frames on the wire without their check sequence: 64 and 1,518 with it.
pub(super) const SIZES: [(&str, usize); 2] = [("64 B", 60), ("1500 B", 1514)];
/// Frames that the station sends before it checks again how many are under way.
const BURST: u64 = 64;
/// Frames that the station may have under way: fewer than the NIC has descriptors.
const WINDOW: u64 = 320;
/// Time without an arrival after which frames under way are given up.
const PATIENCE: Duration = Duration::from_millis(2);
/// How long a station sleeps when there is nothing to do.
const PAUSE: Duration = Duration::from_micros(20);
/// Traffic before the measurement begins.
const WARM_UP: Duration = Duration::from_millis(50);

/// Target rates of the whole path, frames per second: for 64 bytes, and a gigabit link's rate for
/// 1500 bytes.
const WHOLE: [f64; 2] = [5e5, 81_274.0];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Out,
    In,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Out => "guest to wire",
            Self::In => "wire to guest",
        }
    }
}

pub(super) fn run(args: &BenchArgs) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (size, bytes) in SIZES {
        for way in [Way::Out, Way::In] {
            let row = format!("switchboard alone, {size}, {}", way.name());
            let samples = repeat(args, || alone(args.time(), bytes, way))?;
            let row = Row { group: GROUP, name: &row, samples: &samples };
            figures.extend(row.alone(size == "64 B"));
            let kicks = ("guest's kicks", "per 1000 frames");
            figures.push(row.figure(kicks, |s| s.per_thousand(s.guest_kicks)));
        }
    }
    for (n, (size, bytes)) in SIZES.into_iter().enumerate() {
        for way in [Way::Out, Way::In] {
            let row = format!("whole path, {size}, {}", way.name());
            let samples = repeat(args, || whole(args.time(), bytes, way))?;
            let row = Row { group: GROUP, name: &row, samples: &samples };
            figures.extend(whole_figures(&row, WHOLE[n]));
        }
    }
    Ok(figures)
}

fn repeat(args: &BenchArgs, mut run: impl FnMut() -> Result<Sample>) -> Result<Vec<Sample>> {
    (0..args.runs).map(|_| run()).collect()
}

fn whole_figures(row: &Row<'_>, target: f64) -> Vec<Figure> {
    let cpu = |wanted: fn(&str) -> bool| move |sample: &Sample| sample.per_frame_ns(wanted);
    let ns = |what| (what, "ns/frame");
    let often = |what| (what, "per 1000 frames");
    vec![
        row.figure(("rate", "frames/s"), Sample::rate).wanted(target),
        row.figure(ns("switchboard"), cpu(|name| name == "switchboard")),
        row.figure(ns("domain's vCPU"), cpu(|name| name.starts_with("vcpu-"))),
        row.figure(ns("NIC's engine"), cpu(|name| name.starts_with("nic-"))),
        row.figure(often("exits to wait"), |s| s.per_thousand(s.exits.waits)),
        row.figure(often("exits for registers"), |s| s.per_thousand(s.exits.registers)),
        row.figure(often("exits by kicks and signals"), |s| s.per_thousand(s.exits.kicks)),
        row.figure(often("switchboard's sleeps"), |s| s.per_thousand(s.sleeps)),
        row.figure(often("NIC's sleeps"), |s| s.sleeps_of(|name| name.starts_with("nic-"))),
        row.figure(often("switchboard's copies"), |s| s.per_thousand(s.copies)),
        row.figure(often("kicks of the domain"), |s| s.per_thousand(s.kicks)),
    ]
}

fn frame(bytes: usize, way: Way) -> Vec<u8> {
    let (to, from) = match way {
        Way::Out => (STATION_MAC, GUEST_MAC),
        Way::In => (GUEST_MAC, STATION_MAC),
    };
    let mut frame = vec![0x5a; bytes];
    frame[..6].copy_from_slice(&to);
    frame[6..12].copy_from_slice(&from);
    frame[12..14].copy_from_slice(&[0x88, 0xb5]);
    frame
}

/// Sends or receives for `time`; returns how many frames went through the guest's ring.
fn drive(load: &mut Load, way: Way, time: Duration) -> u64 {
    let end = Instant::now() + time;
    let mut frames = 0;
    while Instant::now() < end {
        let moved = match way {
            Way::Out => load.send(),
            Way::In => load.receive(),
        };
        frames += moved;
        if moved == 0 {
            std::thread::yield_now();
        }
    }
    frames
}

/// Drives the load, after a warm-up, and counts everything that can be counted.
fn measure(load: &mut Load, way: Way, time: Duration, counters: &Counters) -> Sample {
    drive(load, way, WARM_UP);
    let kicked = load.kicks;
    let mut sample = Sample::take(counters, || drive(load, way, time));
    sample.guest_kicks = load.kicks - kicked;
    sample
}

/// Measures the switchboard between a guest and a null domain.
fn alone(time: Duration, bytes: usize, way: Way) -> Result<Sample> {
    let alone = Alone::start((way == Way::In).then(|| frame(bytes, way)))?;
    let mut load = Load::new(&frame(bytes, way));
    let _connection = Connection::start(alone.socket(), load.guest());
    Ok(measure(&mut load, way, time, alone.counters()))
}

/// A thread that calls a function over and over until it is dropped.
struct Worker {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Worker {
    fn start(name: &str, mut turn: impl FnMut() + Send + 'static) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let ended = stop.clone();
        let thread = std::thread::Builder::new().name(name.into()).spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                turn();
            }
        });
        Ok(Self { stop, thread: Some(thread.context("no thread")?) })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Starts a station that takes every frame that arrives.
fn sink(port: Arc<Port>) -> Result<Worker> {
    let mut bytes = vec![0; MAX_FRAME_BYTES];
    Worker::start("station", move || {
        while port.receive(&mut bytes).is_some() {}
        std::thread::sleep(PAUSE);
    })
}

/// Starts a station that keeps a window of frames under way, and gives these up when none has
/// arrived for [`PATIENCE`].
fn flood(port: Arc<Port>, frame: Vec<u8>, switchboard: Arc<Switchboard>) -> Result<Worker> {
    let arrived = move || switchboard.counters().rx_frames.get();
    let (mut sent, mut last, mut since) = (arrived(), 0, Instant::now());
    Worker::start("station", move || {
        let now = arrived();
        if now != std::mem::replace(&mut last, now) {
            since = Instant::now();
        } else if since.elapsed() > PATIENCE {
            (sent, since) = (now, Instant::now());
        }
        if sent.saturating_sub(now) <= WINDOW {
            (0..BURST).for_each(|_| port.send(&frame));
            sent = sent.max(now) + BURST;
        } else {
            std::thread::sleep(PAUSE);
        }
    })
}

/// Measures the demo's system between a guest and a station.
fn whole(time: Duration, bytes: usize, way: Way) -> Result<Sample> {
    let mut rig = Rig::start_without_app();
    let port = rig.lan("station");
    // The switch learns where the station is.
    let mut hello = frame(60, Way::In);
    hello[..6].copy_from_slice(&[0xff; 6]);
    port.send(&hello);
    let mut load = Load::new(&frame(bytes, way));
    let _connection = Connection::start(rig.socket(), load.guest());
    let _station = match way {
        Way::Out => sink(port)?,
        Way::In => flood(port, frame(bytes, way), rig.system.switchboard().clone())?,
    };
    let before = exits(&rig)?;
    let mut sample = measure(&mut load, way, time, rig.system.switchboard().counters());
    sample.exits = exits(&rig)?.since(&before);
    Ok(sample)
}

fn exits(rig: &Rig) -> Result<Exits> {
    let failover = rig.system.failover();
    let id = failover.active().context("no domain serves")?;
    let counts = failover.life(id).context("no life")?.exits();
    Ok(Exits {
        waits: counts.waits,
        registers: counts.register_loads + counts.register_stores,
        kicks: counts.interruptions,
    })
}

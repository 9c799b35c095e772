//! Frames per second and what each costs, through the switchboard alone and all the way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use warmspare::domain::DomainId;
use warmspare::switchboard::{Counters, Switchboard};
use warmspare::vhost_user::{VhostUserConfig, VhostUserServer};
use warmspare::wire::{MAX_FRAME_BYTES, Port, Wire};

use super::ends::EPOCH;
use super::load::Load;
use super::null::NullSlot;
use super::{BenchArgs, Figure, usage};
use crate::frontend::{Connection, GUEST_MAC};
use crate::rig::Rig;

const GROUP: &str = "data-path";
/// The LAN's station.
const STATION_MAC: [u8; 6] = [0x02, 0x77, 0x73, 0, 0, 0x21];
/// Bytes of the frames on the wire without their check sequence: 64 and 1,518 with it.
pub(super) const SIZES: [(&str, usize); 2] = [("64 B", 60), ("1500 B", 1514)];
/// Frames that the station sends before it looks whether it goes too fast.
const BURST: u64 = 64;
/// Frames of the station that may be under way: fewer than the NIC has descriptors.
const WINDOW: u64 = 320;
/// Until frames that were under way are given up.
const PATIENCE: Duration = Duration::from_millis(2);
/// Between two looks of the station.
const PAUSE: Duration = Duration::from_micros(20);
/// Before the clock starts.
const WARM_UP: Duration = Duration::from_millis(50);

/// Wanted of the switchboard alone, frames of 64 bytes per second of one core.
const ALONE_64: f64 = 4e6;
/// Wanted of the whole path, frames per second: of 64 bytes, and a gigabit link's rate of 1500.
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

/// Times that the domain's vCPU left its guest.
#[derive(Default)]
struct Exits {
    waits: u64,
    registers: u64,
    kicks: u64,
}

impl Exits {
    fn since(&self, before: &Self) -> Self {
        Self {
            waits: self.waits - before.waits,
            registers: self.registers - before.registers,
            kicks: self.kicks - before.kicks,
        }
    }
}

/// What one run gave.
#[derive(Default)]
struct Sample {
    frames: u64,
    seconds: f64,
    /// Nanoseconds by thread.
    threads: BTreeMap<String, u64>,
    sleeps: u64,
    copies: u64,
    kicks: u64,
    guest_kicks: u64,
    exits: Exits,
}

impl Sample {
    fn per_frame_ns(&self, wanted: impl Fn(&str) -> bool) -> f64 {
        let ns: u64 = self.threads.iter().filter(|(name, _)| wanted(name)).map(|(_, ns)| ns).sum();
        ns as f64 / self.frames.max(1) as f64
    }

    fn per_thousand(&self, count: u64) -> f64 {
        count as f64 * 1000.0 / self.frames.max(1) as f64
    }
}

pub(super) fn run(args: &BenchArgs) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (size, bytes) in SIZES {
        for way in [Way::Out, Way::In] {
            let row = format!("switchboard alone, {size}, {}", way.name());
            let samples = repeat(args, || alone(args.time(), bytes, way))?;
            figures.extend(alone_figures(&row, &samples, size == "64 B"));
        }
    }
    for (n, (size, bytes)) in SIZES.into_iter().enumerate() {
        for way in [Way::Out, Way::In] {
            let row = format!("whole path, {size}, {}", way.name());
            let samples = repeat(args, || whole(args.time(), bytes, way))?;
            figures.extend(whole_figures(&row, &samples, WHOLE[n]));
        }
    }
    Ok(figures)
}

fn repeat(args: &BenchArgs, mut run: impl FnMut() -> Result<Sample>) -> Result<Vec<Sample>> {
    (0..args.runs).map(|_| run()).collect()
}

fn figure(
    row: &str,
    name: (&'static str, &'static str),
    samples: &[Sample],
    of: impl Fn(&Sample) -> f64,
) -> Figure {
    Figure::new(GROUP, row, name, samples.iter().map(of).collect())
}

fn alone_figures(row: &str, samples: &[Sample], has_target: bool) -> Vec<Figure> {
    let cost = |sample: &Sample| sample.per_frame_ns(|name| name == "switchboard");
    let per_core = figure(row, ("per second of its core", "frames/s"), samples, |s| 1e9 / cost(s));
    vec![
        figure(row, ("rate", "frames/s"), samples, |s| s.frames as f64 / s.seconds),
        if has_target { per_core.wanted(ALONE_64) } else { per_core },
        figure(row, ("sleeps", "per 1000 frames"), samples, |s| s.per_thousand(s.sleeps)),
        figure(row, ("guest's kicks", "per 1000 frames"), samples, |s| {
            s.per_thousand(s.guest_kicks)
        }),
    ]
}

fn whole_figures(row: &str, samples: &[Sample], target: f64) -> Vec<Figure> {
    let cpu = |wanted: fn(&str) -> bool| move |sample: &Sample| sample.per_frame_ns(wanted);
    let ns = |what| (what, "ns/frame");
    let often = |what| (what, "per 1000 frames");
    vec![
        figure(row, ("rate", "frames/s"), samples, |s| s.frames as f64 / s.seconds).wanted(target),
        figure(row, ns("switchboard"), samples, cpu(|name| name == "switchboard")),
        figure(row, ns("domain's vCPU"), samples, cpu(|name| name.starts_with("vcpu-"))),
        figure(row, ns("NIC's engine"), samples, cpu(|name| name.starts_with("nic-"))),
        figure(row, often("exits to wait"), samples, |s| s.per_thousand(s.exits.waits)),
        figure(row, often("exits for registers"), samples, |s| s.per_thousand(s.exits.registers)),
        figure(row, often("exits by kicks and signals"), samples, |s| {
            s.per_thousand(s.exits.kicks)
        }),
        figure(row, often("switchboard's sleeps"), samples, |s| s.per_thousand(s.sleeps)),
        figure(row, often("switchboard's copies"), samples, |s| s.per_thousand(s.copies)),
        figure(row, often("kicks of the domain"), samples, |s| s.per_thousand(s.kicks)),
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

/// Keeps the guest's ring turning, for so long; how many frames went through it.
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

/// Drives the load with everything counted that can be.
fn measure(load: &mut Load, way: Way, time: Duration, counters: &Counters) -> Sample {
    drive(load, way, WARM_UP);
    let (threads, began) = (usage::threads(), Instant::now());
    let count = || [counters.sleeps.get(), counters.kicks.get(), counters.copies.get()];
    let (before, kicked) = (count(), load.kicks);
    let frames = drive(load, way, time);
    let after = count();
    Sample {
        frames,
        seconds: began.elapsed().as_secs_f64(),
        threads: usage::since(&threads),
        sleeps: after[0] - before[0],
        kicks: after[1] - before[1],
        copies: after[2] - before[2],
        guest_kicks: load.kicks - kicked,
        exits: Exits::default(),
    }
}

/// The switchboard between a guest and nothing.
fn alone(time: Duration, bytes: usize, way: Way) -> Result<Sample> {
    let null = NullSlot::new()?;
    let switchboard = null.switchboard(GUEST_MAC)?;
    let socket = std::env::temp_dir().join(format!("warmspare-bench-{}.sock", std::process::id()));
    let config = VhostUserConfig { socket: socket.clone(), mac: GUEST_MAC };
    let _server = VhostUserServer::spawn(config, switchboard.port(0).context("no port")?)?;
    switchboard.install(DomainId(0), EPOCH)?;
    let source = (way == Way::In).then(|| frame(bytes, way));
    let _domain = null.start(source)?;
    switchboard.activate(DomainId(0), EPOCH)?;
    let mut load = Load::new(&frame(bytes, way));
    let _connection = Connection::start(&socket, load.guest());
    Ok(measure(&mut load, way, time, switchboard.counters()))
}

/// A thread that does something over and over until it is dropped.
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

/// A station that takes all that comes.
fn sink(port: Arc<Port>) -> Result<Worker> {
    let mut bytes = vec![0; MAX_FRAME_BYTES];
    Worker::start("station", move || {
        while port.receive(&mut bytes).is_some() {}
        std::thread::sleep(PAUSE);
    })
}

/// A station that has a window of frames under way, and gives up those that stay away for long.
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

/// The demo's system between a guest and a station.
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

//! Losses below saturation: a host behind the bridge sends at an even rate, testpmd's virtio
//! front-end sends everything back, and frames are counted at each place on the way.
//!
//! ```text
//!   host ── TAP ── warmspare ──▶ testpmd ──▶ warmspare ── TAP
//!   sent                     received, sent              came back
//! ```
//! The way out of the socket is also flooded; a full ring there makes the front-end wait. testpmd
//! sends as fast as it can, and every frame taken from its ring must come out of the TAP.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::flood::Paced;
use super::frames::{self, Named, Stations};
use super::killed::Place;
use super::testpmd::{self, Frontend, Mode};
use super::{LOSS_GROUP as GROUP, Stage};
use crate::bench::path::SIZES;
use crate::bench::{BenchArgs, Figure};
use crate::realguest::lan::{Namespace, TAPS};
use crate::realguest::service::InProcess;

/// Offered rates, in percent of the rate that comes back from a flood.
const SHARES: [u32; 3] = [25, 50, 80];
/// Time for which frames are sent.
const WINDOW: Duration = Duration::from_secs(3);
/// After this time without another frame, all frames have arrived or are lost.
const QUIET: Duration = Duration::from_millis(300);
/// How long a run waits for frames to stop arriving.
const PATIENCE: Duration = Duration::from_secs(10);

/// What one run counted.
struct Sample {
    /// Frames per second that the host sent.
    offered: f64,
    /// Frames that the host sent and testpmd did not receive.
    lost_in: f64,
    /// Frames that testpmd received but found no room for in its ring.
    no_room: f64,
    /// Frames that testpmd put into its ring and that did not come out of the TAP.
    lost_out: f64,
}

/// Measures all rows.
pub(super) fn measure(stage: &Stage, args: &BenchArgs) -> Result<Vec<Figure>> {
    testpmd::find_or_install()?;
    for namespace in [stage.lan.host(), stage.lan.bridge()] {
        silence(namespace)?;
    }
    let socket = &stage.parts.topology.apps[0].socket;
    let (file, mac) = (&stage.parts.topology_file, stage.parts.mac());
    let [ours, ..] = frames::backends(&stage.lan, file, socket, &mac);
    let mut figures = Vec::new();
    for (size, bytes) in SIZES {
        figures.extend(of_size(&ours, size, bytes, args.runs)?);
        figures.extend(outward(stage, &ours.1, size, bytes, args.runs)?);
    }
    Ok(figures)
}

fn of_size((name, place): &Named<'_>, size: &str, bytes: usize, runs: u32) -> Result<Vec<Figure>> {
    let row = format!("{name}, testpmd, {size}, there and back");
    eprintln!("bench: {row}");
    let floods: Result<Vec<_>> =
        (0..runs).map(|_| Ok(frames::sample(place, Mode::Return, bytes)?.rate)).collect();
    let saturation = Figure::new(GROUP, &row, ("saturation", "frames/s"), floods?);
    let most = saturation.median;
    let mut figures = vec![saturation];
    for share in SHARES {
        let rate = most * f64::from(share) / 100.0;
        let samples: Result<Vec<_>> = (0..runs).map(|_| sample(place, bytes, rate)).collect();
        figures.extend(rows(&format!("{row}, at {share} %"), &samples?));
    }
    Ok(figures)
}

/// Measures the way out under a flood.
fn outward(
    stage: &Stage,
    place: &Place<'_>,
    size: &str,
    bytes: usize,
    runs: u32,
) -> Result<Vec<Figure>> {
    let row = format!("warmspare, testpmd, {size}, socket to bridge, flooded");
    eprintln!("bench: {row}");
    let samples: Result<Vec<_>> = (0..runs).map(|_| flooded(stage, place, bytes)).collect();
    let samples = samples?;
    let figure = |name, place: usize| {
        Figure::new(GROUP, &row, name, samples.iter().map(|sample| sample[place]).collect())
    };
    Ok(vec![figure(("taken from the ring", "frames"), 0), figure(("lost", "frames"), 1)])
}

/// Returns how many frames were taken from the ring, and how many of these did not come out.
fn flooded(stage: &Stage, place: &Place<'_>, bytes: usize) -> Result<[f64; 2]> {
    let service = InProcess::start(stage.lan.bridge(), &stage.parts.topology)?;
    let _known = Stations::announce(place)?;
    let came_out = || {
        let each = TAPS.iter().map(|tap| stage.lan.received_from(tap));
        Ok(each.sum::<Result<u64>>()? - service.counters().announced.get())
    };
    let before = rest(came_out)?;
    let frontend = Frontend::start(stage.lan.host(), &place.socket, &place.mac, Mode::Send, bytes)?;
    std::thread::sleep(WINDOW);
    frontend.end()?;
    let out = rest(came_out)? - before;
    let taken = service.counters().tx_frames.get();
    Ok([taken as f64, taken as f64 - out as f64])
}

fn rows(row: &str, samples: &[Sample]) -> Vec<Figure> {
    let figure = |name, of: fn(&Sample) -> f64| {
        Figure::new(GROUP, row, name, samples.iter().map(of).collect())
    };
    vec![
        figure(("offered", "frames/s"), |sample| sample.offered),
        figure(("lost on the way in", "frames"), |sample| sample.lost_in),
        figure(("no room in testpmd's ring", "frames"), |sample| sample.no_room),
        figure(("lost on the way out", "frames"), |sample| sample.lost_out),
    ]
}

fn sample(place: &Place<'_>, bytes: usize, rate: f64) -> Result<Sample> {
    let _backend = place.start_afresh()?;
    let _known = Stations::announce(place)?;
    let host = place.lan.host();
    let frontend = Frontend::start(host, &place.socket, &place.mac, Mode::Return, bytes)?;
    let came_back = || place.lan.received_from(place.tap());
    let before = rest(came_back)?;
    let sent = Paced::start(host, &place.mac, bytes, rate)?.run(WINDOW)?;
    let back = rest(came_back)? - before;
    let totals = frontend.end_and_count()?;
    let difference = |from: u64, to: u64| from as f64 - to as f64;
    Ok(Sample {
        offered: sent as f64 / WINDOW.as_secs_f64(),
        lost_in: difference(sent, totals.received),
        no_room: totals.dropped as f64,
        lost_out: difference(totals.sent, back),
    })
}

/// Waits until a count no longer changes, and returns it.
fn rest(count: impl Fn() -> Result<u64>) -> Result<u64> {
    let end = Instant::now() + PATIENCE;
    let mut last = count()?;
    loop {
        std::thread::sleep(QUIET);
        let now = count()?;
        if now == std::mem::replace(&mut last, now) {
            return Ok(now);
        }
        ensure!(Instant::now() < end, "frames do not stop coming");
    }
}

/// Keeps the kernel from sending IPv6 frames of its own, so that testpmd receives only counted
/// frames.
fn silence(namespace: &Namespace) -> Result<()> {
    let switch = "/proc/sys/net/ipv6/conf/all/disable_ipv6";
    namespace.run(|| std::fs::write(switch, "1"))?.context("IPv6 cannot be switched off")
}

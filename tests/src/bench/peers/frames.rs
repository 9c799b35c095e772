//! Frames through each back-end between its socket and a TAP of the bridge. testpmd's virtio
//! front-end is at the socket; the host is behind the bridge, where it takes all frames and sends a
//! flood.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::flood::{Flood, STATION};
use super::killed::{Backend, Place};
use super::testpmd::{self, Frontend, Mode};
use crate::bench::path::SIZES;
use crate::bench::{Figure, usage};
use crate::realguest::lan::Lan;

use super::{PATH_GROUP as GROUP, beside, medians};

/// From the front-end's first figures until traffic is steady.
const WARM_UP: Duration = Duration::from_secs(1);
/// Time for which frames are counted.
const WINDOW: Duration = Duration::from_secs(3);

/// The front-end's modes, and their names in the rows.
const MODES: [(Mode, &str); 3] = [
    (Mode::Send, "socket to bridge"),
    (Mode::Receive, "bridge to socket"),
    (Mode::Return, "there and back"),
];

/// What one run measured.
pub(super) struct Sample {
    /// Frames per second.
    pub(super) rate: f64,
    /// Processor time of the back-end's process.
    ns_per_frame: f64,
    /// Times that a thread of the back-end went to sleep, per 1,000 frames.
    sleeps: f64,
}

/// A back-end and the name of its row.
pub(super) type Named<'a> = (&'static str, Place<'a>);

/// Measures all rows: ours first, for comparison with the others.
pub(super) fn measure(backends: &[Named<'_>], runs: u32) -> Vec<Figure> {
    let mut figures = Vec::new();
    for (size, bytes) in SIZES {
        for (mode, way) in MODES {
            let mut ours = None;
            for (name, place) in backends {
                let row = format!("{name}, testpmd, {size}, {way}");
                eprintln!("bench: {row}");
                let samples: Result<Vec<_>> =
                    (0..runs).map(|_| sample(place, mode, bytes)).collect();
                match samples {
                    Ok(samples) => {
                        let mut measured = rows(&row, &samples);
                        if matches!(place.backend, Backend::Warmspare(_)) {
                            ours = Some(medians(&measured));
                        }
                        beside(&mut measured, ours.as_deref());
                        figures.extend(measured);
                    }
                    Err(why) => {
                        let name = ("rate", "frames/s");
                        figures.push(Figure::missing(GROUP, &row, name, &format!("{why:#}")));
                    }
                }
            }
        }
    }
    figures
}

fn rows(row: &str, samples: &[Sample]) -> Vec<Figure> {
    let figure = |name, of: fn(&Sample) -> f64| {
        Figure::new(GROUP, row, name, samples.iter().map(of).collect())
    };
    vec![
        figure(("rate", "frames/s"), |sample| sample.rate),
        figure(("back-end's processor time", "ns/frame"), |sample| sample.ns_per_frame),
        figure(("back-end's sleeps", "per 1000 frames"), |sample| sample.sleeps),
    ]
}

pub(super) fn sample(place: &Place<'_>, mode: Mode, bytes: usize) -> Result<Sample> {
    let backend = place.start_afresh()?;
    let _known = Stations::announce(place)?;
    let frontend = Frontend::start(place.lan.host(), &place.socket, &place.mac, mode, bytes)?;
    let flood = match mode {
        Mode::Send => None,
        Mode::Receive | Mode::Return => Some(Flood::start(place.lan.host(), &place.mac, bytes)?),
    };
    std::thread::sleep(WARM_UP);
    let count = || -> Result<[u64; 3]> {
        let pid = backend.pid();
        let sent = place.lan.received_from(place.tap())?;
        Ok([sent, usage::process_ns(pid), usage::process_sleeps(pid)])
    };
    let looks = frontend.written()?;
    let (before, began) = (count()?, Instant::now());
    std::thread::sleep(WINDOW);
    let (after, seconds) = (count()?, began.elapsed().as_secs_f64());
    // The first interval began before the window.
    let received = frontend.wait_for_looks(looks, 2)?.split_off(1);
    drop(flood);
    frontend.end()?;
    let [sent, ns, sleeps] = [0, 1, 2].map(|n: usize| (after[n] - before[n]) as f64);
    let rate = match mode {
        Mode::Send | Mode::Return => sent / seconds,
        // Frames that went into the back-end need not have come out of it.
        Mode::Receive => testpmd::median(received)?,
    };
    ensure!(rate > 0.0, "no frame arrived");
    let frames = rate * seconds;
    Ok(Sample { rate, ns_per_frame: ns / frames, sleeps: sleeps * 1000.0 / frames })
}

/// Fixed entries for both stations in the bridge's forwarding table, so that it floods their frames
/// to no other port; removed when dropped.
pub(super) struct Stations<'a> {
    lan: &'a Lan,
    places: [(String, &'static str); 2],
}

impl<'a> Stations<'a> {
    pub(super) fn announce(place: &Place<'a>) -> Result<Self> {
        let places = [(place.mac.clone(), place.tap()), (STATION.to_owned(), "v0")];
        for (mac, port) in &places {
            place.lan.fix(mac, port, true)?;
        }
        Ok(Self { lan: place.lan, places })
    }
}

impl Drop for Stations<'_> {
    fn drop(&mut self) {
        for (mac, port) in &self.places {
            let _ = self.lan.fix(mac, port, false);
        }
    }
}

/// Returns the three back-ends that can serve between this socket and the bridge.
pub(super) fn backends<'a>(
    lan: &'a Lan,
    topology: &Path,
    socket: &Path,
    mac: &str,
) -> [Named<'a>; 3] {
    let named =
        |name, backend| (name, Place { backend, lan, socket: socket.to_owned(), mac: mac.into() });
    [
        ("warmspare", Backend::Warmspare(topology.to_owned())),
        ("plain back-end", Backend::Plain),
        ("DPDK vhost", Backend::Dpdk),
    ]
    .map(|(name, backend)| named(name, backend))
}

//! TCP and UDP between the host behind the bridge and the Linux guest, through each back-end.

use std::time::Duration;

use anyhow::{Result, ensure};
use lab::traffic::percentile;

use super::{PATH_GROUP as GROUP, Stage, beside, medians};
use crate::bench::Figure;
use crate::realguest::guest::GUEST;
use crate::realguest::network::Network;
use crate::realguest::ping::Ping;
use crate::realguest::stream;

use super::frames::backends;
use super::killed::Backend;
use super::testpmd;

/// 26 MB, in the guest's blocks of 64 KiB.
const BLOCKS: u64 = 400;
const PERIOD: Duration = Duration::from_millis(1);
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a ping lasts.
const PINGING: Duration = Duration::from_secs(3);

/// Names and units of what is measured, in this order.
const FIGURES: [(&str, &str); 5] = [
    ("TCP to the guest", "MB/s"),
    ("TCP from the guest", "MB/s"),
    ("UDP round trip, median", "µs"),
    ("UDP round trip, 99th percentile", "µs"),
    ("UDP round trip, longest", "µs"),
];

/// Measures all rows: ours first, for comparison with the others.
pub(super) fn measure(stage: &Stage, runs: u32) -> Vec<Figure> {
    let socket = &stage.parts.topology.apps[0].socket;
    let mac = stage.parts.mac();
    let mut all = Vec::new();
    for (name, place) in backends(&stage.lan, &stage.parts.topology_file, socket, &mac) {
        let measured = || {
            if matches!(place.backend, Backend::Dpdk) {
                testpmd::find_or_install()?;
            }
            let _backend = place.start_afresh()?;
            through(stage, &stage.vhost_user(10), runs)
        };
        eprintln!("bench: {name}, Linux guest");
        all.push((name, measured()));
    }
    eprintln!("bench: QEMU's TAP back-end, Linux guest");
    let namespace = stage.lan.bridge().name().to_owned();
    all.push(("QEMU's TAP back-end", through(stage, &Network::Tap { namespace, mac }, runs)));
    figures(all)
}

/// The values of each of [`FIGURES`].
type Values = [Vec<f64>; FIGURES.len()];

fn through(stage: &Stage, network: &Network, runs: u32) -> Result<Values> {
    let _guest = stage.boot(network)?;
    let host = stage.lan.host();
    Ping::start(host, GUEST, PERIOD)?.wait_answers(PATIENCE)?;
    let mut values = Values::default();
    for _ in 0..runs {
        values[0].push(stream::send(host, GUEST, BLOCKS)?);
        values[1].push(stream::receive(host, GUEST, BLOCKS)?);
        let ping = Ping::start(host, GUEST, PERIOD)?;
        std::thread::sleep(PINGING);
        let ledger = ping.finish()?;
        ensure!(ledger.total_corrupted() == 0, "damaged datagrams");
        let trips = ledger.round_trips_ns();
        for (place, share) in [(2, 0.5), (3, 0.99), (4, 1.0)] {
            let trip = percentile(&trips, share).unwrap_or_default();
            values[place].push(trip as f64 / 1e3);
        }
    }
    Ok(values)
}

/// Turns values into figures; those of the first back-end, ours, are the comparison for the others.
fn figures(all: Vec<(&str, Result<Values>)>) -> Vec<Figure> {
    let mut ours = None;
    let mut figures = Vec::new();
    for (place, (name, values)) in all.into_iter().enumerate() {
        let row = format!("{name}, Linux guest");
        match values {
            Err(why) => {
                figures.push(Figure::missing(GROUP, &row, FIGURES[0], &format!("{why:#}")));
            }
            Ok(values) => {
                let rows = FIGURES.into_iter().zip(values);
                let rows = rows.map(|(name, values)| Figure::new(GROUP, &row, name, values));
                let mut measured: Vec<_> = rows.collect();
                if place == 0 {
                    ours = Some(medians(&measured));
                }
                beside(&mut measured, ours.as_deref());
                figures.extend(measured);
            }
        }
    }
    figures
}

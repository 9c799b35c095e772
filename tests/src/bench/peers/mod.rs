//! Comparison with what a user has without warmspare: the same Linux guest under QEMU, the same
//! bridge, the same ping.
//!
//! | row | what it is |
//! |---|---|
//! | warmspare | faults in the serving domain; without a spare, the policy `reboot` |
//! | killed, started at once | a back-end without redundancy: `warmspare run` with one domain, the plain back-end ([`plain`]), DPDK's; QEMU connects again after 1 ms or 1 s |
//! | bonding | two igb in the guest, active-backup, a cable pulled |
//! | watcher | two igb in the guest, and a program that polls the link and moves address and route |

mod alone;
mod felt;
mod flood;
mod frames;
mod killed;
mod loss;
mod ours;
mod pair;
pub mod plain;
mod streams;
mod testpmd;
#[cfg(test)]
mod tests;

use anyhow::Result;
use lab::fault::Cause;

use super::{BenchArgs, Figure};
use crate::realguest::guest::LinuxGuest;
use crate::realguest::lan::Lan;
use crate::realguest::network::Network;
use crate::realguest::service::InProcess;
use crate::realguest::{Parts, scratch};
use felt::{Event, Felt, feel};
use killed::{Backend, Killed, Place};
use ours::Fault;
use pair::Pulled;

const GROUP: &str = "peers";
/// Group of the rows for throughput and latency in the same place.
const PATH_GROUP: &str = "peers-path";
/// Group of the rows for losses there below saturation.
const LOSS_GROUP: &str = "peers-loss";
/// Times after which QEMU connects again, milliseconds.
const RECONNECT_MS: [u32; 2] = [1, 1000];
/// Intervals at which bonding checks the link, milliseconds.
const MIIMON_MS: [u32; 3] = [100, 10, 1];
/// Intervals at which the watcher checks the link, milliseconds.
const WATCH_MS: [u32; 2] = [100, 10];

/// The environment of guests and back-ends.
struct Stage {
    lan: Lan,
    parts: Parts,
    events: u32,
}

/// Rows by name, each with its result or the reason why there is none.
type Rows = Vec<(String, Result<Felt>)>;

/// Measures how long faults interrupt the service, with warmspare and without.
pub(super) fn run(args: &BenchArgs) -> Result<Vec<Figure>> {
    let stage = Stage::new(args)?;
    let mut rows = stage.ours();
    for reconnect_ms in RECONNECT_MS {
        rows.extend(stage.killed(reconnect_ms));
    }
    rows.extend(stage.pairs());
    Ok(figures(rows))
}

/// Measures the throughput of warmspare, and of others in its place.
pub(super) fn run_path(args: &BenchArgs) -> Result<Vec<Figure>> {
    let stage = Stage::new(args)?;
    let mut figures = streams::measure(&stage, args.runs);
    let socket = &stage.parts.topology.apps[0].socket;
    let (file, mac) = (&stage.parts.topology_file, stage.parts.mac());
    match testpmd::find_or_install() {
        Ok(()) => {
            figures.extend(alone::measure(stage.lan.host(), args));
            let backends = frames::backends(&stage.lan, file, socket, &mac);
            figures.extend(frames::measure(&backends, args.runs));
        }
        Err(why) => {
            let name = ("rate", "frames/s");
            figures.push(Figure::missing(PATH_GROUP, "testpmd", name, &format!("{why:#}")));
        }
    }
    Ok(figures)
}

/// Measures what warmspare loses below saturation.
pub(super) fn run_loss(args: &BenchArgs) -> Result<Vec<Figure>> {
    loss::measure(&Stage::new(args)?, args)
}

/// Turns rows into figures; those of the first row, ours, are the comparison for all others.
fn figures(rows: Rows) -> Vec<Figure> {
    let mut ours = None;
    let mut figures = Vec::new();
    for (place, (row, felt)) in rows.into_iter().enumerate() {
        let name = ("interruption", "ms");
        let felt = match felt {
            Ok(felt) => felt,
            Err(why) => {
                figures.push(Figure::missing(GROUP, &row, name, &format!("{why:#}")));
                continue;
            }
        };
        let mut measured = vec![Figure::new(GROUP, &row, name, felt.interruption_ms)];
        if place == 0 {
            ours = Some(medians(&measured));
        }
        beside(&mut measured, ours.as_deref());
        if felt.stalled > 0 {
            let note = format!("{} left out: machine or sender stalled", felt.stalled);
            measured = measured.into_iter().map(|figure| figure.noting(note.clone())).collect();
        }
        figures.extend(measured);
        figures.push(Figure::new(GROUP, &row, ("datagrams lost", "each"), felt.lost));
    }
    figures
}

fn medians(figures: &[Figure]) -> Vec<f64> {
    figures.iter().map(|figure| figure.median).collect()
}

/// Sets our medians as the comparison for figures, in their order, if ours were measured.
fn beside(figures: &mut [Figure], ours: Option<&[f64]>) {
    for (figure, ours) in figures.iter_mut().zip(ours.unwrap_or_default()) {
        figure.hold_beside(*ours);
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = scratch().and_then(|folder| Ok(std::fs::remove_dir_all(folder)?));
    }
}

impl Stage {
    fn new(args: &BenchArgs) -> Result<Self> {
        Ok(Self { lan: Lan::new()?, parts: Parts::prepare()?, events: args.faults })
    }

    fn feel(&self, row: &str, event: &mut dyn Event) -> (String, Result<Felt>) {
        eprintln!("bench: {row}");
        (row.to_owned(), feel(&self.lan, self.events, event))
    }

    fn boot(&self, network: &Network) -> Result<LinuxGuest> {
        let guest = self.parts.boot_on(network)?;
        guest.wait_ready()?;
        // The host may cache the last guest's MAC address for this address for half a minute.
        self.lan.host().ip("neigh flush all")?;
        // The guest runs first, so that the machine's other work is not measured.
        guest.put_first(true)?;
        Ok(guest)
    }

    fn vhost_user(&self, reconnect_ms: u32) -> Network {
        let socket = self.parts.topology.apps[0].socket.path.clone();
        Network::VhostUser { socket, mac: self.parts.mac(), reconnect_ms }
    }

    /// Measures warmspare with a spare, and restarted in place.
    fn ours(&self) -> Rows {
        or_missing(
            "warmspare",
            self.with_spare().and_then(|(guest, mut rows)| {
                let service =
                    InProcess::start(self.lan.bridge(), &ours::alone(&self.parts.topology))?;
                let mut fault = Fault::new(&service, &self.lan, Cause::Crash);
                rows.push(self.feel("warmspare, crash, reboot in place", &mut fault));
                drop(guest);
                Ok(rows)
            }),
        )
    }

    fn with_spare(&self) -> Result<(LinuxGuest, Rows)> {
        let service = InProcess::start(self.lan.bridge(), &self.parts.topology)?;
        let guest = self.boot(&self.vhost_user(10))?;
        let causes =
            [(Cause::Crash, "crash"), (Cause::Hang, "hang"), (Cause::Link, "pulled cable")];
        let rows = causes.into_iter().map(|(cause, name)| {
            let mut fault = Fault::new(&service, &self.lan, cause);
            self.feel(&format!("warmspare, {name}, fast-spare"), &mut fault)
        });
        let rows = rows.collect();
        Ok((guest, rows))
    }

    /// Measures back-ends that are killed and started again at once.
    fn killed(&self, reconnect_ms: u32) -> Rows {
        let alone = self.parts.topology_file.with_extension("alone.json");
        let names = [
            ("warmspare run without a spare", Backend::Warmspare(alone.clone())),
            ("plain vhost-user back-end", Backend::Plain),
            ("DPDK testpmd vhost", Backend::Dpdk),
        ];
        let rows = names.into_iter().flat_map(|(name, backend)| {
            let row = format!("{name} killed and restarted, reconnect-ms {reconnect_ms}");
            let measured = self.kill(&row, backend, reconnect_ms);
            or_missing(&row, measured.map(|row| vec![row]))
        });
        rows.collect()
    }

    fn kill(
        &self,
        row: &str,
        backend: Backend,
        reconnect_ms: u32,
    ) -> Result<(String, Result<Felt>)> {
        match &backend {
            Backend::Warmspare(file) => {
                let alone = ours::alone(&self.parts.topology);
                std::fs::write(file, serde_json::to_string(&alone)?)?;
            }
            Backend::Plain => {}
            Backend::Dpdk => testpmd::find_or_install()?,
        }
        let (socket, mac) = (self.parts.topology.apps[0].socket.path.clone(), self.parts.mac());
        let place = Place { backend, lan: &self.lan, socket, mac };
        let running = place.start_afresh()?;
        let _guest = self.boot(&self.vhost_user(reconnect_ms))?;
        Ok(self.feel(row, &mut Killed::new(&place, running)))
    }

    /// Measures two igb NICs in the guest.
    fn pairs(&self) -> Rows {
        let mut rows = Rows::new();
        let booted = self.boot(&Network::TwoIgb { namespace: self.lan.bridge().name().to_owned() });
        let mut guest = match booted {
            Ok(guest) => guest,
            Err(why) => return or_missing("two igb in the guest", Err(why)),
        };
        for millis in MIIMON_MS {
            let row = format!("bonding active-backup, two igb, miimon {millis}, pulled cable");
            let commands = [format!("bond {millis}"), "unbond".into()];
            rows.extend(or_missing(&row, self.pull(&row, &mut guest, &commands)));
        }
        for millis in WATCH_MS {
            let row = format!("watcher in the guest, two igb, every {millis} ms, pulled cable");
            let commands = [format!("watch {millis}"), "unwatch".into()];
            rows.extend(or_missing(&row, self.pull(&row, &mut guest, &commands)));
        }
        rows
    }

    fn pull(&self, row: &str, guest: &mut LinuxGuest, commands: &[String; 2]) -> Result<Rows> {
        guest.ask(&commands[0])?;
        let felt = self.feel(row, &mut Pulled::new(guest, &self.lan)?);
        guest.ask(&commands[1])?;
        Ok(vec![felt])
    }
}

/// Returns the rows, or one row with the reason why there are none.
fn or_missing(row: &str, rows: Result<Rows>) -> Rows {
    rows.unwrap_or_else(|why| vec![(row.to_owned(), Err(why))])
}

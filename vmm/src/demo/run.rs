//! The course of a demo.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use super::report::{self, Memory, Outcome, Report, Traffic};
use crate::fault::{self, FaultError, Site};
use crate::observe::Witness;
use crate::realtime;
use crate::supervisor::{Event, FailoverReport, System, SystemError, Wires};
use crate::topology::Topology;
use crate::traffic::{Addresses, AppProcess, Sender};
use crate::wire::SwitchError;

/// Until the service answers for the first time.
const FIRST_ECHO_DEADLINE: Duration = Duration::from_secs(10);
/// From an injected fault to its verdict: the next frame meets it, within a period.
const VERDICT_DEADLINE: Duration = Duration::from_secs(5);
/// From a verdict until a spare stands by again.
const REDUNDANT_DEADLINE: Duration = Duration::from_secs(10);
/// Healthy time between redundancy and the next fault, milliseconds: at random in this range.
const HEALTHY_MS: std::ops::Range<u64> = 15..60;

/// What a demo is to do.
#[derive(Clone, Debug)]
pub struct DemoConfig {
    /// Crashes to inject.
    pub faults: u32,
    /// Between two datagrams.
    pub period: Duration,
    /// Of the random moments.
    pub seed: u64,
    /// Whether to show progress.
    pub progress: bool,
    /// When the command began, `CLOCK_MONOTONIC` nanoseconds.
    pub began_ns: u64,
}

/// Why a demo could not be carried through.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The system cannot be built.
    #[error(transparent)]
    System(#[from] SystemError),
    /// No port on the switch for the sender.
    #[error(transparent)]
    Switch(#[from] SwitchError),
    /// A process, thread or folder cannot be made.
    #[error("cannot {what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// A fault cannot be injected.
    #[error(transparent)]
    Fault(#[from] FaultError),
    /// Something did not happen in time.
    #[error("{what} within {seconds} s")]
    Late {
        /// What did not happen.
        what: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The application guest's process has ended.
    #[error("the application guest has ended: {0}")]
    AppEnded(std::process::ExitStatus),
}

/// Runs a demo to its end.
///
/// # Errors
/// The system cannot be built, or the service does not come up or recover.
pub fn run(config: &DemoConfig) -> Result<Report, DemoError> {
    let folder = Folder::new()?;
    let topology = Topology::demo(&folder.path.join("app.sock"));
    let mut wires = Wires::default();
    let port = wires.switch("lan").attach("sender")?;
    let witness =
        Witness::spawn().map_err(|source| DemoError::Io { what: "start a thread", source })?;
    let system = System::start(&topology, &mut wires)?;
    let app = &topology.apps[0];
    let app = std::env::current_exe()
        .and_then(|own| AppProcess::spawn(&own, &app.socket, app.mac, Addresses::DEFAULT_GUEST_NET))
        .map_err(|source| DemoError::Io { what: "start the application guest", source })?;
    let expected = config.faults as usize * 400 + 10_000;
    let sender = Sender::spawn(port, Addresses::DEFAULT, config.period, expected)
        .map_err(|source| DemoError::Io { what: "start the sender", source })?;
    let mut demo = Demo { config, system, app, random: fastrand::Rng::with_seed(config.seed) };
    let first_echo_ns = demo.wait_first_echo(&sender)?;
    let outcomes = demo.inject_all()?;
    // The last failover's aftermath belongs to it.
    std::thread::sleep(Duration::from_millis(120));
    let ledger = sender.finish();
    let stalls = witness.stalls();
    let slots = demo.system.slots();
    let during = |stall: &&crate::observe::Stall| stall.woke_ns >= first_echo_ns;
    Ok(Report {
        schema: "warmspare.demo/1",
        realtime: realtime::is_realtime(),
        machine_stalls_ms: stalls.iter().filter(during).map(|s| s.length_ms()).collect(),
        first_echo_ms: (first_echo_ns - config.began_ns) as f64 / 1e6,
        traffic: Traffic::of(&ledger),
        failovers: report::rows(&outcomes, slots, &ledger, &stalls),
        memory: Memory::now(),
    })
}

/// Fields are dropped in this order: the application guest before what it is connected to.
struct Demo<'a> {
    config: &'a DemoConfig,
    app: AppProcess,
    system: System,
    random: fastrand::Rng,
}

impl Demo<'_> {
    fn wait_first_echo(&mut self, sender: &Sender) -> Result<u64, DemoError> {
        let end = Instant::now() + FIRST_ECHO_DEADLINE;
        loop {
            if let Some(at_ns) = sender.first_echo_ns() {
                return Ok(at_ns);
            }
            if let Some(status) = self.app.ended() {
                return Err(DemoError::AppEnded(status));
            }
            if Instant::now() >= end {
                return Err(late("the application guest did not answer", FIRST_ECHO_DEADLINE));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn inject_all(&mut self) -> Result<Vec<Outcome>, DemoError> {
        let mut outcomes = Vec::with_capacity(self.config.faults as usize);
        for n in 0..self.config.faults {
            self.wait_redundant()?;
            std::thread::sleep(Duration::from_millis(self.random.u64(HEALTHY_MS)));
            std::thread::sleep(Duration::from_micros(self.random.u64(0..1000)));
            let outcome = self.inject(Site::ALL[n as usize % Site::ALL.len()])?;
            self.show(n, &outcome);
            outcomes.push(outcome);
        }
        if self.config.progress && std::io::stderr().is_terminal() {
            eprintln!();
        }
        Ok(outcomes)
    }

    fn inject(&mut self, site: Site) -> Result<Outcome, DemoError> {
        let failover = self.system.failover();
        let active = failover.active().ok_or_else(|| late("no domain serves", Duration::ZERO))?;
        let slot = &self.system.slots()[active.index()];
        let life = failover.life(active).ok_or_else(|| late("no domain serves", Duration::ZERO))?;
        let injected_ns = fault::corrupt_code(slot, life.image(), site)?;
        let what = format!("a corrupted {} path was not noticed", site.name());
        let failover = self.next(VERDICT_DEADLINE, &what, |event| match event {
            Event::Failover(report) => Some(*report),
            _ => None,
        })?;
        let from = failover.record.from;
        let what = "no spare stood by again";
        let redundant_ns = self.next(REDUNDANT_DEADLINE, what, |event| match event {
            Event::Ready { domain, at_ns, .. } if domain == from => Some(at_ns),
            _ => None,
        })?;
        Ok(Outcome { site, injected_ns, failover, redundant_ns })
    }

    /// The next event that `pick` takes.
    fn next<T>(
        &mut self,
        timeout: Duration,
        what: &str,
        mut pick: impl FnMut(Event) -> Option<T>,
    ) -> Result<T, DemoError> {
        let end = Instant::now() + timeout;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.system.events().recv_timeout(left) {
                Ok(event) => {
                    if let Some(picked) = pick(event) {
                        return Ok(picked);
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    return Err(match self.app.ended() {
                        Some(status) => DemoError::AppEnded(status),
                        None => late(what, timeout),
                    });
                }
            }
        }
    }

    fn wait_redundant(&self) -> Result<(), DemoError> {
        let end = Instant::now() + REDUNDANT_DEADLINE;
        while !self.system.failover().is_redundant() {
            if Instant::now() >= end {
                return Err(late("no spare stood by", REDUNDANT_DEADLINE));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// One line of progress; on a terminal it is written over the last one.
    fn show(&self, n: u32, outcome: &Outcome) {
        if !self.config.progress {
            return;
        }
        let FailoverReport { record, first_sent_ns, .. } = &outcome.failover;
        let name = |id: crate::domain::DomainId| self.system.slots()[id.index()].name.as_str();
        let switch_us = first_sent_ns.map_or(0, |at| at.saturating_sub(record.verdict_ns) / 1000);
        let text = format!(
            "failover {:>3} of {}: {} crashed in its {} path, {} sends {switch_us} µs after the verdict",
            n + 1,
            self.config.faults,
            name(record.from),
            outcome.site.name(),
            record.to.map_or("nobody", name),
        );
        let mut stderr = std::io::stderr();
        // Progress that cannot be written is not worth failing for.
        let _ = if stderr.is_terminal() {
            write!(stderr, "\r\x1b[K{text}").and_then(|()| stderr.flush())
        } else {
            writeln!(stderr, "{text}")
        };
    }
}

fn late(what: &str, waited: Duration) -> DemoError {
    DemoError::Late { what: what.to_owned(), seconds: waited.as_secs() }
}

/// A private folder for the socket; removed at the end.
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn new() -> Result<Self, DemoError> {
        let path = std::env::temp_dir().join(format!("warmspare-demo-{}", std::process::id()));
        std::fs::create_dir_all(&path)
            .map_err(|source| DemoError::Io { what: "make a folder for the socket", source })?;
        Ok(Self { path })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

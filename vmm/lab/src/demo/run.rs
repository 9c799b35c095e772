//! The course of a demo.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::config::DemoConfig;
use super::confusion;
use super::error::DemoError;
use super::outcome::Outcome;
use super::plan::{Injection, Plan};
use super::report::{self, Memory, Report, Traffic};
use super::session::Demo;
use crate::fault::Cause;
use crate::traffic::{Addresses, AppProcess, Sender};
use microvm::domain::DomainId;
use nic::wire::Port as WirePort;
use operate::control::Plane;
use operate::observe::Witness;
use platform::signals::Termination;
use platform::{realtime, stderr};
use supervisor::topology::{Policy, Topology};
use supervisor::{System, Wires};

/// Healthy time between redundancy and the next fault, milliseconds: at random in this range.
const HEALTHY_MS: std::ops::Range<u64> = 15..60;
/// How long the traffic goes on after the last recovery, whose aftermath belongs to that fault.
const AFTERMATH: Duration = Duration::from_millis(120);
/// For how long one sender counts while a demo stays: its ledger grows with every datagram.
const STAY_LEDGER: Duration = Duration::from_secs(60);
/// How long a staying demo waits for an event before it checks for a signal.
const STAY_WAIT: Duration = Duration::from_millis(50);

/// Runs a demo to its end.
///
/// # Errors
/// The system cannot be built, or the service does not come up or recover.
pub fn run(config: &DemoConfig) -> Result<Report, DemoError> {
    let signals = match config.stay {
        true => Some(Termination::block().map_err(DemoError::io("block signals"))?),
        false => None,
    };
    let folder = Folder::new()?;
    let mut topology = Topology::demo(&folder.path.join("app.sock"));
    topology.policy = config.policy;
    topology.dumps = config.dumps.clone();
    if config.policy == Policy::Reboot {
        topology.domains.truncate(1);
    }
    config.plane.check(&topology)?;
    let mut wires = Wires::default();
    let port = wires.switch("lan").attach("sender")?;
    let witness = Witness::spawn().map_err(DemoError::io("start a thread"))?;
    let system = System::start(&topology, &mut wires)?;
    let plane = Plane::start(&config.plane, &topology, &system)?;
    if let Some(url) = plane.url() {
        stderr::tell(format_args!("dashboard at {url}"));
    }
    let app = &topology.apps[0];
    let app = std::env::current_exe()
        .and_then(|own| AppProcess::spawn(&own, &app.socket, app.mac, Addresses::DEFAULT_GUEST_NET))
        .map_err(DemoError::io("start the application guest"))?;
    let expected = config.faults as usize * 400 + 10_000;
    let sender = spawn_sender(&port, config, expected)?;
    let random = fastrand::Rng::with_seed(config.seed);
    let mut demo = Demo { config, plane, system, app, wires, random };
    let first_echo_ns = demo.wait_first_echo(&sender)?;
    let outcomes = demo.inject_all()?;
    std::thread::sleep(AFTERMATH);
    let ledger = sender.finish();
    let stalls = witness.stalls();
    if let Some(signals) = &signals {
        demo.stay(&port, signals)?;
    }
    let slots = demo.system.slots();
    let during = |stall: &&operate::observe::Stall| stall.woke_ns >= first_echo_ns;
    let failovers = report::rows(&outcomes, slots, &ledger, &stalls);
    Ok(Report {
        schema: "warmspare.demo/1",
        policy: config.policy,
        realtime: realtime::is_realtime(),
        machine_stalls_ms: stalls.iter().filter(during).map(|s| s.length_ms()).collect(),
        first_echo_ms: (first_echo_ns - config.began_ns) as f64 / 1e6,
        traffic: Traffic::of(&ledger),
        stall_free_median_us: report::stall_free_median_us(&failovers),
        causes: confusion::summaries(&failovers),
        failovers,
        memory: Memory::now(),
    })
}

fn spawn_sender(
    port: &Arc<WirePort>,
    config: &DemoConfig,
    datagrams: usize,
) -> Result<Sender, DemoError> {
    Sender::spawn(port.clone(), Addresses::DEFAULT, config.period, datagrams)
        .map_err(DemoError::io("start the sender"))
}

impl Demo<'_> {
    fn inject_all(&mut self) -> Result<Vec<Outcome>, DemoError> {
        let mut outcomes = Vec::with_capacity(self.config.faults as usize);
        let mut variants = [0; Cause::ALL.len()];
        for n in 0..self.config.faults {
            self.wait_redundant()?;
            std::thread::sleep(Duration::from_millis(self.random.u64(HEALTHY_MS)));
            std::thread::sleep(Duration::from_micros(self.random.u64(0..1000)));
            let injection = match self.config.plan {
                Plan::Only(cause) => Injection::Fault(cause),
                Plan::Mixed => Injection::Fault(Cause::ALL[self.random.usize(0..Cause::ALL.len())]),
                Plan::Planned(operation) => Injection::Operation(operation),
            };
            let outcome = match injection {
                Injection::Fault(cause) => {
                    let variant = &mut variants[cause as usize];
                    *variant += 1;
                    self.inject(cause, *variant - 1)?
                }
                Injection::Operation(operation) => self.operate(operation, n)?,
            };
            self.show(n, &outcome);
            outcomes.push(outcome);
        }
        if self.config.progress && std::io::stderr().is_terminal() {
            stderr::put("\n");
        }
        Ok(outcomes)
    }

    /// One line of progress; on a terminal it is written over the last one.
    fn show(&self, n: u32, outcome: &Outcome) {
        if !self.config.progress {
            return;
        }
        let name = |id: DomainId| self.system.slots()[id.index()].name.as_str();
        let text = format!(
            "fault {:>3} of {}: {} in {} ({}), found as {}, {} sends {:.0} µs after the verdict",
            n + 1,
            self.config.faults,
            outcome.injected.name(),
            name(outcome.from()),
            outcome.site,
            outcome.cause(),
            outcome.to().map_or("nobody", name),
            outcome.switch_us(),
        );
        stderr::put(&match std::io::stderr().is_terminal() {
            true => format!("\r\x1b[K{text}"),
            false => format!("{text}\n"),
        });
    }

    /// Goes on with the traffic until a signal comes, each sender being replaced by the next.
    fn stay(&self, port: &Arc<WirePort>, signals: &Termination) -> Result<(), DemoError> {
        stderr::tell(format_args!("the faults are over; the traffic goes on until SIGINT"));
        while !signals.wait(Duration::ZERO) {
            let sender = spawn_sender(port, self.config, 0)?;
            let end = Instant::now() + STAY_LEDGER;
            while Instant::now() < end && !signals.wait(Duration::ZERO) {
                if let Ok(event) = self.system.events().recv_timeout(STAY_WAIT) {
                    self.plane.record(&event);
                }
            }
            sender.finish();
        }
        Ok(())
    }
}

/// A private folder for the socket, removed when dropped.
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn new() -> Result<Self, DemoError> {
        let path = std::env::temp_dir().join(format!("warmspare-demo-{}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(DemoError::io("make a folder for the socket"))?;
        Ok(Self { path })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

//! The course of a demo.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::inject::Plan;
use super::report::{self, Memory, Report, Traffic};
use crate::control::{Plane, PlaneError, PlaneOptions};
use crate::fault::FaultError;
use crate::observe::Witness;
use crate::realtime;
use crate::signals::Termination;
use crate::supervisor::{SwitchError, System, SystemError, UpgradeError, Wires};
use crate::topology::{DumpSpec, Policy, Topology};
use crate::traffic::{Addresses, AppProcess, Sender};
use crate::wire::Port as WirePort;

/// Until the service answers for the first time.
const FIRST_ECHO_DEADLINE: Duration = Duration::from_secs(10);

/// How long one sender's books are kept while a demo stays.
const STAY_BOOKS: Duration = Duration::from_secs(60);
/// How long a staying demo waits for an event before it looks for a signal.
const STAY_LOOK: Duration = Duration::from_millis(50);

/// What a demo is to do.
#[derive(Clone, Debug)]
pub struct DemoConfig {
    /// Faults to inject.
    pub faults: u32,
    /// Which ones.
    pub plan: Plan,
    /// Between two datagrams.
    pub period: Duration,
    /// What happens when the active domain fails.
    pub policy: Policy,
    /// Where failed domains leave their remains, if anywhere.
    pub dumps: Option<DumpSpec>,
    /// Of the random moments.
    pub seed: u64,
    /// Whether to show progress.
    pub progress: bool,
    /// Whether to go on with the traffic after the last fault, until SIGINT or SIGTERM.
    pub stay: bool,
    /// Where the demo can be watched.
    pub plane: PlaneOptions,
    /// When the command began, `CLOCK_MONOTONIC` nanoseconds.
    pub began_ns: u64,
}

/// Why a demo could not be carried through.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The system cannot be built.
    #[error(transparent)]
    System(#[from] SystemError),
    /// It cannot be watched as asked.
    #[error(transparent)]
    Plane(#[from] PlaneError),
    /// No port on the switch for the sender.
    #[error(transparent)]
    Port(#[from] crate::wire::SwitchError),
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
    /// A planned switch was refused.
    #[error("the planned switch did not take place")]
    Switch(#[from] SwitchError),
    /// An upgrade was refused or rolled back.
    #[error("the upgrade did not take place")]
    Upgrade(#[from] UpgradeError),
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
    let signals = match config.stay {
        true => Some(Termination::block().map_err(|source| io("block signals", source))?),
        false => None,
    };
    let folder = Folder::new()?;
    let mut topology = Topology::demo(&folder.path.join("app.sock"));
    topology.policy = config.policy;
    topology.dumps = config.dumps.clone();
    if config.policy == Policy::Reboot {
        topology.domains.truncate(1);
    }
    let mut wires = Wires::default();
    let port = wires.switch("lan").attach("sender")?;
    let witness = Witness::spawn().map_err(|source| io("start a thread", source))?;
    let system = System::start(&topology, &mut wires)?;
    let plane = Plane::start(&config.plane, &topology, &system)?;
    if let Some(url) = plane.url() {
        eprintln!("warmspare: dashboard at {url}");
    }
    let app = &topology.apps[0];
    let app = std::env::current_exe()
        .and_then(|own| AppProcess::spawn(&own, &app.socket, app.mac, Addresses::DEFAULT_GUEST_NET))
        .map_err(|source| io("start the application guest", source))?;
    let expected = config.faults as usize * 400 + 10_000;
    let sender = spawn_sender(&port, config, expected)?;
    let random = fastrand::Rng::with_seed(config.seed);
    let mut demo = Demo { config, plane, system, app, wires, random };
    let first_echo_ns = demo.wait_first_echo(&sender)?;
    let outcomes = demo.inject_all()?;
    // The last failover's aftermath belongs to it.
    std::thread::sleep(Duration::from_millis(120));
    let ledger = sender.finish();
    let stalls = witness.stalls();
    if let Some(signals) = &signals {
        demo.stay(&port, signals)?;
    }
    let slots = demo.system.slots();
    let during = |stall: &&crate::observe::Stall| stall.woke_ns >= first_echo_ns;
    let failovers = report::rows(&outcomes, slots, &ledger, &stalls);
    Ok(Report {
        schema: "warmspare.demo/1",
        policy: config.policy,
        realtime: realtime::is_realtime(),
        machine_stalls_ms: stalls.iter().filter(during).map(|s| s.length_ms()).collect(),
        first_echo_ms: (first_echo_ns - config.began_ns) as f64 / 1e6,
        traffic: Traffic::of(&ledger),
        stall_free_median_us: report::stall_free_median_us(&failovers),
        failovers,
        memory: Memory::now(),
    })
}

fn io(what: &'static str, source: std::io::Error) -> DemoError {
    DemoError::Io { what, source }
}

fn spawn_sender(
    port: &Arc<WirePort>,
    config: &DemoConfig,
    datagrams: usize,
) -> Result<Sender, DemoError> {
    Sender::spawn(port.clone(), Addresses::DEFAULT, config.period, datagrams)
        .map_err(|source| io("start the sender", source))
}

/// Fields are dropped in this order: whoever watches, then the application guest before what it is
/// connected to.
pub(super) struct Demo<'a> {
    pub(super) config: &'a DemoConfig,
    pub(super) plane: Plane,
    pub(super) app: AppProcess,
    pub(super) system: System,
    pub(super) wires: Wires,
    pub(super) random: fastrand::Rng,
}

impl Demo<'_> {
    /// Goes on with the traffic until a signal comes. The books of a sender grow with every
    /// datagram, so one gives way to the next.
    fn stay(&self, port: &Arc<WirePort>, signals: &Termination) -> Result<(), DemoError> {
        eprintln!("warmspare: the faults are over; the traffic goes on until SIGINT");
        while !signals.wait(Duration::ZERO) {
            let sender = spawn_sender(port, self.config, 0)?;
            let end = Instant::now() + STAY_BOOKS;
            while Instant::now() < end && !signals.wait(Duration::ZERO) {
                if let Ok(event) = self.system.events().recv_timeout(STAY_LOOK) {
                    self.plane.hear(&event);
                }
            }
            sender.finish();
        }
        Ok(())
    }

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
}

pub(super) fn late(what: &str, waited: Duration) -> DemoError {
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

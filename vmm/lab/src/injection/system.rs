//! One system under traffic: built on a testbed, with an application guest that answers and a
//! sender that counts.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::kinds::Configuration;
use super::testbed::Testbed;
use crate::app::{App, AppConfig, AppError, Ipv4Cidr, StationMac};
use crate::traffic::{Addresses, Ledger, Sender};
use microvm::domain::{DomainId, Life};
use operate::observe::{Stall, Witness};
use platform::budget::{CAMPAIGN, CampaignBudget};
use supervisor::topology::{DumpSpec, Topology};
use supervisor::{System, SystemError, Wires};

/// Most datagrams for which the sender's ledger has room from the start.
const LEDGER_ROOM: usize = 4096;

/// Why a system did not come up; this is no outcome of a fault.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetupError {
    /// The system cannot be built.
    #[error(transparent)]
    System(#[from] SystemError),
    /// The application guest does not start.
    #[error(transparent)]
    App(#[from] AppError),
    /// A thread or folder cannot be had.
    #[error("cannot {what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The system did not come up.
    #[error("{0} in time")]
    Late(&'static str),
}

/// How a system is to be set up.
pub(crate) struct Setup<'a> {
    pub(crate) configuration: Configuration,
    /// Between two datagrams of the sender.
    pub(crate) period: Duration,
    /// Where the socket goes.
    pub(crate) folder: &'a Path,
    /// Where failed domains leave their core files.
    pub(crate) dumps: Option<&'a Path>,
}

/// The system and its traffic. Its fields are dropped in this order.
pub(crate) struct SystemUnderTest {
    sender: Option<Sender>,
    app: Option<App>,
    pub(super) system: System,
    witness: Witness,
    configuration: Configuration,
    period: Duration,
    pub(super) budget: CampaignBudget,
    /// When the first echo came back, `CLOCK_MONOTONIC` nanoseconds.
    pub(super) first_echo_ns: u64,
}

/// The domain that serves.
pub(crate) struct Serving {
    pub(crate) domain: DomainId,
    pub(crate) life: Arc<Life>,
}

/// What is known of a system only when it has been taken down.
pub(super) struct Remains {
    /// Whether echoes came back without a break at the end.
    pub(super) serving: bool,
    pub(super) ledger: Ledger,
    /// What the application guest reports of itself.
    pub(super) app: Result<(), String>,
    pub(super) stalls: Vec<Stall>,
}

impl SystemUnderTest {
    /// Starts a system under traffic, and returns when it is whole.
    pub(crate) fn start(testbed: &dyn Testbed, setup: &Setup<'_>) -> Result<Self, SetupError> {
        let mut topology = testbed.topology(setup.configuration, setup.folder);
        topology.dumps = setup.dumps.map(DumpSpec::in_dir);
        let budget = CAMPAIGN.times(testbed.slowness());
        let mut wires = Wires::default();
        let wire = testbed.wire(&mut wires).map_err(io("plug the sender in"))?;
        let witness = Witness::spawn().map_err(io("start a thread"))?;
        let system = System::start(&topology, &mut wires)?;
        let app = App::start(&app_config(&topology))?;
        let period = setup.period;
        let expected = (budget.up.as_micros() / period.as_micros().max(1)) as usize;
        let room = expected.min(LEDGER_ROOM);
        let sender = Sender::spawn(wire, Addresses::DEFAULT, period, room)
            .map_err(io("start the sender"))?;
        let mut started = Self {
            sender: Some(sender),
            app: Some(app),
            system,
            witness,
            configuration: setup.configuration,
            period,
            budget,
            first_echo_ns: 0,
        };
        started.first_echo_ns = started.wait("the application guest did not answer", |it| {
            it.sender.as_ref().and_then(Sender::first_echo_ns)
        })?;
        started.wait("the system was not whole", |it| it.is_whole().then_some(()))?;
        if setup.configuration == Configuration::None {
            started.system.abandon();
        }
        Ok(started)
    }

    fn wait<T>(
        &self,
        what: &'static str,
        mut check: impl FnMut(&Self) -> Option<T>,
    ) -> Result<T, SetupError> {
        let end = Instant::now() + self.budget.up;
        loop {
            match check(self) {
                Some(answer) => return Ok(answer),
                None if Instant::now() >= end => return Err(SetupError::Late(what)),
                None => std::thread::sleep(self.budget.look),
            }
        }
    }

    /// Returns true if a domain serves, and a spare stands by where the configuration has one.
    pub(super) fn is_whole(&self) -> bool {
        let failover = self.system.failover();
        match self.configuration {
            Configuration::FastSpare | Configuration::Spare => failover.is_redundant(),
            Configuration::Reboot | Configuration::None => failover.active().is_some(),
        }
    }

    /// The domain that serves.
    pub(crate) fn serving(&self) -> Result<Serving, SetupError> {
        let failover = self.system.failover();
        let domain = failover.active().ok_or(SetupError::Late("no domain serves"))?;
        let life = failover.life(domain).ok_or(SetupError::Late("no domain serves"))?;
        Ok(Serving { domain, life })
    }

    /// How long no echo has come back, at this time.
    pub(super) fn silent_ns(&self, now_ns: u64) -> u64 {
        let last_echo_ns = self.sender.as_ref().and_then(Sender::last_echo_ns).unwrap_or(0);
        now_ns.saturating_sub(last_echo_ns)
    }

    /// A silence that is longer means that the service is disturbed.
    pub(super) fn clean_gap_ns(&self) -> u64 {
        4 * self.period.as_nanos() as u64 + self.budget.slack.as_nanos() as u64
    }

    /// Takes everything down. `end_ns` is when the observation ended.
    pub(super) fn finish(mut self, end_ns: u64) -> Remains {
        let serving = self.silent_ns(end_ns) < self.clean_gap_ns();
        let ledger = self.sender.take().map_or_else(Ledger::default, Sender::finish_soon);
        // The guest goes before the system: it would lose its back-end otherwise.
        let app = match self.app.take() {
            Some(app) => app.stop().map(drop).map_err(|error| error.to_string()),
            None => Ok(()),
        };
        Remains { serving, ledger, app, stalls: self.witness.stalls() }
    }
}

fn app_config(topology: &Topology) -> AppConfig {
    let (app, address) = (&topology.apps[0], Addresses::DEFAULT.guest_ip);
    AppConfig {
        socket: app.socket.path.clone(),
        mac: StationMac(app.mac.0),
        address: Ipv4Cidr { address, prefix_len: 24 },
        udp_port: Addresses::DEFAULT.guest_port,
    }
}

fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> SetupError {
    move |source| SetupError::Io { what, source }
}

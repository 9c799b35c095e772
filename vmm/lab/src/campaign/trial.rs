//! One injection: a fresh system under traffic, one fault, and everything that can be seen of it
//! from outside.
//!
//! ```text
//!  start ─ first echo ─ redundant ─ moment ─ armed ─ reached? ─ verdict? ─ clean again? ─ end
//!                                                 └ no ───────────── clean and whole? ─────┘
//! ```
//! It ends as soon as the outcome is certain.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::order::Order;
use super::spec::Configuration;
use super::strike::{StrikeError, strike};
use super::target::Target;
use super::testbed::Testbed;
use crate::app::{App, AppConfig, AppError, Ipv4Cidr, StationMac};
use crate::traffic::{Addresses, Ledger, Sender};
use microvm::domain::{DomainId, Life};
use operate::observe::{Stall, Witness};
use platform::budget::{CAMPAIGN, CampaignBudget};
use platform::clock::monotonic_ns;
use supervisor::topology::{DumpSpec, Topology};
use supervisor::{Event, FailoverReport, System, SystemError, Wires};

/// Why a trial could not be carried out; no outcome of the fault.
#[derive(Debug, thiserror::Error)]
pub(super) enum TrialError {
    /// The system cannot be built.
    #[error(transparent)]
    System(#[from] SystemError),
    /// The application guest does not start.
    #[error(transparent)]
    App(#[from] AppError),
    /// The fault cannot be injected.
    #[error(transparent)]
    Strike(#[from] StrikeError),
    /// No thread or folder.
    #[error("cannot {what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// The system did not come up.
    #[error("{0} in time")]
    Late(&'static str),
}

/// Everything that was seen.
pub(super) struct Observation {
    /// When the first echo came back; this and all times `CLOCK_MONOTONIC` nanoseconds.
    pub(super) first_echo_ns: u64,
    pub(super) armed_ns: u64,
    pub(super) activated_ns: Option<u64>,
    /// When the observation ended.
    pub(super) end_ns: u64,
    /// The domain that had the fault.
    pub(super) victim: DomainId,
    /// Failures, in order.
    pub(super) failovers: Vec<FailoverReport>,
    /// Wakeups that were lost and healed: whose, when.
    pub(super) healed: Vec<(DomainId, u64)>,
    /// Domains that came up again, and when.
    pub(super) ready: Vec<(DomainId, u64)>,
    /// Whether echoes came back without a break at the end.
    pub(super) serving: bool,
    /// Whether the system was whole at the end: somebody serves, and a spare stands by where one
    /// belongs.
    pub(super) whole: bool,
    pub(super) ledger: Ledger,
    pub(super) stalls: Vec<Stall>,
    /// What the application guest says of itself.
    pub(super) app: Result<(), String>,
    pub(super) dump: Option<PathBuf>,
    /// How many times as long everything may take there.
    pub(super) slowness: u32,
}

/// The system and its traffic. Fields are dropped in this order.
pub(super) struct Stage {
    sender: Option<Sender>,
    app: Option<App>,
    pub(super) system: System,
    witness: Witness,
    configuration: Configuration,
    budget: CampaignBudget,
    pub(super) first_echo_ns: u64,
}

impl Stage {
    /// A system under traffic, whole.
    pub(super) fn set(
        testbed: &dyn Testbed,
        configuration: Configuration,
        period: Duration,
        (folder, dumps): (&Path, Option<&Path>),
    ) -> Result<Self, TrialError> {
        let mut topology = testbed.topology(configuration, folder);
        topology.dumps = dumps.map(DumpSpec::in_dir);
        let budget = CAMPAIGN.times(testbed.slowness());
        let mut wires = Wires::default();
        let wire = testbed.wire(&mut wires).map_err(io("plug the sender in"))?;
        let witness = Witness::spawn().map_err(io("start a thread"))?;
        let system = System::start(&topology, &mut wires)?;
        let app = App::start(&app_config(&topology))?;
        let expected = (budget.up.as_micros() / period.as_micros().max(1)) as usize;
        let sender = Sender::spawn(wire, Addresses::DEFAULT, period, expected.min(4096))
            .map_err(io("start the sender"))?;
        let mut stage = Self {
            sender: Some(sender),
            app: Some(app),
            system,
            witness,
            configuration,
            budget,
            first_echo_ns: 0,
        };
        stage.first_echo_ns = stage.wait("the application guest did not answer", |stage| {
            stage.sender.as_ref().and_then(Sender::first_echo_ns)
        })?;
        stage.wait("the system was not whole", |stage| stage.is_whole().then_some(()))?;
        if configuration == Configuration::None {
            stage.system.abandon();
        }
        Ok(stage)
    }

    fn wait<T>(
        &self,
        what: &'static str,
        mut ask: impl FnMut(&Self) -> Option<T>,
    ) -> Result<T, TrialError> {
        let end = Instant::now() + self.budget.up;
        loop {
            match ask(self) {
                Some(answer) => return Ok(answer),
                None if Instant::now() >= end => return Err(TrialError::Late(what)),
                None => std::thread::sleep(self.budget.look),
            }
        }
    }

    /// Whether somebody serves, and a spare stands by where one belongs.
    fn is_whole(&self) -> bool {
        let failover = self.system.failover();
        match self.configuration {
            Configuration::FastSpare | Configuration::Spare => failover.is_redundant(),
            Configuration::Reboot | Configuration::None => failover.active().is_some(),
        }
    }

    /// The domain that serves, and its life.
    pub(super) fn active(&self) -> Result<(DomainId, Arc<Life>), TrialError> {
        let failover = self.system.failover();
        let active = failover.active().ok_or(TrialError::Late("no domain serves"))?;
        let life = failover.life(active).ok_or(TrialError::Late("no domain serves"))?;
        Ok((active, life))
    }

    fn last_echo_ns(&self) -> u64 {
        self.sender.as_ref().and_then(Sender::last_echo_ns).unwrap_or(0)
    }
}

/// Carries an order out.
///
/// # Errors
/// The system did not come up, or the fault cannot be injected.
pub(super) fn carry_out(
    order: &Order,
    target: &Target,
    testbed: &dyn Testbed,
    folder: &Path,
) -> Result<Observation, TrialError> {
    let period = Duration::from_micros(order.period_us.into());
    let folders = (folder, order.dumps.as_deref());
    let stage = Stage::set(testbed, order.configuration, period, folders)?;
    // What happened while the system came up says nothing; from now on, a failure is one.
    stage.system.events().try_iter().for_each(drop);
    let (victim, life) = stage.active()?;
    std::thread::sleep(Duration::from_micros(order.moment_us));
    let slot = &stage.system.slots()[victim.index()];
    let armed_ns = monotonic_ns();
    let mut watch = Watch {
        stage: &stage,
        life: &life,
        order,
        period_ns: period.as_nanos() as u64,
        unclean_ns: armed_ns,
        activated_ns: None,
        failovers: Vec::new(),
        healed: Vec::new(),
        ready: Vec::new(),
        dump: None,
    };
    watch.look();
    // A domain that has failed without any fault is found already, and gets none.
    if watch.failovers.is_empty() {
        watch.activated_ns = strike((slot, &life), target, order.kind, &order.fault)?;
    }
    let whole = watch.run(armed_ns);
    let Watch { activated_ns, failovers, healed, ready, dump, .. } = watch;
    let seen = Observation {
        first_echo_ns: stage.first_echo_ns,
        armed_ns,
        activated_ns,
        end_ns: monotonic_ns(),
        victim,
        failovers,
        healed,
        ready,
        serving: false,
        whole,
        ledger: Ledger::default(),
        stalls: Vec::new(),
        app: Ok(()),
        dump,
        slowness: testbed.slowness(),
    };
    drop(life);
    Ok(stage.end(seen, period))
}

impl Stage {
    /// Longer silences are no clean service.
    fn clean_gap_ns(&self, period_ns: u64) -> u64 {
        4 * period_ns + self.budget.slack.as_nanos() as u64
    }

    /// Takes everything down, and adds what is known only then.
    fn end(mut self, mut seen: Observation, period: Duration) -> Observation {
        let silent_ns = seen.end_ns.saturating_sub(self.last_echo_ns());
        seen.serving = silent_ns < self.clean_gap_ns(period.as_nanos() as u64);
        if let Some(sender) = self.sender.take() {
            seen.ledger = sender.finish_soon();
        }
        // Before the system: a guest whose back-end has gone has nothing to say.
        if let Some(app) = self.app.take() {
            seen.app = app.stop().map(drop).map_err(|error| error.to_string());
        }
        seen.stalls = self.witness.stalls();
        seen
    }
}

/// Looks on until the outcome is certain.
struct Watch<'a> {
    stage: &'a Stage,
    life: &'a Life,
    order: &'a Order,
    period_ns: u64,
    /// When the service was last seen to be not clean.
    unclean_ns: u64,
    activated_ns: Option<u64>,
    failovers: Vec<FailoverReport>,
    healed: Vec<(DomainId, u64)>,
    ready: Vec<(DomainId, u64)>,
    dump: Option<PathBuf>,
}

impl Watch<'_> {
    /// Looks until it is over; whether the system was whole then.
    fn run(&mut self, armed_ns: u64) -> bool {
        loop {
            std::thread::sleep(self.stage.budget.look);
            self.look();
            // At the same moment as the rest: a failure of which nobody was told yet leaves a
            // system that is not whole, and is waited for.
            let whole = self.stage.is_whole();
            if self.is_over(armed_ns, whole, monotonic_ns()) {
                return whole;
            }
        }
    }

    fn look(&mut self) {
        let sprung_ns = self.life.sprung_ns();
        if self.activated_ns.is_none() && sprung_ns != 0 {
            self.activated_ns = Some(sprung_ns);
            self.unclean_ns = sprung_ns;
        }
        let now_ns = monotonic_ns();
        if now_ns.saturating_sub(self.stage.last_echo_ns())
            > self.stage.clean_gap_ns(self.period_ns)
        {
            self.unclean_ns = now_ns;
        }
        for event in self.stage.system.events().try_iter() {
            match event {
                Event::Failover(report) => {
                    self.unclean_ns = now_ns;
                    self.failovers.push(*report);
                }
                Event::Healed { domain, at_ns, .. } => self.healed.push((domain, at_ns)),
                Event::Ready { domain, at_ns, .. } => self.ready.push((domain, at_ns)),
                Event::Dumped { folder, .. } => self.dump = Some(folder),
                _ => {}
            }
        }
    }

    fn is_over(&self, armed_ns: u64, whole: bool, now_ns: u64) -> bool {
        let since = |at_ns: u64| Duration::from_nanos(now_ns.saturating_sub(at_ns));
        let sound = whole && since(self.unclean_ns) >= self.stage.budget.clean;
        if let Some(first) = self.failovers.first() {
            let dumped = self.order.dumps.is_none() || self.dump.is_some();
            return sound && dumped || since(first.record.verdict_ns) >= self.patience();
        }
        let (watched, wanted_ms) = match self.activated_ns {
            Some(activated_ns) => (since(activated_ns), self.order.observe_ms),
            None => (since(armed_ns), self.order.reach_ms),
        };
        let wanted = Duration::from_millis(wanted_ms.into());
        // Something is wrong and nobody has noticed yet: a detector may still.
        watched >= wanted && (sound || watched >= wanted + self.stage.budget.silence)
    }

    fn patience(&self) -> Duration {
        match self.order.configuration {
            Configuration::FastSpare | Configuration::Spare | Configuration::Reboot => {
                self.stage.budget.recovery
            }
            Configuration::None => self.stage.budget.no_recovery,
        }
    }
}

fn app_config(topology: &Topology) -> AppConfig {
    let (app, address) = (&topology.apps[0], Addresses::DEFAULT.guest_ip);
    AppConfig {
        socket: app.socket.clone(),
        mac: StationMac(app.mac.0),
        address: Ipv4Cidr { address, prefix_len: 24 },
        udp_port: Addresses::DEFAULT.guest_port,
    }
}

fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> TrialError {
    move |source| TrialError::Io { what, source }
}

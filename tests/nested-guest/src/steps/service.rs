//! The product itself on real NICs, with an application guest, a sender, and faults.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use lab::app::{App, AppConfig};
use lab::fault::{Cause, Victim};
use lab::traffic::{Addresses, Sender};
use microvm::domain::{DomainId, DomainSlot, Life};
use nic::discovery;
use nic::pci::PciAddress;
use operate::observe::Witness;
use platform::clock::monotonic_ns;
use supervisor::topology::{NicSpec, Policy, Topology};
use supervisor::{DomainView, Event, FailoverRecord, FailoverReport, RoleState, System, Wires};
use warmspare_tests::emulation;

use super::outcomes::{Outcome, Outcomes};
use crate::report::Report;
use crate::wire::SenderWire;

/// Time between two wakes of the threads that notice stalls: a wake costs each processor a fifth of
/// a millisecond here.
const WITNESS_PERIOD: Duration = Duration::from_millis(2);
/// Time between two datagrams, unless a step sets another.
pub(super) const PERIOD: Duration = Duration::from_millis(1);
/// How long a wait lasts before it fails. This is no promise about the product: a machine under
/// load stands still for tenths of a second here.
const PATIENCE: Duration = Duration::from_secs(30);
/// Number of samples, a millisecond apart, that a wait takes before it fails, however long that is:
/// if others use the processors too, the machine may have run for a tenth of the time that passed.
const MIN_SAMPLES: u32 = 10_000;
/// Number of drills that are tried before a fault: the machine may stand still during one, or a
/// failover without an injected fault may come in between.
const DRILLS: usize = 3;
/// How long healthy traffic runs between two faults.
const HEALTHY: Duration = Duration::from_millis(150);
/// Number of frames from the guest that prove that the service is back.
const RECOVERED: u64 = 10;
/// How long the sender waits for the last echoes: an accepted frame that is not back then is lost.
const LINGER: Duration = Duration::from_secs(3);
/// Names of the cables, in the order of their NICs.
pub(super) const CABLES: [&str; 2] = ["nic0", "nic1"];

/// Returns the NICs of this machine that the domains use.
pub(super) fn nics() -> Result<[PciAddress; 2]> {
    let list = discovery::list()?;
    match list.as_slice() {
        [a, b] => Ok([a.address, b.address]),
        other => bail!("{} NICs instead of two", other.len()),
    }
}

/// The setup of a run: the policy, and the NIC of each domain.
pub(super) struct Setup {
    pub(super) policy: Policy,
    pub(super) nics: Vec<PciAddress>,
    /// Time between two datagrams.
    pub(super) period: Duration,
}

impl Setup {
    /// A setup with this policy, in which each domain has a NIC of its own.
    pub(super) fn of(policy: Policy) -> Result<Self> {
        let nics = nics()?;
        let count = if policy == Policy::Reboot { 1 } else { nics.len() };
        Ok(Self { policy, nics: nics[..count].to_vec(), period: PERIOD })
    }

    /// A setup with two domains on one NIC.
    pub(super) fn shared() -> Result<Self> {
        let nic = nics()?[0];
        Ok(Self { policy: Policy::Spare, nics: vec![nic, nic], period: PERIOD })
    }

    fn topology(&self) -> Topology {
        let mut topology = Topology::demo(Path::new("/tmp/app.sock"));
        topology.policy = self.policy;
        // Drills come before each fault instead of by the clock.
        emulation::be_patient(&mut topology);
        topology.domains.truncate(self.nics.len());
        for (domain, nic) in topology.domains.iter_mut().zip(&self.nics) {
            domain.nic = NicSpec::Vfio(*nic);
        }
        topology
    }
}

/// A running system with traffic through it.
pub(super) struct Service<'a> {
    report: &'a Report,
    policy: Policy,
    /// `None` after it has handed over its ledger.
    sender: Option<Sender>,
    app: App,
    pub(super) system: System,
    witness: Witness,
    outcomes: Vec<Outcome>,
    /// Failovers without an injected fault.
    uncaused: Vec<String>,
    /// Round trips of the drills before the faults.
    drills_us: Vec<f64>,
    /// Drills before the faults that did not pass, and what each said.
    drills_failed: Vec<String>,
    first_echo_ms: f64,
}

impl<'a> Service<'a> {
    /// Starts the service and waits for the first echo.
    pub(super) fn start(report: &'a Report, setup: &Setup) -> Result<Self> {
        let (witness, began) = (Witness::spawn_each(WITNESS_PERIOD)?, Instant::now());
        let topology = setup.topology();
        let system = System::start(&topology, &mut Wires::default())?;
        let app = &topology.apps[0];
        let app = App::start(&AppConfig {
            socket: app.socket.path.clone(),
            mac: app.mac.to_string().parse()?,
            address: Addresses::DEFAULT_GUEST_NET.parse()?,
            udp_port: Addresses::DEFAULT.guest_port,
        })?;
        let sender = Sender::spawn(SenderWire::open()?, Addresses::DEFAULT, setup.period, 100_000)?;
        let sender = Some(sender);
        let mut service = Self {
            report,
            policy: setup.policy,
            sender,
            app,
            system,
            witness,
            outcomes: Vec::new(),
            uncaused: Vec::new(),
            drills_us: Vec::new(),
            drills_failed: Vec::new(),
            first_echo_ms: 0.0,
        };
        service.wait("the first echo", |s| {
            s.sender.as_ref().is_some_and(|sender| sender.first_echo_ns().is_some())
        })?;
        service.first_echo_ms = super::ms(began.elapsed());
        Ok(service)
    }

    pub(super) fn wait(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        let mut samples = 0;
        while !holds(self) {
            samples += 1;
            if let Some(why) = self.app.failure() {
                bail!("waited for {what}, and the application guest ended: {why}");
            }
            if Instant::now() > end && samples > MIN_SAMPLES {
                let events: Vec<_> = self.system.events().try_iter().collect();
                let state = self.describe();
                bail!("waited in vain for {what}; events: {events:?}; {state}");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Describes the faults so far, and where frames could be.
    fn describe(&self) -> String {
        let faults: Vec<_> =
            self.outcomes.iter().map(|outcome| (outcome.injected, outcome.site)).collect();
        let scene = super::scene::describe(&self.system, &self.app);
        format!("faults: {faults:?}; unexpected failovers: {:?}; {scene}", self.uncaused)
    }

    pub(super) fn wait_whole(&self) -> Result<()> {
        self.wait("redundancy", |s| {
            let failover = s.system.failover();
            match s.policy {
                Policy::FastSpare => failover.is_redundant(),
                // A NIC that no driver has attached yet has no link.
                Policy::Spare => {
                    let standby = |view: &DomainView| view.state == RoleState::Standby;
                    failover.active().is_some() && failover.views().iter().any(standby)
                }
                Policy::Reboot => failover.active().is_some(),
            }
        })
    }

    /// Returns the cause that the last verdict named.
    pub(super) fn last_verdict(&self) -> &'static str {
        self.outcomes.last().map_or("nothing", |outcome| outcome.report.record.verdict.cause())
    }

    /// Returns the slot of the domain that serves.
    pub(super) fn serving_slot(&self) -> Result<&DomainSlot> {
        let active = self.system.failover().active().context("no domain serves")?;
        Ok(&self.system.slots()[active.index()])
    }

    /// Drills the standby, if it has attached its NIC, as in a service that has run for more than
    /// the minute between two drills.
    fn drill(&mut self) -> Result<()> {
        if self.policy != Policy::FastSpare {
            return Ok(());
        }
        for _ in 0..DRILLS {
            self.wait_whole()?;
            match self.system.failover().drill(None) {
                Ok(report) if report.passed() => {
                    self.drills_us.push(report.round_trip_ns as f64 / 1000.0);
                    return Ok(());
                }
                other => self.drills_failed.push(format!("{other:?}")),
            }
        }
        bail!("no standby passes its drill: {:?}", self.drills_failed)
    }

    /// Waits until frames from the guest arrive again: that is what recovery means, not a domain's
    /// role.
    fn wait_traffic(&self) -> Result<()> {
        let sent = |s: &Self| s.system.switchboard().counters().tx_frames.get();
        let before = sent(self);
        self.wait("traffic", |s| sent(s) >= before + RECOVERED)
    }

    /// Injects faults of one cause, each after redundancy is back.
    pub(super) fn inject(&mut self, cause: Cause, times: usize) -> Result<()> {
        for number in 0..times {
            // QEMU checks only two bits of a descriptor's type, so the other variant of dropping
            // what is sent has no effect there.
            let variant = if cause == Cause::SilentTx { 0 } else { number };
            let damage = |service: &Self, id: DomainId, life: &Life| {
                let at_ns = monotonic_ns();
                if cause == Cause::Link {
                    service.report.set_link(CABLES[id.index()], false)?;
                    return Ok(("cable", at_ns));
                }
                let slot = &service.system.slots()[id.index()];
                let injected = Victim { slot, life, port: None }.inject(cause, variant)?;
                Ok((injected.site, injected.at_ns))
            };
            let failed = self.suffer(cause.name(), damage)?;
            if cause == Cause::Link {
                self.report.set_link(CABLES[failed.index()], true)?;
            }
            self.wait_whole()?;
        }
        Ok(())
    }

    /// Damages the domain that serves, once there is redundancy, and waits for the failover.
    /// Returns the domain that was damaged.
    pub(super) fn suffer(
        &mut self,
        injected: &'static str,
        damage: impl FnOnce(&Self, DomainId, &Life) -> Result<(&'static str, u64)>,
    ) -> Result<DomainId> {
        self.wait_whole()?;
        self.wait_traffic()?;
        self.drill()?;
        std::thread::sleep(HEALTHY);
        self.drain_events();
        let failover = self.system.failover().clone();
        let active = failover.active().context("no domain serves")?;
        let life = failover.life(active).context("no domain serves")?;
        let (site, injected_ns) = damage(self, active, &life)?;
        let failed = self.await_failure(active, life.epoch());
        let report = failed.with_context(|| format!("{injected} ({site})"))?;
        let struck_ns = injected_ns.max(life.fault_reached_ns());
        drop(life);
        let spare = self.policy != Policy::Reboot;
        if report.record.to.is_none() && spare && self.uncaused.is_empty() {
            bail!("no domain took over: {report:?}");
        }
        if injected != Cause::Link.name() {
            self.wait_whole()?;
        }
        let whole_ns = monotonic_ns();
        self.outcomes.push(Outcome { injected, site, injected_ns, struck_ns, whole_ns, report });
        Ok(active)
    }

    /// Takes the events before the next fault; failovers among them have no injected fault.
    fn drain_events(&mut self) {
        for event in self.system.events().try_iter() {
            if let Event::Failover(report) = &event {
                self.uncaused.push(evidence(report));
            }
        }
    }

    fn await_failure(&mut self, id: DomainId, epoch: u32) -> Result<FailoverReport> {
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let event = self.system.events().recv_timeout(left);
            match event.context("the fault was not noticed")? {
                Event::Failover(report)
                    if (report.record.from, report.record.epoch) == (id, epoch) =>
                {
                    return Ok(*report);
                }
                Event::Failover(report) => self.uncaused.push(evidence(&report)),
                Event::BuildFailed { reason, given_up: true, .. } => {
                    bail!("a domain could not be built: {reason}")
                }
                // Other events do not matter here.
                _ => {}
            }
        }
    }

    /// Ends the traffic and the system, and returns the results.
    pub(super) fn finish(mut self) -> Result<Outcomes> {
        self.wait_whole()?;
        self.wait_traffic()?;
        std::thread::sleep(HEALTHY);
        self.drain_events();
        let sender = self.sender.take().context("the sender's ledger was already taken")?;
        let ledger = sender.finish_after(LINGER);
        Ok(Outcomes {
            policy: self.policy,
            outcomes: std::mem::take(&mut self.outcomes),
            uncaused: std::mem::take(&mut self.uncaused),
            drills_us: std::mem::take(&mut self.drills_us),
            drills_failed: std::mem::take(&mut self.drills_failed),
            stalls: self.witness.stalls(),
            ledger,
            accepted: self.app.report().datagrams_echoed,
            poisoned: self.system.switchboard().counters().tx_poisoned.get(),
            first_echo_ms: self.first_echo_ms,
        })
    }
}

/// Describes a failover without an injected fault: the domain that failed, its successor, and what
/// the detector saw.
fn evidence(report: &FailoverReport) -> String {
    let FailoverRecord { from, to, verdict, .. } = report.record;
    format!("{from:?} to {to:?}: {verdict}: {verdict:?}; {}", report.crash_summary)
}

impl Drop for Service<'_> {
    fn drop(&mut self) {
        // Otherwise the sender would go on into the next step.
        if let Some(sender) = self.sender.take() {
            sender.finish();
        }
    }
}

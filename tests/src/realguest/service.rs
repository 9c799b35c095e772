//! Runs warmspare, either inside this process, so that faults can be injected, or as a separate
//! program.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lab::fault::{Cause, Victim};
use supervisor::topology::{Policy, Topology};
use supervisor::{Event, FailoverRecord, FailoverReport, System, Wires};
use switchboard::Counters;

use super::lan::Namespace;

/// How long a test waits for a failover, or until the system is redundant again.
const PATIENCE: Duration = Duration::from_secs(20);

/// The system in this process, with its TAPs in a namespace.
pub(crate) struct InProcess {
    system: System,
    policy: Policy,
}

impl InProcess {
    /// Starts the system, and waits until it is redundant.
    ///
    /// # Errors
    /// The system does not start, or does not become redundant in time.
    pub(crate) fn start(namespace: &Namespace, topology: &Topology) -> Result<Self> {
        let service = Self::start_without_waiting(namespace, topology)?;
        service.wait_redundant()?;
        Ok(service)
    }

    /// Starts the system.
    ///
    /// # Errors
    /// It does not start.
    pub(crate) fn start_without_waiting(
        namespace: &Namespace,
        topology: &Topology,
    ) -> Result<Self> {
        let system = namespace.run(|| System::start(topology, &mut Wires::default()))??;
        Ok(Self { system, policy: topology.policy })
    }

    /// Waits until one domain is active, and a spare stands by if the policy has one.
    ///
    /// # Errors
    /// This does not happen in time.
    pub(crate) fn wait_redundant(&self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        let failover = self.system.failover();
        let whole = || match self.policy {
            Policy::FastSpare | Policy::Spare => failover.is_redundant(),
            Policy::Reboot => failover.active().is_some(),
        };
        while !whole() {
            if Instant::now() > end {
                bail!("not whole within {} s", PATIENCE.as_secs());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Waits until the system is redundant, and checks that no domain has failed unexpectedly.
    ///
    /// # Errors
    /// As for [`Self::wait_redundant`]; or a domain has failed since the last fault although no
    /// fault was injected.
    pub(crate) fn settle(&self) -> Result<()> {
        self.wait_redundant()?;
        self.expect_no_uncaused_failover()
    }

    /// Checks that no domain has failed since the events were last read.
    ///
    /// # Errors
    /// A domain has failed although no fault was injected.
    pub(crate) fn expect_no_uncaused_failover(&self) -> Result<()> {
        let failovers = self.system.events().try_iter().filter_map(|event| match event {
            Event::Failover(report) => Some(evidence(&report)),
            _ => None,
        });
        let uncaused: Vec<_> = failovers.collect();
        ensure!(uncaused.is_empty(), "unexpected failovers: {}", uncaused.join("; "));
        Ok(())
    }

    /// The counters of its switchboard.
    pub(crate) fn counters(&self) -> &Counters {
        self.system.switchboard().counters()
    }

    /// Returns the index of the active domain.
    ///
    /// # Errors
    /// No domain is active.
    pub(crate) fn active(&self) -> Result<usize> {
        Ok(self.system.failover().active().context("no domain serves")?.index())
    }

    /// Injects a fault into the active domain. Returns the time of the injection.
    ///
    /// # Errors
    /// No domain is active, or there is no such fault.
    pub(crate) fn inject(&self, cause: Cause, variant: usize) -> Result<u64> {
        let failover = self.system.failover();
        let id = failover.active().context("no domain serves")?;
        let life = failover.life(id).context("the active domain has no life")?;
        let victim = Victim { slot: &self.system.slots()[id.index()], life: &life, port: None };
        Ok(victim.inject(cause, variant)?.at_ns)
    }

    /// Waits for the next failover, which must be from the domain with this index.
    ///
    /// # Errors
    /// There is none in time; or another domain has failed, although no fault was injected into it.
    pub(crate) fn wait_failover_of(&self, failed: usize) -> Result<FailoverReport> {
        let report = self.wait_failover()?;
        let is_it = report.record.from.index() == failed;
        ensure!(is_it, "unexpected failover: {}", evidence(&report));
        Ok(report)
    }

    /// Waits for the next failover.
    ///
    /// # Errors
    /// There is none in time, or a domain cannot be built.
    pub(crate) fn wait_failover(&self) -> Result<FailoverReport> {
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.system.events().recv_timeout(left).context("no failover")? {
                Event::Failover(report) => return Ok(*report),
                Event::BuildFailed { reason, .. } => bail!("a domain cannot be built: {reason}"),
                _ => {}
            }
        }
    }
}

/// What only tests look at.
#[cfg(test)]
impl InProcess {
    /// What is known to keep the NIC of the domain with this index from working.
    pub(crate) fn trouble(&self, index: usize) -> Option<String> {
        self.system.slots()[index].nic.trouble()
    }

    /// Returns true if the link of the NIC of the domain with this index is up.
    pub(crate) fn link_is_up(&self, index: usize) -> bool {
        self.system.slots()[index].nic.link_up()
    }

    /// Returns true if a domain serves and another could take over.
    pub(crate) fn is_redundant(&self) -> bool {
        self.system.failover().is_redundant()
    }

    /// Waits until a condition holds.
    ///
    /// # Errors
    /// It does not hold in time.
    pub(crate) fn wait(&self, what: &str, holds: impl Fn(&Self) -> bool) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while !holds(self) {
            ensure!(Instant::now() < end, "waited in vain for {what}");
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

/// Describes an unexpected failover for an error message.
fn evidence(report: &FailoverReport) -> String {
    let FailoverRecord { from, to, verdict, .. } = report.record;
    format!("{from:?} to {to:?}: {verdict}: {verdict:?}; {}", report.crash_summary)
}

/// A program that runs in a namespace. It is killed when dropped.
pub(crate) struct Program(Child);

impl Program {
    /// Starts `warmspare run TOPOLOGY`.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn start(namespace: &Namespace, topology: &Path) -> Result<Self> {
        Self::spawn(namespace, Command::new(crate::program()).arg("run").arg(topology))
    }

    /// Starts any program, without standard input and error. The caller decides about its standard
    /// output.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn spawn(namespace: &Namespace, command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::null()).stderr(Stdio::null());
        let child = namespace.run(|| command.spawn())?;
        let name = command.get_program().to_string_lossy();
        Ok(Self(child.with_context(|| format!("{name} cannot be started"))?))
    }

    /// Sends the program SIGINT, as Ctrl-C would, and waits until it has ended.
    ///
    /// # Errors
    /// It does not end in time.
    pub(crate) fn interrupt(mut self, patience: Duration) -> Result<()> {
        // SAFETY: the arguments are plain integers. The process is a child that was not yet waited
        // for, so its ID is still its own.
        unsafe { libc::kill(self.0.id() as i32, libc::SIGINT) };
        let end = Instant::now() + patience;
        while self.0.try_wait()?.is_none() {
            ensure!(Instant::now() < end, "a program does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Its process ID.
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

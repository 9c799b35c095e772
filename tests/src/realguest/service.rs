//! warmspare itself: inside this process, so that faults can be injected, or as the program.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use warmspare::fault::{Cause, Victim};
use warmspare::supervisor::{Event, FailoverReport, System, Wires};
use warmspare::topology::Topology;

use super::lan::Namespace;

/// How long a failover, or being redundant again, may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(20);

/// The system in this process, its TAPs in a namespace.
pub(super) struct InProcess {
    system: System,
}

impl InProcess {
    /// Builds it, and waits until it is redundant.
    ///
    /// # Errors
    /// It does not come up.
    pub(super) fn start(namespace: &Namespace, topology: &Topology) -> Result<Self> {
        let system = namespace.run(|| System::start(topology, &mut Wires::default()))??;
        let service = Self { system };
        service.wait_redundant()?;
        Ok(service)
    }

    /// Waits until one domain serves and another stands by.
    ///
    /// # Errors
    /// They do not.
    pub(super) fn wait_redundant(&self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while !self.system.failover().is_redundant() {
            if Instant::now() > end {
                bail!("no redundancy within {} s", PATIENCE.as_secs());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Index of the domain that serves.
    ///
    /// # Errors
    /// None does.
    pub(super) fn active(&self) -> Result<usize> {
        Ok(self.system.failover().active().context("no domain serves")?.index())
    }

    /// Damages the domain that serves. Says when.
    ///
    /// # Errors
    /// There is none, or no such fault.
    pub(super) fn inject(&self, cause: Cause, variant: usize) -> Result<u64> {
        let failover = self.system.failover();
        let id = failover.active().context("no domain serves")?;
        let life = failover.life(id).context("the active domain has no life")?;
        let victim = Victim { slot: &self.system.slots()[id.index()], life: &life, port: None };
        Ok(victim.inject(cause, variant)?.at_ns)
    }

    /// The next failover.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn wait_failover(&self) -> Result<FailoverReport> {
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

/// `warmspare run TOPOLOGY`, in a namespace. Killed when dropped.
pub(super) struct Program(Child);

impl Program {
    /// Starts it.
    ///
    /// # Errors
    /// It cannot be started.
    pub(super) fn start(namespace: &Namespace, topology: &Path) -> Result<Self> {
        let child = Command::new("ip")
            .args(["netns", "exec", namespace.name()])
            .arg(crate::program())
            .arg("run")
            .arg(topology)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("warmspare cannot be started")?;
        Ok(Self(child))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

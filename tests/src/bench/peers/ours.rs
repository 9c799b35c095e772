//! warmspare itself, with the faults that it is made for.

use anyhow::{Context, Result};
use lab::fault::Cause;
use supervisor::topology::{Policy, Topology};

use super::felt::Event;
use crate::realguest::lan::{Lan, TAPS};
use crate::realguest::service::InProcess;

/// A fault in the serving domain.
pub(super) struct Fault<'a> {
    service: &'a InProcess,
    lan: &'a Lan,
    cause: Cause,
    /// Selects the code or memory that the next fault corrupts.
    variant: usize,
    /// The TAP whose link is down, if the fault is a pulled cable.
    pulled: Option<&'static str>,
}

impl<'a> Fault<'a> {
    pub(super) fn new(service: &'a InProcess, lan: &'a Lan, cause: Cause) -> Self {
        Self { service, lan, cause, variant: 0, pulled: None }
    }
}

impl Event for Fault<'_> {
    fn strike(&mut self) -> Result<()> {
        if self.cause == Cause::Link {
            let tap = TAPS[self.service.active()?];
            self.pulled = Some(tap);
            return self.lan.bridge().ip(&format!("link set {tap} down"));
        }
        self.variant += 1;
        self.service.inject(self.cause, self.variant).map(drop)
    }

    fn mend(&mut self) -> Result<()> {
        self.service.wait_failover().context("the fault was not found")?;
        if let Some(tap) = self.pulled.take() {
            self.lan.bridge().ip(&format!("link set {tap} up"))?;
        }
        self.service.wait_redundant()
    }
}

/// Returns the same topology without a spare.
pub(super) fn alone(topology: &Topology) -> Topology {
    let mut alone = topology.clone();
    alone.domains.truncate(1);
    alone.policy = Policy::Reboot;
    alone
}

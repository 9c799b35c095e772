//! What an operator can order: switches, drills, upgrades.

use std::sync::Arc;
use std::time::Duration;

use super::drill::DrillError;
use super::event::Event;
use super::failover::Failover;
use super::rebuild_context::RebuildContext;
use super::reports::{DrillReport, SwitchReport, UpgradeReport};
use super::switch::SwitchError;
use super::upgrade::{Upgrade, UpgradeError};
use crate::coredump::DumpWriter;
use microvm::domain::DomainId;
use platform::one_line::one_line;

/// Gives orders to a running system, from any thread. Each call waits until its order is carried
/// out, and reports that by an [`Event`] too. One order is carried out at a time.
#[derive(Clone)]
pub struct Operator {
    context: Arc<RebuildContext>,
}

impl Operator {
    pub(super) fn new(context: Arc<RebuildContext>) -> Self {
        Self { context }
    }

    pub(super) fn failover(&self) -> &Failover {
        &self.context.failover
    }

    pub(super) fn dumps(&self) -> Option<&DumpWriter> {
        self.context.dumps.as_ref()
    }

    pub(super) fn report(&self, event: Event) {
        self.context.report(event);
    }

    /// Hands the ring to another domain: `to`, or the best that stands by.
    ///
    /// # Errors
    /// See [`SwitchError`].
    pub fn switch_to(&self, to: Option<DomainId>) -> Result<SwitchReport, SwitchError> {
        let report = self.context.failover.switch_to(to)?;
        self.context.report(Event::Switched(report));
        Ok(report)
    }

    /// Drills a standby: the one that is named, or the first in line.
    ///
    /// # Errors
    /// There was no drill; see [`DrillError`].
    pub fn drill(&self, id: Option<DomainId>) -> Result<DrillReport, DrillError> {
        let report = self.context.failover.drill(id)?;
        self.context.report(Event::Drilled(report));
        Ok(report)
    }

    /// Replaces the driver by another image: tries the image in a spare, drills that spare, hands
    /// the ring over to it, and after its probation gives the image to the other domains too. Takes
    /// as long as the probation and some tenths of a second.
    ///
    /// # Errors
    /// See [`UpgradeError`].
    pub fn upgrade(
        &self,
        image: &[u8],
        probation: Duration,
    ) -> Result<UpgradeReport, UpgradeError> {
        let result = Upgrade::new(&self.context, image).and_then(|upgrade| upgrade.run(probation));
        self.context.report(match &result {
            Ok(report) => Event::Upgraded(*report),
            Err(error) => Event::UpgradeFailed { reason: one_line(error) },
        });
        result
    }
}

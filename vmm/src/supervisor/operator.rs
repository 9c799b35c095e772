//! What an operator can order: switches, drills, upgrades; and the drills by the clock.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::drill::{DrillError, DrillReport};
use super::event::Event;
use super::failover::Failover;
use super::switch::{SwitchError, SwitchReport};
use super::upgrade::{Upgrade, UpgradeError, UpgradeReport};
use super::workshop::Workshop;
use crate::coredump::DumpWriter;
use crate::domain::DomainId;
use crate::one_line::one_line;
use crate::realtime::{self, Priority};

/// Gives orders to a running system, from any thread; each waits for its end, and tells of it by an
/// [`Event`] too. One at a time.
#[derive(Clone)]
pub struct Operator {
    shop: Arc<Workshop>,
}

impl Operator {
    pub(super) fn new(shop: Arc<Workshop>) -> Self {
        Self { shop }
    }

    pub(super) fn failover(&self) -> &Failover {
        &self.shop.failover
    }

    pub(super) fn dumps(&self) -> Option<&DumpWriter> {
        self.shop.dumps.as_ref()
    }

    pub(super) fn tell(&self, event: Event) {
        self.shop.tell(event);
    }

    /// Hands the ring to another domain, `to` or the best that stands by.
    ///
    /// # Errors
    /// See [`SwitchError`].
    pub fn switch_to(&self, to: Option<DomainId>) -> Result<SwitchReport, SwitchError> {
        let report = self.shop.failover.switch_to(to)?;
        self.shop.tell(Event::Switched(report));
        Ok(report)
    }

    /// Drills a standby, the one that is named or the first in line.
    ///
    /// # Errors
    /// There was no drill; see [`DrillError`].
    pub fn drill(&self, id: Option<DomainId>) -> Result<DrillReport, DrillError> {
        let report = self.shop.failover.drill(id)?;
        self.shop.tell(Event::Drilled(report));
        Ok(report)
    }

    /// Replaces the driver by another image: tries it in a spare, drills that, hands over to it, and
    /// after its probation gives it to the other domains too. Takes as long as the probation and
    /// some tenths of a second.
    ///
    /// # Errors
    /// See [`UpgradeError`].
    pub fn upgrade(
        &self,
        image: &[u8],
        probation: Duration,
    ) -> Result<UpgradeReport, UpgradeError> {
        let result = Upgrade::new(&self.shop, image).and_then(|upgrade| upgrade.run(probation));
        self.shop.tell(match &result {
            Ok(report) => Event::Upgraded(*report),
            Err(error) => Event::UpgradeFailed { reason: one_line(error) },
        });
        result
    }
}

/// The thread that drills the standbys in turn; ends when dropped.
pub(super) struct Drills {
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drills {
    /// # Errors
    /// No thread is to be had.
    pub(super) fn spawn(operator: Operator, every: Duration) -> std::io::Result<Self> {
        let (stop, stopped) = sync_channel(0);
        // Below every thread of the data path; but a drill that waits for a processor would keep
        // its standby released for longer than it should.
        let run = move || drill_for_ever(&operator, every, &stopped);
        let thread = realtime::spawn("drill", Some(Priority::Nic), run)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Drills {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn drill_for_ever(operator: &Operator, every: Duration, stopped: &Receiver<()>) {
    while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(every) {
        for slot in &operator.shop.slots {
            // One that serves, is being built, or is needed, is not drilled: that is no news.
            if let Err(error) = operator.drill(Some(slot.id)) {
                tracing::debug!(domain = slot.name, %error, "no drill");
            }
        }
    }
}

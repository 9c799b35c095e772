//! The running demo, and the waits for what its system does.

use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use super::config::DemoConfig;
use super::error::DemoError;
use crate::traffic::{AppProcess, Sender};
use operate::control::Plane;
use supervisor::topology::Policy;
use supervisor::{Event, System, Wires};

/// Until the service answers for the first time.
const FIRST_ECHO_DEADLINE: Duration = Duration::from_secs(10);
/// From a verdict until a spare stands by again; a link that was pulled may negotiate anew.
pub(super) const REDUNDANT_DEADLINE: Duration = Duration::from_secs(10);

/// A running demo. Its fields are dropped in this order: first the dashboard, then the
/// application guest, before the system that it is connected to.
pub(super) struct Demo<'a> {
    pub(super) config: &'a DemoConfig,
    pub(super) plane: Plane,
    pub(super) app: AppProcess,
    pub(super) system: System,
    pub(super) wires: Wires,
    pub(super) random: fastrand::Rng,
}

impl Demo<'_> {
    /// Passes on the events that have arrived, so that the next one answers what is done next.
    pub(super) fn drain_events(&self) {
        self.system.events().try_iter().for_each(|event| self.plane.record(&event));
    }

    /// The next event that `pick` takes.
    pub(super) fn wait_event<T>(
        &mut self,
        timeout: Duration,
        what: &str,
        mut pick: impl FnMut(Event) -> Option<T>,
    ) -> Result<T, DemoError> {
        let end = Instant::now() + timeout;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.system.events().recv_timeout(left) {
                Ok(event) => {
                    self.plane.record(&event);
                    if let Some(picked) = pick(event) {
                        return Ok(picked);
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    return Err(match self.app.ended() {
                        Some(status) => DemoError::AppEnded(status),
                        None => DemoError::late(what, timeout),
                    });
                }
            }
        }
    }

    /// When the first echo came back.
    pub(super) fn wait_first_echo(&mut self, sender: &Sender) -> Result<u64, DemoError> {
        let end = Instant::now() + FIRST_ECHO_DEADLINE;
        loop {
            if let Some(at_ns) = sender.first_echo_ns() {
                return Ok(at_ns);
            }
            if let Some(status) = self.app.ended() {
                return Err(DemoError::AppEnded(status));
            }
            if Instant::now() >= end {
                let what = "the application guest did not answer";
                return Err(DemoError::late(what, FIRST_ECHO_DEADLINE));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until a domain serves and, where the policy has one, a spare stands by.
    pub(super) fn wait_redundant(&self) -> Result<(), DemoError> {
        let end = Instant::now() + REDUNDANT_DEADLINE;
        let failover = self.system.failover();
        let whole = || match self.config.policy {
            Policy::FastSpare | Policy::Spare => failover.is_redundant(),
            Policy::Reboot => failover.active().is_some(),
        };
        while !whole() {
            if Instant::now() >= end {
                return Err(DemoError::late("no spare stood by", REDUNDANT_DEADLINE));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

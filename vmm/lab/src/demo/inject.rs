//! Injects one fault, and waits until the system has recovered from it.

use std::sync::Arc;
use std::time::Duration;

use super::error::DemoError;
use super::outcome::{Outcome, Recovery};
use super::plan::Injection;
use super::session::{Demo, REDUNDANT_DEADLINE};
use crate::fault::{Cause, Injected, Victim};
use microvm::domain::{DomainId, Life};
use supervisor::Event;

/// From an injected fault to its verdict: the next frame meets the fault, within a period, and no
/// detector takes a tenth of a second.
const VERDICT_DEADLINE: Duration = Duration::from_secs(5);

impl Demo<'_> {
    /// Injects a fault into the active domain, in the given variant.
    pub(super) fn inject(&mut self, cause: Cause, variant: usize) -> Result<Outcome, DemoError> {
        self.drain_events();
        let failover = self.system.failover();
        let nobody = || DemoError::late("no domain serves", Duration::ZERO);
        let active = failover.active().ok_or_else(nobody)?;
        let life = failover.life(active).ok_or_else(nobody)?;
        let Injected { at_ns, site } = self.victim(active, &life).inject(cause, variant)?;
        let what = format!("{} ({site}) was not noticed", cause.name());
        let recovery =
            self.wait_event(VERDICT_DEADLINE, &what, |event| recovery(event, cause, active))?;
        let redundant_ns = match &recovery {
            Recovery::Healed { at_ns, .. } => {
                self.victim(active, &life).repair(cause);
                *at_ns
            }
            Recovery::Planned(report) => report.done_ns,
            Recovery::Failover(report) => {
                let redundant_ns = self.wait_ready(report.record.from)?;
                if cause == Cause::Link {
                    self.victim(active, &life).repair(cause);
                }
                redundant_ns
            }
        };
        Ok(Outcome {
            injected: Injection::Fault(cause),
            site,
            injected_ns: at_ns,
            struck_ns: life.fault_reached_ns(),
            recovery,
            redundant_ns,
        })
    }

    fn victim<'a>(&'a self, id: DomainId, life: &'a Arc<Life>) -> Victim<'a> {
        let slot = &self.system.slots()[id.index()];
        let port = self.wires.port_of(slot.nic.name()).map(|port| &**port);
        Victim { slot, life, port }
    }

    fn wait_ready(&mut self, from: DomainId) -> Result<u64, DemoError> {
        self.wait_event(REDUNDANT_DEADLINE, "no spare stood by again", |event| match event {
            Event::Ready { domain, at_ns, .. } if domain == from => Some(at_ns),
            _ => None,
        })
    }
}

/// How a fault was overcome, if this event says so.
fn recovery(event: Event, injected: Cause, victim: DomainId) -> Option<Recovery> {
    match event {
        Event::Failover(report) if report.record.from == victim => Some(Recovery::Failover(report)),
        Event::Healed { domain, at_ns, .. }
            if injected == Cause::LostWakeup && domain == victim =>
        {
            Some(Recovery::Healed { domain, at_ns })
        }
        _ => None,
    }
}

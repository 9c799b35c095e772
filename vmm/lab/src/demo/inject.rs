//! Faults one after the other, each after redundancy is back, and what came of each.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use super::operate::Operation;
use super::report::{Injection, Outcome, Recovery};
use super::run::{Demo, DemoError, late};
use crate::fault::{Cause, Injected, Victim};
use microvm::domain::{DomainId, Life};
use supervisor::Event;
use supervisor::topology::Policy;

/// From an injected fault to its verdict: the next frame meets it, within a period, and no detector
/// takes a tenth of a second.
const VERDICT_DEADLINE: Duration = Duration::from_secs(5);
/// From a verdict until a spare stands by again; a link that was pulled may negotiate anew.
const REDUNDANT_DEADLINE: Duration = Duration::from_secs(10);
/// Healthy time between redundancy and the next fault, milliseconds: at random in this range.
const HEALTHY_MS: std::ops::Range<u64> = 15..60;

/// Which faults a demo injects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Always the same cause, each time in another way.
    Only(Cause),
    /// All causes, at random.
    Mixed,
    /// No fault: planned operations, which may lose nothing.
    Planned(Operation),
}

impl Demo<'_> {
    pub(super) fn inject_all(&mut self) -> Result<Vec<Outcome>, DemoError> {
        let mut outcomes = Vec::with_capacity(self.config.faults as usize);
        let mut variants = [0; Cause::ALL.len()];
        for n in 0..self.config.faults {
            self.wait_redundant()?;
            std::thread::sleep(Duration::from_millis(self.random.u64(HEALTHY_MS)));
            std::thread::sleep(Duration::from_micros(self.random.u64(0..1000)));
            let injection = match self.config.plan {
                Plan::Only(cause) => Injection::Fault(cause),
                Plan::Mixed => Injection::Fault(Cause::ALL[self.random.usize(0..Cause::ALL.len())]),
                Plan::Planned(operation) => Injection::Operation(operation),
            };
            let outcome = match injection {
                Injection::Fault(cause) => {
                    let variant = &mut variants[cause as usize];
                    *variant += 1;
                    self.inject(cause, *variant - 1)?
                }
                Injection::Operation(operation) => self.operate(operation, n)?,
            };
            self.show(n, &outcome);
            outcomes.push(outcome);
        }
        if self.config.progress && std::io::stderr().is_terminal() {
            eprintln!();
        }
        Ok(outcomes)
    }

    fn inject(&mut self, cause: Cause, variant: usize) -> Result<Outcome, DemoError> {
        // What is left of the last fault is not the answer to this one.
        self.system.events().try_iter().for_each(|event| self.plane.record(&event));
        let failover = self.system.failover();
        let active = failover.active().ok_or_else(|| late("no domain serves", Duration::ZERO))?;
        let life = failover.life(active).ok_or_else(|| late("no domain serves", Duration::ZERO))?;
        let Injected { at_ns, site } = self.victim(active, &life).inject(cause, variant)?;
        let what = format!("{} ({site}) was not noticed", cause.name());
        let recovery = self.next(VERDICT_DEADLINE, &what, |event| answer(event, cause, active))?;
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
        let (injected, injected_ns, struck_ns) = (Injection::Fault(cause), at_ns, life.sprung_ns());
        Ok(Outcome { injected, site, injected_ns, struck_ns, recovery, redundant_ns })
    }

    fn victim<'a>(&'a self, id: DomainId, life: &'a Arc<Life>) -> Victim<'a> {
        let slot = &self.system.slots()[id.index()];
        let port = self.wires.port_of(slot.nic.name()).map(|port| &**port);
        Victim { slot, life, port }
    }

    fn wait_ready(&mut self, from: DomainId) -> Result<u64, DemoError> {
        self.next(REDUNDANT_DEADLINE, "no spare stood by again", |event| match event {
            Event::Ready { domain, at_ns, .. } if domain == from => Some(at_ns),
            _ => None,
        })
    }

    /// The next event that `pick` takes.
    pub(super) fn next<T>(
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
                        None => late(what, timeout),
                    });
                }
            }
        }
    }

    fn wait_redundant(&self) -> Result<(), DemoError> {
        let end = Instant::now() + REDUNDANT_DEADLINE;
        let failover = self.system.failover();
        let whole = || match self.config.policy {
            Policy::FastSpare | Policy::Spare => failover.is_redundant(),
            Policy::Reboot => failover.active().is_some(),
        };
        while !whole() {
            if Instant::now() >= end {
                return Err(late("no spare stood by", REDUNDANT_DEADLINE));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// One line of progress; on a terminal it is written over the last one.
    fn show(&self, n: u32, outcome: &Outcome) {
        if !self.config.progress {
            return;
        }
        let name = |id: DomainId| self.system.slots()[id.index()].name.as_str();
        let (from, to) = outcome.domains();
        let text = format!(
            "fault {:>3} of {}: {} in {} ({}), found as {}, {} sends {:.0} µs after the verdict",
            n + 1,
            self.config.faults,
            outcome.injected.name(),
            name(from),
            outcome.site,
            outcome.cause(),
            to.map_or("nobody", name),
            outcome.switch_us(),
        );
        let mut stderr = std::io::stderr();
        // Progress that cannot be written is not worth failing for.
        let _ = if stderr.is_terminal() {
            write!(stderr, "\r\x1b[K{text}").and_then(|()| stderr.flush())
        } else {
            writeln!(stderr, "{text}")
        };
    }
}

/// How a fault was overcome, if this event says so.
fn answer(event: Event, injected: Cause, victim: DomainId) -> Option<Recovery> {
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

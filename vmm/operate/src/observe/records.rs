//! What has happened since the program began to observe: plain data that one lock guards.

use super::event::{Occurrence, TimedOccurrence};
use super::failure_records::FailureRecords;
use super::received_event::ReceivedEvent;
use super::tally::Tally;
use platform::clock::monotonic_ns;

/// Failures and counters.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) failures: FailureRecords,
    pub(super) tally: Tally,
}

impl Records {
    /// Adds an event, and returns it as subscribers see it. An event without a time of its own gets
    /// the present one.
    pub(super) fn add(&mut self, event: ReceivedEvent) -> TimedOccurrence {
        let at_ns = event.at_ns().unwrap_or_else(monotonic_ns);
        self.count(&event);
        TimedOccurrence { at_ns, occurrence: self.occurrence(event) }
    }

    fn count(&mut self, event: &ReceivedEvent) {
        match event {
            ReceivedEvent::Ready { domain, role, at_ns } => {
                self.failures.complete(domain, *role, *at_ns);
            }
            ReceivedEvent::Switched { .. } => self.tally.switches += 1,
            ReceivedEvent::Drilled { domain, blame, at_ns, .. } => {
                self.tally.count_drill(domain, blame.is_none(), *at_ns);
            }
            ReceivedEvent::Upgraded { .. } => self.tally.upgrades += 1,
            ReceivedEvent::UpgradeFailed { .. } => self.tally.upgrades_failed += 1,
            ReceivedEvent::Healed { domain, .. } => self.tally.count_healed(domain),
            ReceivedEvent::Dumped { domain, folder, requested: false } => {
                self.failures.set_dump(domain, folder);
            }
            // Failures are added where their view is needed.
            ReceivedEvent::Failover(_)
            | ReceivedEvent::Link { .. }
            | ReceivedEvent::BuildFailed { .. }
            | ReceivedEvent::Quarantined { .. }
            | ReceivedEvent::State { .. }
            | ReceivedEvent::Dumped { requested: true, .. }
            | ReceivedEvent::DumpLost { .. }
            | ReceivedEvent::Paused { .. }
            | ReceivedEvent::Resumed { .. }
            | ReceivedEvent::Debugger { .. }
            | ReceivedEvent::FrontEndWaits { .. }
            | ReceivedEvent::FramesRefused { .. }
            | ReceivedEvent::MacsChanged { .. }
            | ReceivedEvent::Reloaded { .. }
            | ReceivedEvent::ReloadFailed { .. } => {}
        }
    }

    fn occurrence(&mut self, event: ReceivedEvent) -> Occurrence {
        match event {
            ReceivedEvent::Link { nic, up } => Occurrence::Link { nic, up },
            ReceivedEvent::Failover(facts) => {
                Occurrence::Failover(Box::new(self.failures.add(facts)))
            }
            ReceivedEvent::Ready { domain, role, .. } => Occurrence::Ready { domain, role },
            ReceivedEvent::BuildFailed { domain, reason } => {
                Occurrence::BuildFailed { domain, reason }
            }
            ReceivedEvent::Quarantined { domain, pause } => {
                Occurrence::Quarantine { domain, pause_seconds: pause.as_secs_f64() }
            }
            ReceivedEvent::Switched { from, to, waited_ns, .. } => {
                Occurrence::Switched { from, to, waited_us: waited_ns as f64 / 1000.0 }
            }
            ReceivedEvent::Drilled { domain, blame, round_trip_ns, .. } => {
                let round_trip_us = round_trip_ns as f64 / 1000.0;
                Occurrence::Drilled { domain, passed: blame.is_none(), blame, round_trip_us }
            }
            ReceivedEvent::Upgraded { serves, took } => {
                Occurrence::Upgraded { serves, took_seconds: took.as_secs_f64() }
            }
            ReceivedEvent::UpgradeFailed { reason } => Occurrence::UpgradeFailed { reason },
            ReceivedEvent::Healed { domain, delayed_us, .. } => {
                Occurrence::Healed { domain, delayed_us }
            }
            ReceivedEvent::State { from, to } => Occurrence::State { from, to },
            ReceivedEvent::Dumped { domain, folder, requested } => {
                Occurrence::Dumped { domain, folder, requested }
            }
            ReceivedEvent::DumpLost { domain, reason } => Occurrence::DumpLost { domain, reason },
            ReceivedEvent::Paused { domain } => Occurrence::Paused { domain },
            ReceivedEvent::Resumed { domain } => Occurrence::Resumed { domain },
            ReceivedEvent::Debugger { domain, attached } => {
                Occurrence::Debugger { domain, attached }
            }
            ReceivedEvent::FrontEndWaits { socket, waiting } => {
                Occurrence::FrontEndWaits { socket, waiting }
            }
            ReceivedEvent::FramesRefused { socket, reason, source, mend } => {
                Occurrence::FramesRefused { socket, reason, source, mend }
            }
            ReceivedEvent::MacsChanged { socket, macs, pushed_out } => {
                Occurrence::MacsChanged { socket, macs, pushed_out }
            }
            ReceivedEvent::Reloaded { applied, ignored } => {
                Occurrence::Reloaded { applied, ignored }
            }
            ReceivedEvent::ReloadFailed { reason } => Occurrence::ReloadFailed { reason },
        }
    }
}

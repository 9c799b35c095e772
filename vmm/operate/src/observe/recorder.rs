//! Records what happens and publishes each event as a JSON line.
//!
//! The thread that takes the supervisor's events feeds the recorder; the control thread reads it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::bus::{EventBus, Published, Subscription};
use super::event::{EventLine, FailoverView, TimedOccurrence};
use super::failure_records::PhaseHistogram;
use super::histogram::Histogram;
use super::received_event::ReceivedEvent;
use super::records::Records;
use super::redundancy::{Redundancy, is_redundant};
use super::snapshot::{DomainView, FailoverCount, InterruptionView};
use super::tally::Tally;
use super::view::SystemView;
use super::wall_clock;
use platform::clock::monotonic_ns;
use supervisor::topology::Policy;

/// Events that are kept for subscribers that come later.
const KEPT_EVENTS: usize = 1000;

/// Everything that the recorder's one lock guards.
#[derive(Debug)]
struct State {
    /// Number of the newest event.
    seq: u64,
    newest_events: VecDeque<Arc<Published>>,
    redundancy: Redundancy,
    records: Records,
}

/// The records of one system, and the bus on which its events are published.
pub(crate) struct Recorder {
    view: Arc<dyn SystemView>,
    began_ns: u64,
    /// The policy has a spare.
    expects_spare: bool,
    state: Mutex<State>,
    bus: EventBus,
}

/// The domains at one moment.
pub(super) struct DomainSample {
    /// The domains, in the topology's order.
    pub(super) domains: Vec<DomainView>,
    /// Whether they make the service redundant.
    pub(super) redundant: bool,
}

impl Recorder {
    /// Empty records of this system, which counts as not redundant until it is sampled.
    pub(super) fn new(view: Arc<dyn SystemView>) -> Self {
        let began_ns = monotonic_ns();
        let state = State {
            seq: 0,
            newest_events: VecDeque::new(),
            redundancy: Redundancy::none(began_ns),
            records: Records::default(),
        };
        let expects_spare = view.policy() != Policy::Reboot.name();
        let (state, bus) = (Mutex::new(state), EventBus::default());
        Self { view, began_ns, expects_spare, state, bus }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records an event and publishes it, followed by the change of redundancy that it causes.
    pub(crate) fn record(&self, event: ReceivedEvent) {
        let mut state = self.state();
        let failed = event.failed_domain().map(str::to_owned);
        let entry = state.records.add(event);
        let at_ns = entry.at_ns;
        self.publish(&mut state, entry);
        let domains = self.view.domains();
        if let Some(failed) = failed
            && !is_redundant(domains.iter().filter(|domain| domain.name != failed))
        {
            let lost = state.redundancy.lost_at(at_ns);
            self.publish_change(&mut state, lost);
        }
        let change = state.redundancy.update(is_redundant(domains.iter()), at_ns);
        self.publish_change(&mut state, change);
    }

    /// Samples the domains. A change of redundancy is published before this returns it, so nobody
    /// knows of one that the events do not tell yet.
    pub(super) fn sample(&self) -> DomainSample {
        let mut state = self.state();
        // Sampled under the lock, so that nobody records a state that is older than the newest one.
        let domains = self.view.domains();
        let redundant = is_redundant(domains.iter());
        let now_ns = monotonic_ns();
        let change = state.redundancy.update(redundant, now_ns);
        self.publish_change(&mut state, change);
        if self.expects_spare {
            let lacking = state.redundancy.never_gained(now_ns);
            self.publish_change(&mut state, lacking);
        }
        DomainSample { domains, redundant }
    }

    fn publish_change(&self, state: &mut State, change: Option<TimedOccurrence>) {
        if let Some(change) = change {
            self.publish(state, change);
        }
    }

    /// Called under the lock, so that subscribers see the numbers in order.
    fn publish(&self, state: &mut State, entry: TimedOccurrence) {
        let TimedOccurrence { at_ns, occurrence } = entry;
        state.seq += 1;
        let kind = occurrence.kind().name();
        let seq = state.seq;
        let line = EventLine { seq, time: wall_clock::at(at_ns), monotonic_ns: at_ns, occurrence };
        match serde_json::to_string(&line) {
            Ok(json) => {
                let event = Arc::new(Published { seq, kind, json });
                if state.newest_events.len() == KEPT_EVENTS {
                    state.newest_events.pop_front();
                }
                state.newest_events.push_back(event.clone());
                self.bus.publish(event);
            }
            Err(error) => tracing::error!(%error, kind, "an event cannot be written as JSON"),
        }
    }

    /// Subscribes to all events from now on.
    pub(crate) fn subscribe(&self) -> Subscription {
        self.bus.subscribe()
    }

    /// The kept events with numbers above `seq`, and a subscription to all that follow them.
    pub(crate) fn subscribe_after(&self, seq: u64) -> (Vec<Arc<Published>>, Subscription) {
        let state = self.state();
        let kept = state.newest_events.iter().filter(|event| event.seq > seq).cloned().collect();
        (kept, self.bus.subscribe())
    }

    /// When the recorder was made, `CLOCK_MONOTONIC` nanoseconds.
    pub(super) fn began_ns(&self) -> u64 {
        self.began_ns
    }

    /// The newest failures, newest first, at most `most` of those that are kept.
    pub(crate) fn failovers(&self, most: usize) -> Vec<FailoverView> {
        self.state().records.failures.newest(most)
    }

    /// Counters of planned operations and of repaired wakeups.
    pub(super) fn tally(&self) -> Tally {
        self.state().records.tally.clone()
    }

    /// Failures by cause and outcome.
    pub(super) fn counts(&self) -> Vec<FailoverCount> {
        self.state().records.failures.counts()
    }

    /// Interruptions, all together and by cause.
    pub(super) fn interruption(&self) -> InterruptionView {
        self.state().records.failures.interruption()
    }

    /// Interruptions by cause, for metrics.
    pub(super) fn interruption_histograms(&self) -> BTreeMap<&'static str, Histogram> {
        self.state().records.failures.interruption_histograms()
    }

    /// Durations of phases by phase and cause, for metrics.
    pub(super) fn phase_histograms(&self) -> Vec<PhaseHistogram> {
        self.state().records.failures.phase_histograms()
    }
}

#[cfg(test)]
mod tests;

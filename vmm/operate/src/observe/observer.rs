//! An observed system: what it is now, and what has happened.

use std::sync::Arc;

use super::recorder::{DomainSample, Recorder};
use super::sampler::Sampler;
use super::snapshot::{DomainView, SCHEMA, Snapshot};
use super::view::SystemView;
use super::wall_clock;
use crate::service::ServiceState;
use platform::clock::monotonic_ns;
use supervisor::RoleState;

/// Failures that a snapshot shows.
const SHOWN_FAILOVERS: usize = 50;

/// A system, and the records of what happened to it.
#[derive(Clone)]
pub(crate) struct Observer {
    /// The system now.
    pub(crate) view: Arc<dyn SystemView>,
    /// What happened.
    pub(crate) recorder: Arc<Recorder>,
}

impl Observer {
    /// Begins to observe; the records are empty.
    pub(crate) fn new(view: Arc<dyn SystemView>) -> Self {
        let recorder = Arc::new(Recorder::new(view.clone()));
        Self { view, recorder }
    }

    /// Returns true if one domain serves and another could take over now, and nothing speaks
    /// against either.
    pub(crate) fn is_redundant(&self) -> bool {
        self.recorder.sample().redundant
    }

    /// The state of the service in one line.
    pub(crate) fn service_state(&self) -> ServiceState {
        let DomainSample { domains, redundant } = self.recorder.sample();
        let serves = |domain: &&DomainView| domain.role == RoleState::Active && domain.nic.present;
        let serving = domains.iter().find(serves).map(|domain| domain.name.clone());
        let trouble = domains.iter().filter_map(|domain| {
            domain.nic.trouble.as_ref().map(|trouble| format!("{}: {trouble}", domain.nic.name))
        });
        ServiceState { serving, redundant, trouble: trouble.collect::<Vec<_>>().join("; ") }
    }

    /// Takes a sample for the rates.
    pub(crate) fn sample_rates(&self, sampler: &Sampler) {
        sampler.sample(&*self.view, self.recorder.began_ns());
    }

    /// The whole state now, with the rates of the last sample.
    pub(crate) fn snapshot(&self, sampler: &Sampler) -> Snapshot {
        let now_ns = monotonic_ns();
        let DomainSample { mut domains, redundant } = self.recorder.sample();
        for (domain, counters) in domains.iter_mut().zip(self.view.nic_counters()) {
            domain.nic.counters = counters;
        }
        let active = domains.iter().find(|domain| domain.role == RoleState::Active);
        Snapshot {
            schema: SCHEMA.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            time: wall_clock::at(now_ns),
            uptime_seconds: (now_ns - self.recorder.began_ns()) as f64 / 1e9,
            name: self.view.name().into(),
            policy: self.view.policy().into(),
            state: self.view.state(),
            redundant,
            active: active.map(|domain| domain.name.clone()),
            realtime: self.view.is_realtime(),
            apps: self.view.apps(),
            counters: self.view.counters(),
            failovers: self.recorder.counts(),
            last_failovers: self.recorder.failovers(SHOWN_FAILOVERS),
            interruption: self.recorder.interruption(),
            rates: sampler.last(),
            domains,
        }
    }
}

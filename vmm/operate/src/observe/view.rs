//! What observing asks of a running system, and the snapshot made of the answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::recorder::Recorder;
use super::sampler::Sampler;
use super::snapshot::{DomainView, SCHEMA, Snapshot};
use super::wall;
use platform::clock::monotonic_ns;
use supervisor::{RoleState, SystemState};

/// Failures that a snapshot shows.
const SHOWN_FAILOVERS: usize = 50;

/// A system as it can be watched. Every method reads what the data path writes anyway, and takes
/// no lock that a failover needs.
pub trait SystemView: Send + Sync {
    /// Name of the topology.
    fn name(&self) -> &str;

    /// `fast-spare` or `reboot`.
    fn policy(&self) -> &str;

    /// Whether the threads of the failover path run under real-time scheduling.
    fn is_realtime(&self) -> bool;

    /// The domains, in the topology's order.
    fn domains(&self) -> Vec<DomainView>;

    /// What the service is worth.
    fn state(&self) -> SystemState;

    /// Counters of the switchboard.
    fn counters(&self) -> BTreeMap<String, u64>;
}

/// A watched system: its view, and the books of what happened.
#[derive(Clone)]
pub struct Observer {
    /// What it is now.
    pub view: Arc<dyn SystemView>,
    /// What happened.
    pub recorder: Arc<Recorder>,
}

impl Observer {
    /// Begins to watch; the books are empty.
    pub fn new(view: Arc<dyn SystemView>) -> Self {
        let recorder = Arc::new(Recorder::new(view.clone()));
        Self { view, recorder }
    }

    /// Whether one domain serves and another could take over now, nothing speaking against either.
    pub fn is_redundant(&self) -> bool {
        self.recorder.look().1
    }

    /// The whole state now, with the rates of the last sample.
    pub fn snapshot(&self, sampler: &Sampler) -> Snapshot {
        let now_ns = monotonic_ns();
        let (domains, redundant) = self.recorder.look();
        let active = domains.iter().find(|domain| domain.role == RoleState::Active);
        Snapshot {
            schema: SCHEMA.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            time: wall::at(now_ns),
            uptime_seconds: (now_ns - self.recorder.began_ns()) as f64 / 1e9,
            name: self.view.name().into(),
            policy: self.view.policy().into(),
            state: self.view.state(),
            redundant,
            active: active.map(|domain| domain.name.clone()),
            realtime: self.view.is_realtime(),
            counters: self.view.counters(),
            failovers: self.recorder.counts(),
            last_failovers: self.recorder.failovers(SHOWN_FAILOVERS),
            interruption: self.recorder.interruption(),
            rates: sampler.last(),
            domains,
        }
    }
}

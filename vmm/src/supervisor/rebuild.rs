//! The rebuild thread: everything slow about a failure, done after the service goes on.
//!
//! For each failure: wait for the switchboard's and the NIC's figures, make sure that nothing of the
//! failed NIC reaches memory any more, let the old life go, and build a new one in the same slot.
//! It stands by when its driver is attached, or serves at once if nobody else does.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use super::event::{Event, FailoverReport};
use super::failover::{Failover, FailoverRecord, Job};
use super::hub::Hub;
use super::roles::{RoleEvent, RoleState};
use crate::budget::{
    BUILD_ATTEMPTS, FIRST_FRAME_DEADLINE, PAUSE_DEADLINE, READY_DEADLINE, REBUILD_BACKOFF,
};
use crate::clock::monotonic_ns;
use crate::domain::{DomainId, DomainSlot, Life, PrepareConfig};
use crate::kvm::Image;
use crate::switchboard::{Switchboard, TakeOverReport};
use crate::topology::MacAddress;

/// Everything a domain is built from.
pub(super) struct Rebuilder {
    pub(super) slots: Vec<Arc<DomainSlot>>,
    pub(super) switchboard: Arc<Switchboard>,
    pub(super) failover: Arc<Failover>,
    pub(super) hub: Arc<Hub>,
    /// The driver's and the spare's image. Lives alternate, so that both stay exercised.
    pub(super) images: [Arc<Image>; 2],
    pub(super) mac: MacAddress,
    pub(super) events: Sender<Event>,
    /// Of each domain, the last life that was attached.
    pub(super) ready_epochs: Vec<u32>,
}

/// Why one attempt to build a domain failed.
#[derive(Debug, thiserror::Error)]
enum BuildError {
    #[error("its NIC does not fall silent")]
    Quiesce(#[source] crate::nic::NicError),
    #[error("its NIC does not come back")]
    Nic(#[source] crate::nic::NicError),
    #[error("its memory cannot be prepared")]
    Prepare(#[source] crate::memory::MemoryError),
    #[error("the switchboard does not take its rings")]
    Install(#[source] crate::switchboard::SwitchboardError),
    #[error("its micro-VM does not start")]
    Start(#[source] crate::domain::LifeError),
    #[error("its driver does not attach: {0}")]
    NotReady(String),
}

impl Rebuilder {
    /// Brings all domains up, then rebuilds what fails, until told to stop.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        for index in 0..self.slots.len() {
            self.build(self.slots[index].id);
        }
        while let Ok(Job::Failure(record)) = jobs.recv() {
            // A life that never attached is the business of the attempt that built it.
            if record.epoch <= self.ready_epochs[record.from.index()] {
                self.record(record);
                self.build(record.from);
            }
        }
    }

    /// Collects what is known of a failure, and tells of it.
    fn record(&self, record: FailoverRecord) {
        let first_sent_ns = record.to.and_then(|to| self.first_frame(to));
        let takeover = record.to.map(|_| self.takeover_report(record.verdict_ns));
        let life = self.failover.life(record.from);
        let epitaph = life.map_or_else(String::new, |life| life.epitaph());
        let takeover = takeover.unwrap_or_default();
        let report = FailoverReport {
            record,
            first_sent_ns,
            resent: takeover.resent,
            poisoned: takeover.poisoned,
            salvaged: takeover.salvaged,
            epitaph,
        };
        self.tell(Event::Failover(Box::new(report)));
    }

    /// Waits, off the path, for the stamp of the spare's first frame.
    fn first_frame(&self, to: DomainId) -> Option<u64> {
        let nic = &self.slots[to.index()].nic;
        poll(FIRST_FRAME_DEADLINE, || nic.first_sent_ns())
    }

    /// Waits until the switchboard has carried the takeover of this verdict out, salvage included:
    /// only then may the failed domain's memory be used again.
    fn takeover_report(&self, verdict_ns: u64) -> TakeOverReport {
        let done = || {
            let report = self.switchboard.report();
            (report.verdict_ns >= verdict_ns).then_some(report)
        };
        poll(FIRST_FRAME_DEADLINE, done).unwrap_or_default()
    }

    /// Builds a domain, in a few attempts.
    fn build(&mut self, id: DomainId) {
        for attempt in 0..BUILD_ATTEMPTS {
            match self.attempt(id, attempt) {
                Ok(state) => {
                    self.tell(Event::Ready { domain: id, state, at_ns: monotonic_ns() });
                    return;
                }
                Err(error) => {
                    self.failover.build_failed(id, RoleEvent::Fault);
                    let given_up = attempt + 1 == BUILD_ATTEMPTS;
                    self.tell_build_failed(id, &error, given_up);
                }
            }
            std::thread::sleep(REBUILD_BACKOFF * 2u32.pow(attempt));
        }
        self.failover.build_failed(id, RoleEvent::GiveUp);
    }

    fn attempt(&mut self, id: DomainId, attempt: u32) -> Result<RoleState, BuildError> {
        let slot = self.slots[id.index()].clone();
        let Ok((epoch, old_life)) = self.failover.begin_rebuild(id) else {
            return Err(BuildError::NotReady("it has not failed".into()));
        };
        if let Some(life) = &old_life {
            life.expel();
            life.wait_out(Instant::now() + PAUSE_DEADLINE);
        }
        slot.nic.quiesce().map_err(BuildError::Quiesce)?;
        drop(old_life);
        if attempt > 0 {
            slot.nic.reset().map_err(BuildError::Nic)?;
        }
        let life = self.start(&slot, epoch)?;
        if !self.hub.wait_ready(id, epoch, READY_DEADLINE) {
            life.expel();
            life.wait_out(Instant::now() + PAUSE_DEADLINE);
            return Err(BuildError::NotReady(life.epitaph()));
        }
        let state = self.failover.ready(id).map_err(|_| BuildError::NotReady(life.epitaph()))?;
        self.ready_epochs[id.index()] = epoch;
        Ok(state)
    }

    fn start(&self, slot: &Arc<DomainSlot>, epoch: u32) -> Result<Arc<Life>, BuildError> {
        slot.prepare(&PrepareConfig { epoch, role: shared_ring::Role::Standby, mac: self.mac.0 })
            .map_err(BuildError::Prepare)?;
        self.switchboard.install(slot.id, epoch).map_err(BuildError::Install)?;
        slot.nic.shut_filters();
        slot.nic.enable_bus_master().map_err(BuildError::Nic)?;
        let image = self.image_for(slot.id, epoch);
        let life =
            Life::start(slot.clone(), image, epoch, self.hub.clone()).map_err(BuildError::Start)?;
        let life = Arc::new(life);
        self.failover.seat_life(slot.id, life.clone());
        Ok(life)
    }

    /// The first domain starts with the driver's image, the others with the spare's; after that
    /// each life takes the image that its predecessor did not have.
    fn image_for(&self, id: DomainId, epoch: u32) -> Arc<Image> {
        let first = usize::from(id.index() > 0);
        self.images[(first + epoch as usize + 1) % 2].clone()
    }

    fn tell_build_failed(&self, id: DomainId, error: &BuildError, given_up: bool) {
        let mut reason = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            reason = format!("{reason}: {error}");
            cause = error.source();
        }
        let name = &self.slots[id.index()].name;
        tracing::warn!(domain = name, %reason, given_up, "a domain could not be built");
        self.tell(Event::BuildFailed { domain: id, reason, given_up });
    }

    fn tell(&self, event: Event) {
        // Nobody may listen; that is no reason to stop rebuilding.
        let _ = self.events.send(event);
    }
}

/// Asks every 200 µs until there is an answer or the time is over. For the rebuild thread only,
/// where nobody waits for the result.
fn poll<T>(deadline: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + deadline;
    loop {
        let answer = ask();
        if answer.is_some() || Instant::now() >= end {
            return answer;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

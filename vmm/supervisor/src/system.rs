//! The running system. [`super::builder`] builds it from a topology.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender};
use std::thread::JoinHandle;

use super::event::Event;
use super::failover::{Failover, Notice};
use super::guest_link::GuestLinkThread;
use super::job_queue::{Job, JobSender};
use super::operator::Operator;
use super::periodic::PeriodicThread;
use super::rebuild_context::RebuildContext;
use super::supervisor_thread::SupervisorThread;
use microvm::domain::DomainSlot;
use microvm::kvm::Image;
use switchboard::Switchboard;
use switchboard::vhost_user::VhostUserServer;

/// How often the two threads without which there is no service have shown that they go on. Each
/// number rises within a tenth of a second of a question, see [`System::pulse`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pulse {
    /// Samples that the supervisor has taken.
    pub samplings: u64,
    /// Questions for a turn that the switchboard has answered.
    pub turns: u64,
}

impl Pulse {
    /// Returns true if both threads have gone on since `before`.
    pub fn beats_since(&self, before: &Self) -> bool {
        self.samplings != before.samplings && self.turns != before.turns
    }
}

/// A running system. Dropping it stops everything.
pub struct System {
    pub(super) slots: Vec<Arc<DomainSlot>>,
    pub(super) probes: Option<PeriodicThread>,
    pub(super) context: Arc<RebuildContext>,
    pub(super) jobs: Vec<JobSender>,
    /// The monitor's and the drill thread's.
    pub(super) notices: [SyncSender<Notice>; 2],
    pub(super) events: Receiver<Event>,
    pub(super) servers: Vec<VhostUserServer>,
    pub(super) guest_links: Vec<GuestLinkThread>,
    pub(super) supervisor: Option<SupervisorThread>,
    /// The monitor, the drill thread and the rebuild threads.
    pub(super) threads: Vec<JoinHandle<()>>,
}

impl System {
    /// The domains, in the topology's order.
    pub fn slots(&self) -> &[Arc<DomainSlot>] {
        &self.slots
    }

    /// The two images from which domains are built: the driver's, then the spare's.
    pub fn images(&self) -> [Arc<Image>; 2] {
        self.context.images.current()
    }

    /// From now on no failed domain is rebuilt. A machine without recovery behaves like that, which
    /// is something to compare with.
    pub fn abandon(&self) {
        self.context.abandoned.store(true, Ordering::Release);
    }

    /// Takes orders: switches, drills, upgrades.
    pub fn operator(&self) -> Operator {
        Operator::new(self.context.clone())
    }

    /// How often the supervisor has sampled the domains. While the supervisor is alive, the count
    /// rises at least ten times a second.
    pub fn samplings(&self) -> u64 {
        self.context.event_sink.samplings.load(Ordering::Relaxed)
    }

    /// Asks the switchboard for a turn, and returns how far both vital threads have come. A thread
    /// that stands still shows the same number again.
    pub fn pulse(&self) -> Pulse {
        Pulse { samplings: self.samplings(), turns: self.switchboard().ping() }
    }

    /// The thread that has ended although the system runs, if one has. Without it the system is not
    /// what it seems, and has to be started anew. A thread that has been replaced is not one.
    pub fn broken(&self) -> Option<&str> {
        if !self.switchboard().is_running() {
            return Some("switchboard");
        }
        if self.supervisor.as_ref().is_some_and(SupervisorThread::has_ended) {
            return Some("supervisor");
        }
        if self.context.event_sink.broken.load(Ordering::Acquire) {
            return Some("vcpu");
        }
        if self.servers.iter().any(VhostUserServer::has_ended) {
            return Some("vhost");
        }
        let helper = self.threads.iter().find(|thread| thread.is_finished());
        if let Some(helper) = helper {
            return Some(helper.thread().name().unwrap_or("monitor"));
        }
        self.probes.as_ref().is_some_and(PeriodicThread::has_ended).then_some("probe")
    }

    /// Roles and failovers.
    pub fn failover(&self) -> &Arc<Failover> {
        &self.context.failover
    }

    /// The switchboard.
    pub fn switchboard(&self) -> &Arc<Switchboard> {
        &self.context.switchboard
    }

    /// What has happened, in order.
    pub fn events(&self) -> &Receiver<Event> {
        &self.events
    }
}

impl Drop for System {
    fn drop(&mut self) {
        self.servers.clear();
        self.guest_links.clear();
        self.probes = None;
        self.context.stopped.store(true, Ordering::Release);
        for jobs in &self.jobs {
            // A thread whose queue is full is awake, and reads the flag next.
            jobs.send(Job::Stop);
        }
        // Both threads take a notice that is in its place soon, so this does not wait for long.
        for notices in &self.notices {
            let _ = notices.send(Notice::Stop);
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        self.supervisor = None;
        for life in self.context.failover.take_lives() {
            life.order_out();
        }
    }
}

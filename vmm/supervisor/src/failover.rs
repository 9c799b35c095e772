//! The failover itself.
//!
//! [`Failover::verdict`] runs on whichever thread has the verdict (the vCPU thread for a crash, the
//! supervisor for all else), because every thread in between would cost a wake-up. The domain table
//! is behind one mutex; what is done under it is a few stores, register writes and eventfd writes.
//! Nothing on the path from the verdict to the release of the spare allocates, logs, maps memory or
//! waits. Everything slow is left to the domain's rebuild thread, through a queue that is large
//! enough for it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use super::domain::{Domain, LifeHandle};
use super::domain_table::{DomainTable, TableGuard};
use super::hearing::Hearing;
use super::job_queue::{Job, JobSender};
use super::planned::PlannedOperations;
use super::roles::{RoleEvent, RoleState};
use super::rules::{self, DomainView, Health, Need, SystemState};
use super::verdict::{FailoverRecord, Verdict};
use super::views;
use crate::topology::Limits;
use microvm::domain::{DomainId, Life, LifeView};
use platform::budget::PAUSE_DEADLINE;
use platform::clock::monotonic_ns;
use switchboard::{Switchboard, TakeOver};

/// What the monitor thread is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// Something changed on which the state of the whole may depend.
    Changed,
    /// The system ends.
    Stop,
}

/// The fall of a domain, as its successor has to know it.
#[derive(Clone, Copy)]
pub(super) struct Fall {
    /// When, `CLOCK_MONOTONIC` nanoseconds.
    pub(super) at_ns: u64,
    /// Its NIC may not answer.
    pub(super) nic_suspected: bool,
}

impl Fall {
    fn order(self, to: DomainId, epoch: u32) -> TakeOver {
        let Self { at_ns: verdict_ns, nic_suspected } = self;
        TakeOver { to, epoch, verdict_ns, nic_suspected }
    }
}

/// What [`Failover`] is made of.
pub(super) struct FailoverConfig {
    pub(super) domains: Vec<Domain>,
    pub(super) switchboard: Arc<Switchboard>,
    /// For each domain, the queue of its rebuild thread.
    pub(super) jobs: Vec<JobSender>,
    /// The monitor's queue, with room for one notice.
    pub(super) notices: SyncSender<Notice>,
    pub(super) limits: Limits,
    /// The drill thread's queue, with room for one notice.
    pub(super) drill_notices: SyncSender<Notice>,
    /// Whether standbys are drilled without being asked.
    pub(super) drills: bool,
    /// How long a drill may last.
    pub(super) drill_limit: Duration,
    /// Whether a standby's driver has its NIC attached, see `Policy::attaches_early`.
    pub(super) attaches_early: bool,
    /// Whether all domains share one NIC.
    pub(super) shares_nic: bool,
}

/// Decides which domain serves and which ones stand by.
pub struct Failover {
    pub(super) domains: Vec<Domain>,
    pub(super) switchboard: Arc<Switchboard>,
    table: DomainTable,
    pub(super) planned: PlannedOperations,
    /// Drills so far.
    pub(super) drill_count: AtomicU32,
    /// Whether standbys are drilled without being asked.
    pub(super) drills: bool,
    /// What the domain that serves hears.
    pub(super) hearing: Hearing,
    jobs: Vec<JobSender>,
    notices: SyncSender<Notice>,
    drill_notices: SyncSender<Notice>,
    pub(super) drill_limit: Duration,
    pub(super) attaches_early: bool,
    pub(super) shares_nic: bool,
}

impl Failover {
    /// All domains are failed at first; their rebuild threads bring them up.
    pub(super) fn new(config: FailoverConfig) -> io::Result<Self> {
        let table = DomainTable::new(config.domains.len(), config.limits)?;
        let FailoverConfig { domains, switchboard, jobs, notices, drill_notices, .. } = config;
        let FailoverConfig { drills, drill_limit, attaches_early, shares_nic, .. } = config;
        for (domain, entry) in domains.iter().zip(table.lock().iter_mut()) {
            entry.standing.must_prove = drills && domain.is_hardware();
        }
        Ok(Self {
            domains,
            switchboard,
            table,
            planned: PlannedOperations::default(),
            drill_count: AtomicU32::new(0),
            drills,
            hearing: Hearing::default(),
            jobs,
            notices,
            drill_notices,
            drill_limit,
            attaches_early,
            shares_nic,
        })
    }

    pub(super) fn lock_table(&self) -> TableGuard<'_> {
        self.table.lock()
    }

    #[inline]
    pub(super) fn domain(&self, id: DomainId) -> &Domain {
        &self.domains[id.index()]
    }

    /// A domain has failed: stop its NIC and hand its ring to the best standby, see
    /// [`super::rules`].
    ///
    /// The vCPU must be out of the guest for good. A verdict on an earlier life, or on a domain
    /// that has failed already, changes nothing.
    pub fn verdict(&self, from: DomainId, epoch: u32, verdict: Verdict, entered_ns: u64) {
        let verdict_ns = monotonic_ns();
        let mut table = self.lock_table();
        let entry = &mut table[from.index()];
        let role = entry.role();
        if entry.epoch() != epoch || role.is_down() {
            return;
        }
        entry.end_aside();
        if table.step(from.index(), RoleEvent::Fault).is_err() {
            return;
        }
        let was_active = role == RoleState::Active;
        let fall = Fall { at_ns: verdict_ns, nic_suspected: verdict.suspects_nic() };
        let to = self.replace_failed(&mut table, from, was_active, fall);
        let released_ns = monotonic_ns();
        drop(table);
        // Of one NIC for all domains, this has to come before the successor's driver attaches it.
        let unpublished_ns = self.domain(from).unpublished_since_ns().filter(|_| was_active);
        self.send_failure(FailoverRecord {
            from,
            epoch,
            was_active,
            to,
            verdict,
            entered_ns,
            unpublished_ns,
            verdict_ns,
            released_ns,
        });
        if was_active && to.is_none() {
            self.call_all();
        }
        self.notify();
    }

    /// A verdict on a domain that runs: its vCPU is ordered out of the guest first, and trapped
    /// register accesses of that life are not carried out any more, even if the vCPU does not come
    /// out.
    pub(super) fn condemn(&self, life: &LifeHandle, verdict: Verdict) {
        let entered_ns = life.last_entry_ns();
        let is_out = life.end(PAUSE_DEADLINE);
        self.verdict(life.id(), life.epoch(), verdict, entered_ns);
        if !is_out {
            let domain = self.domain(life.id()).name();
            tracing::warn!(domain, "the vCPU does not come out of the guest");
        }
    }

    /// Silences a failed domain's NIC, and has the best standby serve if that domain served.
    fn replace_failed(
        &self,
        table: &mut TableGuard<'_>,
        from: DomainId,
        was_active: bool,
        fall: Fall,
    ) -> Option<DomainId> {
        let partner = self.end_partnership(table, from.index(), fall);
        let successor = match was_active {
            true => partner.or_else(|| self.successor(table, Need::CannotStay)),
            false => None,
        };
        // The successor's filters are opened before those of the failed domain are shut: broadcasts
        // in between come in twice, and the switchboard delivers them once.
        if let Some(successor) = successor {
            self.open(successor);
        }
        self.silence(from.index(), was_active);
        successor.and_then(|successor| self.promote(table, successor, fall))
    }

    /// Ends a planned switch in which a domain failed. Either domain may have the ring by then. If
    /// the failed one served, returns the other as its successor; if not, makes sure that the other
    /// has the ring.
    fn end_partnership(
        &self,
        table: &mut TableGuard<'_>,
        failed: usize,
        fall: Fall,
    ) -> Option<usize> {
        let partner = table[failed].standing.partner.take()?;
        let other = &mut table[partner];
        other.standing.partner = None;
        if other.role() == RoleState::Active {
            let (to, epoch) = (self.domains[partner].id(), other.epoch());
            self.switchboard.take_over(fall.order(to, epoch));
        }
        (other.role() == RoleState::Standby).then_some(partner)
    }

    /// Silences the NIC of a domain that failed, unless another domain has that NIC now.
    fn silence(&self, index: usize, was_active: bool) {
        if was_active || !self.shares_nic {
            self.domains[index].silence();
        }
    }

    /// Lets a domain that takes over receive.
    pub(super) fn open(&self, index: usize) {
        // A driver that attaches only now opens the filters itself, and must not be disturbed.
        if self.attaches_early {
            self.domains[index].open_filters();
        }
    }

    /// Has the NICs receive for the addresses that the guests have now beside their own.
    pub(super) fn follow_macs(&self) {
        // Reset first: what changes from here on is a change of its own.
        let _ = self.switchboard.macs_changed().read();
        let added = self.switchboard.added_addresses();
        // Filters are opened and shut under this lock.
        let _table = self.lock_table();
        self.domains.iter().for_each(|domain| domain.set_added(&added));
    }

    /// Hands the ring to a standby whose filters are open or about to be.
    pub(super) fn promote(
        &self,
        table: &mut TableGuard<'_>,
        index: usize,
        fall: Fall,
    ) -> Option<DomainId> {
        table.step(index, RoleEvent::TakeOver).ok()?;
        let (domain, entry) = (&self.domains[index], &mut table[index]);
        // A debugger finds out by itself; its breakpoints have no effect any more.
        entry.end_aside();
        domain.arm_first_sent();
        let epoch = entry.epoch();
        self.switchboard.take_over(fall.order(domain.id(), epoch));
        if let Some(life) = &entry.life {
            life.release();
        }
        Some(domain.id())
    }

    fn send_failure(&self, record: FailoverRecord) {
        // A life fails once, and a thread empties its queue before it starts another, so there is
        // room. A domain whose failure is lost all the same is rebuilt at its thread's next look.
        if !self.jobs[record.from.index()].send(Job::Failure(record)) {
            tracing::error!("a failure is not recorded");
        }
    }

    /// Stops a standby that is to be rebuilt, and has it rebuilt. Returns true if the domain was a
    /// standby.
    pub(super) fn replace(&self, id: DomainId) -> bool {
        let mut table = self.lock_table();
        let entry = &table[id.index()];
        if entry.role() != RoleState::Standby || entry.standing.partner.is_some() {
            return false;
        }
        if table.step(id.index(), RoleEvent::Fault).is_err() {
            return false;
        }
        self.silence(id.index(), false);
        drop(table);
        // Without room for it, the domain is rebuilt at its thread's next look.
        self.jobs[id.index()].send(Job::Begin);
        self.notify();
        true
    }

    /// A domain that has failed is rebuilt now, whatever it waits for: its NIC is to be let go of.
    pub(super) fn rebuild_now(&self, id: DomainId) {
        // A thread whose queue is full has a failure of this domain in it, and rebuilds the domain.
        let _ = self.jobs[id.index()].send(Job::Begin);
    }

    /// Tells the monitor that something changed on which the state of the whole may depend.
    pub(super) fn notify(&self) {
        // If there is no room, an earlier notice has not been taken yet, and stands for this one
        // too.
        let _ = self.notices.try_send(Notice::Changed);
    }

    /// Tells the drill thread that a standby may owe a drill.
    pub(super) fn notify_drills(&self) {
        // There is no such thread where standbys cannot be drilled; and a notice that was not taken
        // yet stands for this one too.
        let _ = self.drill_notices.try_send(Notice::Changed);
    }

    /// No domain serves: every rebuild thread is told, because a domain in quarantine is needed
    /// now.
    fn call_all(&self) {
        self.jobs.iter().for_each(JobSender::call);
    }

    /// The domain that takes over from the active one.
    pub(super) fn successor(&self, table: &TableGuard<'_>, need: Need) -> Option<usize> {
        views::successor(&self.domains, table, need)
    }
}

/// Queries.
impl Failover {
    /// The domains as the rules see them now. Takes no lock.
    pub fn views(&self) -> Vec<DomainView> {
        views::published_views(&self.domains, &self.table)
    }

    /// The state of the service as a whole. Takes no lock.
    pub fn system_state(&self) -> SystemState {
        rules::system_state(&self.views())
    }

    /// Returns true if there is a standby that nothing speaks against, which makes it worth leaving a domain that has
    /// lost its link. Takes no lock.
    pub fn has_spare(&self) -> bool {
        rules::successor(&self.views(), Need::CanStay).is_some()
    }

    /// How healthy the standby is that would take over from a domain with this need, if there is
    /// one. Takes no lock.
    pub(super) fn successor_health(&self, need: Need) -> Option<Health> {
        let views = self.views();
        rules::successor(&views, need).map(|index| views[index].health())
    }

    /// Returns true if a domain serves, and another could take over and has proved it where it must.
    /// Takes no lock.
    pub fn is_redundant(&self) -> bool {
        rules::is_redundant(&self.views())
    }

    /// The role of a domain and the number of its newest life. Takes no lock.
    pub fn state(&self, id: DomainId) -> (RoleState, u32) {
        let published = self.table.published(id.index());
        (published.role, published.epoch)
    }

    /// The domain that serves. Takes no lock.
    pub fn active(&self) -> Option<DomainId> {
        self.domains.iter().map(Domain::id).find(|&id| self.state(id).0 == RoleState::Active)
    }

    /// Counters of the newest life of a domain, if it had one. Takes no lock that a failover needs.
    pub fn probe(&self, id: DomainId) -> Option<LifeView> {
        self.table.probe(id.index())
    }

    /// The role of a domain, and its life if it has one.
    pub fn state_and_life(&self, id: DomainId) -> Option<(RoleState, Arc<Life>)> {
        self.role_and_life(id).map(|(role, life)| (role, life.micro_vm().clone()))
    }

    /// The life of a domain, if it has one.
    pub fn life(&self, id: DomainId) -> Option<Arc<Life>> {
        self.life_of(id).map(|life| life.micro_vm().clone())
    }

    pub(super) fn role_and_life(&self, id: DomainId) -> Option<(RoleState, LifeHandle)> {
        let table = self.lock_table();
        let entry = &table[id.index()];
        entry.life.clone().map(|life| (entry.role(), life))
    }

    pub(super) fn life_of(&self, id: DomainId) -> Option<LifeHandle> {
        self.lock_table()[id.index()].life.clone()
    }

    pub(super) fn show_life(&self, id: DomainId, view: LifeView) {
        self.table.show_life(id.index(), view);
    }

    /// Remembers that a NIC's link came or went, to find links that flap. If a failover follows, it
    /// is a verdict of its own.
    pub fn link_changed(&self, id: DomainId, up: bool) {
        let mut table = self.lock_table();
        let entry = &mut table[id.index()];
        entry.link.changed(up, monotonic_ns());
        if up {
            entry.standing.owe_drill();
        }
        drop(table);
        self.notify();
        self.notify_drills();
    }
}

//! The failover itself: the one place where roles change.
//!
//! [`Failover::verdict`] runs on whichever thread has the verdict (the vCPU thread for a crash, the
//! supervisor for all else), because every thread in between would cost a wake-up. The table are
//! behind one mutex; what is done under it is a few stores, register writes and eventfd writes.
//! Nothing on the path from the verdict to the release of the spare allocates, logs, maps memory or
//! waits. Everything slow is left to the domain's rebuild thread, through a queue that was sized for
//! it.

use std::io;
use std::sync::atomic::AtomicU32;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::domain_table::{DomainEntry, DomainTable, Shown, TableGuard};
use super::roles::{IllegalTransition, RoleEvent, RoleState};
use super::rules::{self, DomainView, Link, Need, SystemState};
use super::verdict::{FailoverRecord, Verdict};
use crate::topology::{Limits, MAX_DOMAINS};
use microvm::domain::{DomainId, DomainSlot, Life, LifeProbe};
use platform::clock::monotonic_ns;
use switchboard::{Switchboard, TakeOver};

/// What a domain's rebuild thread is asked for. Not boxed: it is sent from the failover path, which
/// does not allocate.
#[expect(clippy::large_enum_variant, reason = "sent without allocating, a few in all")]
pub(super) enum Job {
    /// Bring the domain up for the first time.
    Begin,
    /// It has failed: record it, and build it anew.
    Failure(FailoverRecord),
    /// Nobody serves: no time for a quarantine.
    Needed,
    /// The system ends.
    Stop,
}

/// Room for jobs in a rebuild thread's queue: one failure of the life that served, one of the life
/// that is being built (a thread looks into its queue before it starts another), and some for the
/// rest, which may be dropped.
pub(super) const JOBS: usize = 8;

/// What [`Failover`] is made of.
pub(super) struct FailoverConfig {
    pub(super) slots: Vec<Arc<DomainSlot>>,
    pub(super) switchboard: Arc<Switchboard>,
    /// Of each domain, the queue of its rebuild thread, with room for [`JOBS`].
    pub(super) jobs: Vec<SyncSender<Job>>,
    /// Told `true` at each change, `false` at the end; room for one.
    pub(super) notices: SyncSender<bool>,
    pub(super) limits: Limits,
    /// How long a drill may last.
    pub(super) drill_limit: Duration,
    /// Whether a standby's driver has its NIC attached, see `Policy::attaches_early`.
    pub(super) attaches_early: bool,
    /// Whether all domains have one NIC between them.
    pub(super) shares_nic: bool,
}

/// Who serves, who stands by.
pub struct Failover {
    pub(super) slots: Vec<Arc<DomainSlot>>,
    pub(super) switchboard: Arc<Switchboard>,
    table: DomainTable,
    /// Held by the one planned operation that is on. Never with the table locked.
    pub(super) planned: Mutex<()>,
    /// Drills so far.
    pub(super) drills: AtomicU32,
    jobs: Vec<SyncSender<Job>>,
    notices: SyncSender<bool>,
    pub(super) drill_limit: Duration,
    pub(super) attaches_early: bool,
    pub(super) shares_nic: bool,
}

impl Failover {
    /// All domains failed; their rebuild threads bring them up.
    pub(super) fn new(config: FailoverConfig) -> io::Result<Self> {
        let table = DomainTable::new(config.slots.len(), config.limits)?;
        let FailoverConfig { slots, switchboard, jobs, notices, .. } = config;
        let FailoverConfig { drill_limit, attaches_early, shares_nic, .. } = config;
        let (planned, drills) = (Mutex::new(()), AtomicU32::new(0));
        Ok(Self {
            slots,
            switchboard,
            table,
            planned,
            drills,
            jobs,
            notices,
            drill_limit,
            attaches_early,
            shares_nic,
        })
    }

    pub(super) fn lock_table(&self) -> TableGuard<'_> {
        self.table.lock()
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
        let Ok(failed) = entry.state.after(RoleEvent::Fault) else { return };
        if entry.epoch != epoch {
            return;
        }
        let was_active = entry.state == RoleState::Active;
        entry.state = failed;
        entry.put_back();
        let partner = self.separate(&mut table, from.index(), verdict_ns);
        let successor = match was_active {
            true => partner.or_else(|| self.successor(&table, Need::CannotStay)),
            false => None,
        };
        // Before the other shuts: what is sent to all in between comes to both, and the switchboard
        // hands it on once.
        if let Some(successor) = successor {
            self.open(successor);
        }
        self.shut(from.index(), was_active);
        let to = successor.and_then(|successor| self.promote(&mut table, successor, verdict_ns));
        let released_ns = monotonic_ns();
        drop(table);
        let record = FailoverRecord {
            from,
            epoch,
            was_active,
            to,
            verdict,
            entered_ns,
            verdict_ns,
            released_ns,
        };
        match self.jobs[from.index()].try_send(Job::Failure(record)) {
            // Without a rebuild thread the whole system is stopping.
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            // A life fails once, and a thread empties its queue before it starts another.
            Err(TrySendError::Full(_)) => tracing::error!("a failure is not recorded"),
        }
        if was_active && to.is_none() {
            self.call_all();
        }
        self.notify();
    }

    /// Ends a planned switch in which a domain failed. The ring may be with either of the two: says
    /// whom it goes to if that domain served, and makes sure that the other has it if not.
    fn separate(&self, table: &mut [DomainEntry], failed: usize, verdict_ns: u64) -> Option<usize> {
        let partner = table[failed].partner.take()?;
        let other = &mut table[partner];
        other.partner = None;
        if other.state == RoleState::Active {
            let (to, epoch) = (self.slots[partner].id, other.epoch);
            self.switchboard.take_over(TakeOver { to, epoch, verdict_ns });
        }
        (other.state == RoleState::Standby).then_some(partner)
    }

    /// Silences the NIC of a domain that failed, unless it is another's now.
    fn shut(&self, index: usize, was_active: bool) {
        if was_active || !self.shares_nic {
            self.slots[index].nic.shut_units();
        }
    }

    /// Lets a domain that takes over receive.
    fn open(&self, index: usize) {
        // A driver that attaches only now opens them itself, and must not be disturbed.
        if self.attaches_early {
            self.slots[index].nic.open_filters();
        }
    }

    /// Stops a standby that is to be built anew, and has that done. Whether it was one.
    pub(super) fn replace(&self, id: DomainId) -> bool {
        let mut table = self.lock_table();
        let entry = &mut table[id.index()];
        if entry.state != RoleState::Standby || entry.partner.is_some() {
            return false;
        }
        let Ok(failed) = entry.state.after(RoleEvent::Fault) else { return false };
        entry.state = failed;
        self.shut(id.index(), false);
        drop(table);
        // A thread whose queue is full has a failure of this domain in it, and builds it anew.
        let _ = self.jobs[id.index()].try_send(Job::Begin);
        self.notify();
        true
    }

    /// Something changed that the state of the whole may depend on.
    pub(super) fn notify(&self) {
        // A nudge that finds no room comes before one that was not taken yet.
        let _ = self.notices.try_send(true);
    }

    /// Nobody serves: whoever is in quarantine is needed now.
    fn call_all(&self) {
        for jobs in &self.jobs {
            // A thread whose queue is full is awake.
            let _ = jobs.try_send(Job::Needed);
        }
    }

    /// What the rules look at. On the failover path: allocates nothing, reads the status register
    /// of each NIC that is in use and of no other.
    fn view(&self, table: &[DomainEntry], index: usize, now_ns: u64) -> DomainView {
        let entry = &table[index];
        let link = self.link(index, entry.state);
        let held_down = entry.link.held_until_ns(now_ns).is_some();
        let (drill_passed, aside) = (entry.drill_passed, entry.is_aside());
        DomainView { state: entry.state, link, held_down, drill_passed, aside }
    }

    fn link(&self, index: usize, state: RoleState) -> Link {
        match state {
            RoleState::Active | RoleState::Standby => {
                let up = self.slots[index].nic.link_up();
                if up { Link::Up } else { Link::Down }
            }
            // A NIC that is being reset must not be touched.
            RoleState::Failed | RoleState::Restarting | RoleState::Quarantined => Link::Unknown,
        }
    }

    pub(super) fn with_views<T>(
        &self,
        table: &[DomainEntry],
        ask: impl FnOnce(&[DomainView]) -> T,
    ) -> T {
        let now_ns = monotonic_ns();
        let mut views = [DomainView::NOBODY; MAX_DOMAINS];
        for (index, view) in views.iter_mut().enumerate().take(table.len()) {
            *view = self.view(table, index, now_ns);
        }
        ask(&views[..table.len()])
    }

    pub(super) fn successor(&self, table: &[DomainEntry], need: Need) -> Option<usize> {
        self.with_views(table, |views| rules::successor(views, need))
    }

    /// The domains as the rules see them now. Takes no lock.
    pub fn views(&self) -> Vec<DomainView> {
        let now_ns = monotonic_ns();
        let view = |(index, shown): (usize, Shown)| DomainView {
            state: shown.state,
            link: self.link(index, shown.state),
            held_down: now_ns < shown.held_until_ns,
            drill_passed: shown.drill_passed,
            aside: shown.aside,
        };
        self.table.shown_together().into_iter().enumerate().map(view).collect()
    }

    /// What the service is worth now. Takes no lock.
    pub fn system_state(&self) -> SystemState {
        rules::system_state(&self.views())
    }

    /// A NIC's link came or went: remembered against flapping. What follows of it is a verdict.
    pub fn link_changed(&self, id: DomainId, up: bool) {
        self.lock_table()[id.index()].link.changed(up, monotonic_ns());
        self.notify();
    }

    /// Whether somebody other than this domain serves, or would at once.
    pub(super) fn is_dispensable(&self, id: DomainId) -> bool {
        let able =
            |entry: &DomainEntry| matches!(entry.state, RoleState::Active | RoleState::Standby);
        self.lock_table().iter().enumerate().any(|(n, entry)| n != id.index() && able(entry))
    }

    /// Hands the ring to a standby, whose filters are open or about to be.
    fn promote(
        &self,
        table: &mut [DomainEntry],
        index: usize,
        verdict_ns: u64,
    ) -> Option<DomainId> {
        let entry = &mut table[index];
        let slot = &self.slots[index];
        entry.state = entry.state.after(RoleEvent::TakeOver).ok()?;
        // A debugger finds out by itself; its breakpoints stop nobody any more.
        entry.put_back();
        slot.nic.arm_first_sent();
        self.switchboard.take_over(TakeOver { to: slot.id, epoch: entry.epoch, verdict_ns });
        if let Some(life) = &entry.life {
            life.release();
        }
        Some(slot.id)
    }

    /// Whether a healthy standby is there: worth leaving a domain for that has lost its link.
    pub fn has_spare(&self) -> bool {
        rules::successor(&self.views(), Need::CanStay).is_some()
    }

    /// The rebuild thread begins with a domain: its new epoch, and what is left of the old life.
    ///
    /// # Errors
    /// The domain has not failed.
    pub(super) fn begin_rebuild(
        &self,
        id: DomainId,
    ) -> Result<(u32, Option<Arc<Life>>), IllegalTransition> {
        let mut table = self.lock_table();
        let entry = &mut table[id.index()];
        entry.state = entry.state.after(RoleEvent::Rebuild)?;
        entry.epoch += 1;
        entry.drill_passed = true;
        entry.put_back();
        Ok((entry.epoch, entry.life.take()))
    }

    /// A life that the rebuild thread took out is not over yet.
    pub(super) fn return_life(&self, id: DomainId, life: Arc<Life>) {
        self.lock_table()[id.index()].life = Some(life);
    }

    /// The rebuild thread has started a life.
    pub(super) fn enter_life(&self, id: DomainId, life: Arc<Life>) {
        self.table.show_life(id.index(), life.probe());
        self.lock_table()[id.index()].life = Some(life);
    }

    /// A rebuilt domain is attached: it stands by, or serves at once where nobody does.
    ///
    /// # Errors
    /// It failed in the meantime.
    pub(super) fn ready(&self, id: DomainId) -> Result<RoleState, IllegalTransition> {
        let mut table = self.lock_table();
        let entry = &mut table[id.index()];
        entry.state = entry.state.after(RoleEvent::Ready)?;
        if !table.iter().any(|entry| entry.state == RoleState::Active)
            && let Some(successor) = self.successor(&table, Need::CannotStay)
        {
            self.open(successor);
            self.promote(&mut table, successor, monotonic_ns());
        }
        let state = table[id.index()].state;
        // Before the nudge: who is nudged looks at what is shown when the table are let go.
        drop(table);
        self.notify();
        Ok(state)
    }

    /// A domain could not be built. If its life failed by itself, that was noticed already.
    pub(super) fn build_failed(&self, id: DomainId, epoch: u32) {
        let mut table = self.lock_table();
        let entry = &mut table[id.index()];
        if entry.epoch == epoch
            && entry.state == RoleState::Restarting
            && let Ok(failed) = entry.state.after(RoleEvent::Fault)
        {
            entry.state = failed;
        }
    }

    /// A failed domain is left alone for a while.
    ///
    /// # Errors
    /// It has not failed.
    pub(super) fn give_up(&self, id: DomainId) -> Result<(), IllegalTransition> {
        let mut table = self.lock_table();
        let entry = &mut table[id.index()];
        entry.state = entry.state.after(RoleEvent::GiveUp)?;
        Ok(())
    }

    /// What a domain is now, and its epoch. Takes no lock.
    pub fn state(&self, id: DomainId) -> (RoleState, u32) {
        let shown = self.table.shown(id.index());
        (shown.state, shown.epoch)
    }

    /// Counters of the newest life of a domain, if it had one. Takes no lock that a failover needs.
    pub fn probe(&self, id: DomainId) -> Option<LifeProbe> {
        self.table.probe(id.index())
    }

    /// What a domain is now, and its life.
    pub fn state_and_life(&self, id: DomainId) -> Option<(RoleState, Arc<Life>)> {
        let table = self.lock_table();
        let entry = &table[id.index()];
        entry.life.clone().map(|life| (entry.state, life))
    }

    /// The life in a entry, if any.
    pub fn life(&self, id: DomainId) -> Option<Arc<Life>> {
        self.lock_table()[id.index()].life.clone()
    }

    /// The domain that serves. Takes no lock.
    pub fn active(&self) -> Option<DomainId> {
        self.slots.iter().map(|slot| slot.id).find(|&id| self.state(id).0 == RoleState::Active)
    }

    /// Whether a domain other than this one serves or has just been told to, and if so whether its
    /// driver has attached its NIC.
    pub(super) fn successor_attached(&self, id: DomainId) -> Option<bool> {
        let active = self.active().filter(|active| *active != id)?;
        let (_, epoch) = self.state(active);
        Some(self.slots[active.index()].is_attached(epoch))
    }

    /// Whether one serves and another could take over.
    pub fn is_redundant(&self) -> bool {
        self.active().is_some() && self.has_spare()
    }

    /// Takes all lives out, for the end.
    pub(super) fn take_lives(&self) -> Vec<Arc<Life>> {
        self.lock_table().iter_mut().filter_map(|entry| entry.life.take()).collect()
    }
}

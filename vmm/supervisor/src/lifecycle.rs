//! The steps of a domain from one life to the next, as its rebuild thread takes them.

use super::domain::LifeHandle;
use super::failover::{Failover, Fall};
use super::roles::{IllegalTransition, RoleEvent, RoleState};
use super::rules::Need;
use microvm::domain::DomainId;
use platform::clock::monotonic_ns;

impl Failover {
    /// The rebuild thread begins with a domain. Returns the number of the new life, and what is
    /// left of the old one.
    ///
    /// # Errors
    /// The domain has not failed.
    pub(super) fn begin_rebuild(
        &self,
        id: DomainId,
    ) -> Result<(u32, Option<LifeHandle>), IllegalTransition> {
        let mut table = self.lock_table();
        table.step(id.index(), RoleEvent::Rebuild)?;
        let entry = &mut table[id.index()];
        entry.end_aside();
        Ok((entry.epoch(), entry.life.take()))
    }

    /// Puts back a life that the rebuild thread took out and that has not ended yet.
    pub(super) fn return_life(&self, id: DomainId, life: LifeHandle) {
        self.lock_table()[id.index()].life = Some(life);
    }

    /// Enters the life that the rebuild thread has started.
    pub(super) fn enter_life(&self, id: DomainId, life: LifeHandle) {
        self.show_life(id, life.view());
        self.lock_table()[id.index()].life = Some(life);
    }

    /// A rebuilt domain has attached its NIC: it stands by, or serves at once if no domain does.
    /// Returns its role; `None` if it failed in the meantime.
    pub(super) fn ready(&self, id: DomainId) -> Option<RoleState> {
        let mut table = self.lock_table();
        if table[id.index()].role() != RoleState::Restarting {
            return None;
        }
        table.step(id.index(), RoleEvent::Ready).ok()?;
        if table.active().is_none()
            && let Some(successor) = self.successor(&table, Need::CannotStay)
        {
            self.open(successor);
            let fall = Fall { at_ns: monotonic_ns(), nic_suspected: false };
            self.promote(&mut table, successor, fall);
        }
        let role = table[id.index()].role();
        // The monitor reads what is published when the table is unlocked, so it is notified after
        // that.
        drop(table);
        self.notify();
        self.notify_drills();
        Some(role)
    }

    /// A domain could not be built. If its life failed by itself, a verdict has said so already.
    pub(super) fn build_failed(&self, id: DomainId, epoch: u32) {
        let mut table = self.lock_table();
        let entry = &table[id.index()];
        if entry.epoch() == epoch && entry.role() == RoleState::Restarting {
            // The role was read under the same lock, so this step is legal.
            let _ = table.step(id.index(), RoleEvent::Fault);
        }
    }

    /// Begins the quarantine of a failed domain.
    ///
    /// # Errors
    /// The domain has not failed.
    pub(super) fn give_up(&self, id: DomainId) -> Result<(), IllegalTransition> {
        self.lock_table().step(id.index(), RoleEvent::GiveUp).map(|_| ())
    }

    /// Returns true if another domain serves, or could at once.
    pub(super) fn is_dispensable(&self, id: DomainId) -> bool {
        let table = self.lock_table();
        table.iter().enumerate().any(|(n, entry)| n != id.index() && entry.role().can_serve())
    }

    /// If another domain serves or has just been told to: returns whether its driver has attached
    /// its NIC.
    pub(super) fn successor_attached(&self, id: DomainId) -> Option<bool> {
        let active = self.active().filter(|active| *active != id)?;
        let (_, epoch) = self.state(active);
        Some(self.domain(active).is_attached(epoch))
    }

    /// Takes all lives out, when the system ends.
    pub(super) fn take_lives(&self) -> Vec<LifeHandle> {
        self.lock_table().iter_mut().filter_map(|entry| entry.life.take()).collect()
    }
}

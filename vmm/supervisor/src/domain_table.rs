//! The domain table: the role of each domain, and what belongs to it.
//!
//! ```text
//!                    ┌ Standing   role, epoch, drill, partner: plain data, one writer at a time
//!   DomainEntry ─────┤
//!                    └ handles    the life, a pause, the link's history
//! ```
//! It is changed under one mutex, whose holder runs with the priority of a failover that waits for
//! it, and published to readers without it. A role changes in [`Standing::step`] and nowhere else;
//! [`TableGuard::step`] is the way to it, and logs an illegal step when the lock is released.

use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

use super::domain::LifeHandle;
use super::flapping::LinkHistory;
use super::published::{Published, PublishedTable};
use super::reports::{Blame, DrillReport};
use super::roles::{IllegalTransition, RoleEvent, RoleState};
use super::rules::Proof;
use crate::topology::Limits;
use microvm::domain::{Hold, LifeView};
use platform::clock::monotonic_ns;
use platform::priority_mutex::{PriorityGuard, PriorityMutex};

/// The standing of one domain in the service. Plain data: it makes sense without the handles beside
/// it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    role: RoleState,
    /// Number of the newest life; 0 before the first.
    epoch: u32,
    /// What drills have shown of the domain, in whatever life.
    pub(super) proof: Proof,
    /// It counts as a spare only after it has passed a drill: its NIC is hardware, and drills are
    /// held.
    pub(super) must_prove: bool,
    /// A drill is owed: none has ended since the domain was built or its link came up.
    pub(super) owes_drill: bool,
    /// Drills in a row that failed by the standby's own side.
    pub(super) failed_drills: u32,
    /// The other domain of a planned switch that is in progress: either may have the ring.
    pub(super) partner: Option<usize>,
}

impl Standing {
    const NEW: Self = Self {
        role: RoleState::Failed,
        epoch: 0,
        proof: Proof::Given,
        must_prove: false,
        owes_drill: false,
        failed_drills: 0,
        partner: None,
    };

    /// The one place where a role changes.
    ///
    /// # Errors
    /// The event is illegal in the present role, which stays.
    fn step(&mut self, event: RoleEvent) -> Result<RoleState, IllegalTransition> {
        self.role = self.role.after(event)?;
        if event == RoleEvent::Rebuild {
            self.epoch += 1;
            self.owe_drill();
        }
        Ok(self.role)
    }

    /// The domain is built anew, or its link has come up: what was proved may not hold any more. A
    /// drill that failed stays known.
    pub(super) fn owe_drill(&mut self) {
        self.owes_drill = true;
        if self.must_prove && self.proof == Proof::Given {
            self.proof = Proof::Missing;
        }
    }

    /// A drill has ended, or a probe has shown as much. Returns true if that changes what is known
    /// of the domain.
    pub(super) fn drilled(&mut self, blame: Option<Blame>) -> bool {
        self.owes_drill = false;
        let proof = match (blame, self.proof) {
            (None, _) => Proof::Given,
            (Some(Blame::Spare | Blame::Wire), _) => Proof::Failed,
            // A failure of the active domain proves nothing against the standby, nor for it.
            (Some(Blame::Active), Proof::Failed) => Proof::Failed,
            (Some(Blame::Active), Proof::Given | Proof::Missing) => Proof::Missing,
        };
        std::mem::replace(&mut self.proof, proof) != proof
    }
}

/// One domain of the table.
pub(super) struct DomainEntry {
    pub(super) standing: Standing,
    pub(super) life: Option<LifeHandle>,
    pub(super) link: LinkHistory,
    pub(super) last_drill: Option<DrillReport>,
    /// Stopped on request.
    pub(super) paused: Option<Hold>,
    /// In a debugger.
    pub(super) debugged: bool,
}

impl DomainEntry {
    fn new(limits: Limits) -> Self {
        Self {
            standing: Standing::NEW,
            life: None,
            link: LinkHistory::new(limits),
            last_drill: None,
            paused: None,
            debugged: false,
        }
    }

    #[inline]
    pub(super) fn role(&self) -> RoleState {
        self.standing.role
    }

    #[inline]
    pub(super) fn epoch(&self) -> u32 {
        self.standing.epoch
    }

    /// Returns true if the domain is paused or in a debugger, and so may stand still.
    pub(super) fn is_aside(&self) -> bool {
        self.paused.is_some() || self.debugged
    }

    /// Ends what an operator has put the domain aside for.
    pub(super) fn end_aside(&mut self) {
        self.paused = None;
        self.debugged = false;
    }

    fn published(&self, now_ns: u64) -> Published {
        Published {
            role: self.role(),
            epoch: self.epoch(),
            proof: self.standing.proof,
            aside: self.is_aside(),
            held_until_ns: self.link.held_until_ns(now_ns).unwrap_or(0),
        }
    }
}

/// All domains.
pub(super) struct DomainTable {
    entries: PriorityMutex<Vec<DomainEntry>>,
    published: PublishedTable,
    /// The newest life of each domain. Only the rebuild thread and readers take this lock.
    probes: Mutex<Vec<Option<LifeView>>>,
}

impl DomainTable {
    /// A table of `count` domains, none of which has run yet.
    pub(super) fn new(count: usize, limits: Limits) -> io::Result<Self> {
        let entries = (0..count).map(|_| DomainEntry::new(limits)).collect();
        Ok(Self {
            entries: PriorityMutex::new(entries)?,
            published: PublishedTable::new(count),
            probes: Mutex::new(vec![None; count]),
        })
    }

    /// Locks the table.
    pub(super) fn lock(&self) -> TableGuard<'_> {
        let entries = self.entries.lock();
        TableGuard {
            locked: LockedEntries { entries, published: &self.published },
            refusal: Refusal(None),
        }
    }

    /// A domain, without the lock.
    pub(super) fn published(&self, index: usize) -> Published {
        self.published.one(index)
    }

    /// All domains as they were at one moment, without the lock.
    pub(super) fn all_published(&self) -> Vec<Published> {
        self.published.all()
    }

    /// Keeps the newest life of a domain, for readers.
    pub(super) fn show_life(&self, index: usize, view: LifeView) {
        self.probes.lock().unwrap_or_else(PoisonError::into_inner)[index] = Some(view);
    }

    /// The newest life of a domain.
    pub(super) fn probe(&self, index: usize) -> Option<LifeView> {
        self.probes.lock().unwrap_or_else(PoisonError::into_inner)[index].clone()
    }
}

/// The entries under the lock. What was changed is published when this is dropped.
struct LockedEntries<'a> {
    entries: PriorityGuard<'a, Vec<DomainEntry>>,
    published: &'a PublishedTable,
}

impl Drop for LockedEntries<'_> {
    fn drop(&mut self) {
        let now_ns = monotonic_ns();
        self.published.publish(self.entries.iter().map(|entry| entry.published(now_ns)));
    }
}

/// An illegal step, logged when this is dropped.
struct Refusal(Option<(usize, IllegalTransition)>);

impl Drop for Refusal {
    fn drop(&mut self) {
        if let Some((domain, error)) = self.0 {
            tracing::error!(domain, %error, "an illegal change of a role is refused");
        }
    }
}

/// The locked table.
pub(super) struct TableGuard<'a> {
    // Fields are dropped in this order, so nothing is logged with the table locked.
    locked: LockedEntries<'a>,
    refusal: Refusal,
}

impl TableGuard<'_> {
    /// Changes the role of a domain. On the failover path: allocates and logs nothing, unless the
    /// step is illegal.
    ///
    /// # Errors
    /// The event is illegal in the domain's role. Nothing changes, and the refusal is logged:
    /// callers ask for the role before, so this is a defect of theirs.
    pub(super) fn step(
        &mut self,
        index: usize,
        event: RoleEvent,
    ) -> Result<RoleState, IllegalTransition> {
        let result = self.locked.entries[index].standing.step(event);
        if let Err(error) = result {
            self.refusal.0 = Some((index, error));
        }
        result
    }

    /// The domain that serves.
    pub(super) fn active(&self) -> Option<usize> {
        self.iter().position(|entry| entry.role() == RoleState::Active)
    }
}

impl Deref for TableGuard<'_> {
    type Target = [DomainEntry];

    #[inline]
    fn deref(&self) -> &[DomainEntry] {
        &self.locked.entries
    }
}

impl DerefMut for TableGuard<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [DomainEntry] {
        &mut self.locked.entries
    }
}

#[cfg(test)]
mod tests;

//! Drills: a standby proves that it could take over, while it stands by.
//!
//! ```text
//!   1. the standby is released for a millisecond, without the ring
//!   2. it sends a question out of its NIC, from a probe address, to the active NIC's probe address
//!   3. the active domain receives the question; the switchboard answers through that domain
//!   4. the standby receives the answer, and reports it
//! ```
//! Neither frame carries the guest's address, so no switch learns anything about it. The domain's
//! role in the table stays standby: a takeover finds the drilled domain awake, and the drill is
//! abandoned.
//!
//! A drill that fails is repeated before it counts, because the machine may have stood still for
//! longer than a drill lasts. Whose fault it was follows from the counters of both NICs.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::domain::{DrillProof, LifeHandle};
use super::failover::Failover;
use super::reports::{Blame, DrillReport, Evidence};
use super::roles::RoleState;
use super::rules::{Need, Proof};
use super::verdict::Verdict;
use super::wait::wait_until;
use microvm::domain::DomainId;
use platform::budget::{CONFIRM_TICK, DRILL_ATTEMPTS, ROLE_DEADLINE};
use platform::clock::monotonic_ns;
use switchboard::SwitchboardError;

/// Why there was no drill.
#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    /// The domain that was named does not stand by, or none does.
    #[error("no domain stands by that could be drilled")]
    NoStandby,
    /// Under this policy a standby's driver has no NIC yet.
    #[error("a standby that has not attached its NIC cannot be drilled")]
    NotAttached,
    /// The standby is known not to be fit.
    #[error("the standby's link is down")]
    LinkDown,
    /// Nobody could answer.
    #[error("the link of the domain that serves is down")]
    ActiveLinkDown,
    /// The standby, or the active domain that would have to answer, may stand still.
    #[error("a domain that is paused or in a debugger has no drill")]
    Aside,
    /// There is no active domain that could answer.
    #[error("no domain serves that could answer")]
    NobodyServes,
    /// Another drill, a switch or an upgrade is in progress.
    #[error("another planned operation is in progress")]
    Busy,
    /// The standby had to serve, or failed.
    #[error("a failover came in between")]
    Abandoned,
    /// The switchboard does not answer.
    #[error(transparent)]
    Switchboard(#[from] SwitchboardError),
}

/// Which drill a domain needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DrillNeed {
    /// None: it does not stand by, or needs none.
    Nothing,
    /// The next one that the clock says.
    ByClock,
    /// One at once: it is built anew, or its link has come up.
    Owed,
}

/// Rebuilds in a row of a standby that drills find cut off, from the second drill on. The first may
/// mend its NIC, the second comes with a reset; after that it is the network's turn.
const WIRE_REBUILDS: u32 = 2;

impl Failover {
    /// The drill that a domain needs now.
    pub(super) fn drill_need(&self, id: DomainId) -> DrillNeed {
        let table = self.lock_table();
        let entry = &table[id.index()];
        let standing = &entry.standing;
        let ready = entry.role() == RoleState::Standby && standing.partner.is_none();
        if !ready || entry.is_aside() || !self.drills && standing.proof == Proof::Given {
            return DrillNeed::Nothing;
        }
        if standing.owes_drill { DrillNeed::Owed } else { DrillNeed::ByClock }
    }

    /// Drills a standby: the one that is named, or the first in line. A standby that fails is
    /// rebuilt.
    ///
    /// # Errors
    /// There was no drill; see [`DrillError`].
    pub fn drill(&self, id: Option<DomainId>) -> Result<DrillReport, DrillError> {
        let _planned = self.planned.begin().ok_or(DrillError::Busy)?;
        self.drill_planned(id)
    }

    /// The last drill of a domain's present life.
    pub fn last_drill(&self, id: DomainId) -> Option<DrillReport> {
        let table = self.lock_table();
        let entry = &table[id.index()];
        entry.last_drill.filter(|drill| drill.epoch == entry.epoch())
    }

    /// The drill itself; the caller holds the right to a planned operation.
    pub(super) fn drill_planned(&self, id: Option<DomainId>) -> Result<DrillReport, DrillError> {
        if !self.attaches_early {
            return Err(DrillError::NotAttached);
        }
        let (life, answers) = self.choose(id)?;
        let mut report = self.attempt(&life, answers)?;
        while report.blame.is_some() && report.evidence.ended && report.attempts < DRILL_ATTEMPTS {
            let attempts = report.attempts + 1;
            report = DrillReport { attempts, ..self.attempt(&life, answers)? };
        }
        if report.blame.is_some() {
            // A link that was lost meanwhile is the reason, and is judged elsewhere.
            self.require_links(life.id(), answers)?;
        }
        self.remember(&report);
        if let Some(blame) = self.rebuilds_for(&report) {
            self.condemn(&life, Verdict::Drill(blame));
        }
        Ok(report)
    }

    /// Counts drills that failed in a row. Returns whom to blame if the standby is to be rebuilt for
    /// this one.
    fn rebuilds_for(&self, report: &DrillReport) -> Option<Blame> {
        let mut table = self.lock_table();
        let failed = &mut table[report.domain.index()].standing.failed_drills;
        match report.blame {
            None => *failed = 0,
            Some(Blame::Active) => {}
            Some(Blame::Spare | Blame::Wire) => *failed = failed.saturating_add(1),
        }
        let useful = match report.blame? {
            Blame::Active => false,
            Blame::Spare => true,
            // The active domain may have gone deaf in this moment, which its detectors find: a
            // standby that is being built could not take over then.
            Blame::Wire => (2..2 + WIRE_REBUILDS).contains(failed),
        };
        report.blame.filter(|_| useful)
    }

    /// One question to the first standby, for which no domain is blamed.
    pub(super) fn probe_question(&self) -> Result<DrillReport, DrillError> {
        let _planned = self.planned.begin().ok_or(DrillError::Busy)?;
        let (life, answers) = self.choose(None)?;
        self.attempt(&life, answers)
    }

    /// The standby to drill, and the domain that answers.
    fn choose(&self, id: Option<DomainId>) -> Result<(LifeHandle, DomainId), DrillError> {
        let table = self.lock_table();
        let active = table.active().ok_or(DrillError::NobodyServes)?;
        let index = match id {
            Some(id) => Some(id.index()),
            None => self.successor(&table, Need::CannotStay),
        };
        let entry = index.and_then(|index| table.get(index)).ok_or(DrillError::NoStandby)?;
        let life = entry.life.clone().filter(|_| entry.role() == RoleState::Standby);
        let life = life.ok_or(DrillError::NoStandby)?;
        if entry.is_aside() || table[active].debugged {
            return Err(DrillError::Aside);
        }
        let answers = &self.domains[active];
        self.require_links(life.id(), answers.id())?;
        Ok((life, answers.id()))
    }

    /// Refuses a drill without a link.
    fn require_links(&self, standby: DomainId, answers: DomainId) -> Result<(), DrillError> {
        match (self.domain(standby).link_is_up(), self.domain(answers).link_is_up()) {
            (true, true) => Ok(()),
            (false, _) => Err(DrillError::LinkDown),
            (true, false) => Err(DrillError::ActiveLinkDown),
        }
    }

    /// Keeps the outcome of a drill. Returns true if it changes the standby's fitness.
    pub(super) fn remember(&self, report: &DrillReport) -> bool {
        let mut table = self.lock_table();
        let entry = &mut table[report.domain.index()];
        if entry.epoch() != report.epoch {
            return false;
        }
        entry.last_drill = Some(*report);
        entry.standing.drilled(report.blame)
    }

    /// Acts on a domain that still stands by in the same life.
    fn while_standby<T>(
        &self,
        life: &LifeHandle,
        act: impl FnOnce() -> T,
    ) -> Result<T, DrillError> {
        let table = self.lock_table();
        let entry = &table[life.id().index()];
        let same = entry.role() == RoleState::Standby && entry.epoch() == life.epoch();
        if same && !life.is_stopped() { Ok(act()) } else { Err(DrillError::Abandoned) }
    }

    fn attempt(&self, life: &LifeHandle, answers: DomainId) -> Result<DrillReport, DrillError> {
        let number = self.drill_count.fetch_add(1, Ordering::Relaxed) + 1;
        self.begin_attempt(life, number)?;
        let outcome = self.attempt_begun(life, answers, number);
        for id in [life.id(), answers] {
            self.accept_probes(id, false);
        }
        let seen = self.switchboard.end_drill()?;
        let (mut evidence, round_trip_ns) = outcome?;
        evidence.seen = seen;
        let active = (answers, self.state(answers).1);
        evidence.active_hears = self.hearing.hears(active, monotonic_ns());
        Ok(DrillReport {
            domain: life.id(),
            epoch: life.epoch(),
            blame: evidence.blame(),
            evidence,
            attempts: 1,
            round_trip_ns,
            at_ns: monotonic_ns(),
        })
    }

    /// Has the switchboard write question and answer. It refuses while a takeover is on its way to
    /// it, and while the answer of the last drill waits for the NIC's confirmation; both pass.
    fn begin_attempt(&self, life: &LifeHandle, number: u32) -> Result<(), DrillError> {
        let end = Instant::now() + ROLE_DEADLINE;
        while !self.switchboard.begin_drill(number, life.id())? {
            if Instant::now() >= end {
                return Err(DrillError::NobodyServes);
            }
            std::thread::sleep(CONFIRM_TICK);
        }
        Ok(())
    }

    /// Lets a NIC receive probes, or no longer, unless the domain is being rebuilt.
    fn accept_probes(&self, id: DomainId, accept: bool) {
        let table = self.lock_table();
        if table[id.index()].role().can_serve() {
            self.domain(id).accept_probes(accept);
        }
    }

    /// The part of an attempt between the switchboard's two.
    fn attempt_begun(
        &self,
        life: &LifeHandle,
        answers: DomainId,
        number: u32,
    ) -> Result<(Evidence, u64), DrillError> {
        let domain = self.domain(life.id());
        for id in [life.id(), answers] {
            self.accept_probes(id, true);
        }
        let began_ns = self.while_standby(life, || {
            domain.prepare_drill(number);
            let began_ns = monotonic_ns();
            life.begin_drill();
            began_ns
        })?;
        let _released = Released { failover: self, life };
        let has_ended = || domain.has_ended_drill(number);
        wait_until(self.drill_limit, has_ended);
        let round_trip_ns = monotonic_ns() - began_ns;
        self.while_standby(life, || life.stand_by())?;
        let ended = wait_until(ROLE_DEADLINE, has_ended);
        let proof = self.while_standby(life, || domain.take_drill_proof())?;
        let DrillProof { sent, answered, nic_sent, nic_received } = proof;
        let evidence =
            Evidence { ended, sent, answered, nic_sent, nic_received, ..Evidence::default() };
        Ok((evidence, round_trip_ns))
    }
}

/// A standby that is released for a drill. It stands by again even if this thread panics.
struct Released<'a> {
    failover: &'a Failover,
    life: &'a LifeHandle,
}

impl Drop for Released<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // If it does not stand by any more, nobody waits for that.
            let _ = self.failover.while_standby(self.life, || self.life.stand_by());
        }
    }
}

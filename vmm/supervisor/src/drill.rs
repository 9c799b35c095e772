//! Drills: a standby proves that it could take over, while it stands by.
//!
//! ```text
//!   1. the standby is released for a millisecond, without the ring
//!   2. it sends a question out of its NIC, from a probe address, to the active NIC's probe address
//!   3. the active domain receives it; the switchboard answers through it
//!   4. the standby receives the answer, and says so
//! ```
//! Neither frame carries the guest's address, so no switch learns anything about it. The role in the
//! table stays standby: a takeover finds the drilled domain awake, and the drill abandoned.
//!
//! A drill that fails is repeated before it counts, because the machine may have stood still for
//! longer than one lasts. Whose fault it was is read from the counters of both NICs.

use std::sync::atomic::Ordering;
use std::time::Instant;

use shared_ring::Role;
use shared_ring::probe::probe_mac;
use shared_ring::status::drill as proof;

use super::failover::Failover;
use super::roles::RoleState;
use super::rules::Need;
use super::switch::wait_until;
use super::verdict::Verdict;
use microvm::domain::{DomainId, DomainSlot, Life};
use platform::budget::{CONFIRM_TICK, DRILL_ATTEMPTS, ROLE_DEADLINE};
use platform::clock::monotonic_ns;
use switchboard::{DrillSeen, QUESTION_BUFFER, SwitchboardError};

/// Whose fault a failed drill was.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Blame {
    /// The standby, its driver or its NIC. It is built anew.
    Spare,
    /// The way between the two NICs, on the standby's side. It is built anew, in the hope that its
    /// NIC is to blame after all.
    Wire,
    /// The active domain or its NIC. The standby stays as it is; the detectors judge the active one.
    Active,
}

/// Why there was no drill.
#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    /// The one that was asked for, or any.
    #[error("no domain stands by that could be drilled")]
    NoStandby,
    /// Its driver has no NIC yet: the policy says so.
    #[error("a standby that has not attached its NIC cannot be drilled")]
    NotAttached,
    /// It is known not to be fit.
    #[error("the standby's link is down")]
    LinkDown,
    /// It, or who would have to answer, may stand still.
    #[error("a domain that is paused or in a debugger has no drill")]
    Aside,
    /// There is nobody to drill against.
    #[error("no domain serves that could answer")]
    NobodyServes,
    /// A drill, a switch or an upgrade is on.
    #[error("another planned operation is on")]
    Busy,
    /// The standby was needed, or failed.
    #[error("a failover came in between")]
    Abandoned,
    /// The switchboard does not answer.
    #[error(transparent)]
    Switchboard(#[from] SwitchboardError),
}

/// What came of a drill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrillReport {
    /// The standby.
    pub domain: DomainId,
    /// Its life.
    pub epoch: u32,
    /// Whose fault it was, if it failed.
    pub blame: Option<Blame>,
    /// What the last attempt left, for whoever wants to judge by himself.
    pub evidence: Evidence,
    /// Drills it took.
    pub attempts: u32,
    /// From the release of the standby to its word that the answer was there, nanoseconds.
    pub round_trip_ns: u64,
    /// When it ended, `CLOCK_MONOTONIC` nanoseconds.
    pub at_ns: u64,
}

impl DrillReport {
    /// Whether the standby has proved itself.
    pub fn passed(&self) -> bool {
        self.blame.is_none()
    }
}

/// What is known of one drill.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// The standby ended its drill when it was told to.
    pub ended: bool,
    /// It says that its NIC has sent the question.
    pub sent: bool,
    /// It says that it got the answer.
    pub answered: bool,
    /// Frames that its NIC counted as sent.
    pub nic_sent: u32,
    /// Frames that its NIC counted as received.
    pub nic_received: u32,
    /// What the switchboard saw through the active domain.
    pub seen: DrillSeen,
}

impl Evidence {
    /// Whose fault it is that a drill did not pass; `None` if it did.
    pub fn blame(&self) -> Option<Blame> {
        let Self { ended, sent, answered, nic_sent, nic_received, seen } = *self;
        if !ended || !sent || nic_sent == 0 {
            // Silent, or its frame never left it.
            return Some(Blame::Spare);
        }
        if !seen.question {
            // The frame left, and did not arrive. If nothing else did either, the other side is
            // deaf.
            return Some(if seen.received > 0 { Blame::Wire } else { Blame::Active });
        }
        if !seen.answer_sent {
            return Some(Blame::Active);
        }
        match (answered, nic_received) {
            (true, _) => None,
            (false, 0) => Some(Blame::Wire),
            (false, _) => Some(Blame::Spare),
        }
    }
}

impl Failover {
    /// Drills a standby: the one that is named, or the first in line. One that fails is built anew.
    ///
    /// # Errors
    /// There was no drill; see [`DrillError`].
    pub fn drill(&self, id: Option<DomainId>) -> Result<DrillReport, DrillError> {
        let _planned = self.begin_planned().ok_or(DrillError::Busy)?;
        self.drill_planned(id)
    }

    /// The last drill of a domain's present life.
    pub fn last_drill(&self, id: DomainId) -> Option<DrillReport> {
        let table = self.lock_table();
        let entry = &table[id.index()];
        entry.last_drill.filter(|drill| drill.epoch == entry.epoch)
    }

    /// The drill itself; the caller holds the right to it.
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
        self.remember(&report);
        if let Some(blame @ (Blame::Spare | Blame::Wire)) = report.blame {
            self.condemn(&life, Verdict::Drill(blame));
        }
        Ok(report)
    }

    /// The standby to drill, and who answers.
    pub(super) fn choose(
        &self,
        id: Option<DomainId>,
    ) -> Result<(std::sync::Arc<Life>, DomainId), DrillError> {
        let table = self.lock_table();
        let active = table.iter().position(|entry| entry.state == RoleState::Active);
        let active = active.ok_or(DrillError::NobodyServes)?;
        let index = match id {
            Some(id) => Some(id.index()),
            None => self.successor(&table, Need::CannotStay),
        };
        let entry = index.and_then(|index| table.get(index)).ok_or(DrillError::NoStandby)?;
        let life = entry.life.clone().filter(|_| entry.state == RoleState::Standby);
        let life = life.ok_or(DrillError::NoStandby)?;
        if entry.is_aside() || table[active].debugged {
            return Err(DrillError::Aside);
        }
        match self.slots[life.id().index()].nic.link_up() {
            true => Ok((life, self.slots[active].id)),
            false => Err(DrillError::LinkDown),
        }
    }

    /// Keeps what came of a drill; whether the standby's fitness has changed by it.
    pub(super) fn remember(&self, report: &DrillReport) -> bool {
        let mut table = self.lock_table();
        let entry = &mut table[report.domain.index()];
        if entry.epoch != report.epoch {
            return false;
        }
        entry.last_drill = Some(*report);
        // What the active domain spoilt proves nothing against the standby.
        if report.blame == Some(Blame::Active) {
            return false;
        }
        std::mem::replace(&mut entry.drill_passed, report.passed()) != report.passed()
    }

    /// Does something to a standby that is still one, and in the same life.
    fn while_standby<T>(&self, life: &Life, act: impl FnOnce() -> T) -> Result<T, DrillError> {
        let table = self.lock_table();
        let entry = &table[life.id().index()];
        let same = entry.state == RoleState::Standby && entry.epoch == life.epoch();
        if same && !life.is_stopped() { Ok(act()) } else { Err(DrillError::Abandoned) }
    }

    pub(super) fn attempt(
        &self,
        life: &Life,
        answers: DomainId,
    ) -> Result<DrillReport, DrillError> {
        let number = self.drills.fetch_add(1, Ordering::Relaxed) + 1;
        self.begin_attempt(life, number)?;
        let outcome = self.attempt_begun(life, answers, number);
        for id in [life.id(), answers] {
            self.accept_probes(id, false);
        }
        let seen = self.switchboard.end_drill()?;
        let (mut evidence, round_trip_ns) = outcome?;
        evidence.seen = seen;
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

    /// Has the switchboard write question and answer. A takeover may be on its way to it, and the
    /// answer of the drill before is its own until the NIC has confirmed it: both pass.
    fn begin_attempt(&self, life: &Life, number: u32) -> Result<(), DrillError> {
        let end = Instant::now() + ROLE_DEADLINE;
        while !self.switchboard.begin_drill(number, life.id())? {
            if Instant::now() >= end {
                return Err(DrillError::NobodyServes);
            }
            std::thread::sleep(CONFIRM_TICK);
        }
        Ok(())
    }

    /// Opens or shuts the way for probes to a NIC, unless it is being built anew.
    fn accept_probes(&self, id: DomainId, open: bool) {
        let slot = &self.slots[id.index()];
        let table = self.lock_table();
        if matches!(table[id.index()].state, RoleState::Active | RoleState::Standby) {
            slot.nic.accept_probes(open.then(|| probe_mac(slot.control().mac(), id.0)));
        }
    }

    /// The part between the switchboard's two.
    fn attempt_begun(
        &self,
        life: &Life,
        answers: DomainId,
        number: u32,
    ) -> Result<(Evidence, u64), DrillError> {
        let slot = &self.slots[life.id().index()];
        for id in [life.id(), answers] {
            self.accept_probes(id, true);
        }
        let began_ns = self.while_standby(life, || {
            slot.nic.take_sent();
            slot.nic.take_received();
            let control = slot.control();
            control.probe_iova.store(DomainSlot::tx_iova(QUESTION_BUFFER), Ordering::Relaxed);
            control.drill.store(number, Ordering::Release);
            let began_ns = monotonic_ns();
            life.set_role(Role::Drill);
            began_ns
        })?;
        let over = || slot.status().drill.load(Ordering::Acquire) == number;
        wait_until(self.drill_limit, over);
        let round_trip_ns = monotonic_ns() - began_ns;
        self.while_standby(life, || life.set_role(Role::Standby))?;
        let ended = wait_until(ROLE_DEADLINE, over);
        let proved = slot.status().drill_proof.load(Ordering::Relaxed);
        let evidence = self.while_standby(life, || Evidence {
            ended,
            sent: proved & proof::SENT != 0,
            answered: proved & proof::ANSWERED != 0,
            nic_sent: slot.nic.take_sent(),
            nic_received: slot.nic.take_received(),
            seen: DrillSeen::default(),
        })?;
        Ok((evidence, round_trip_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSED: Evidence = Evidence {
        ended: true,
        sent: true,
        answered: true,
        nic_sent: 1,
        nic_received: 1,
        seen: DrillSeen { question: true, answered: true, answer_sent: true, received: 7 },
    };

    #[test]
    fn who_proved_everything_is_to_blame_for_nothing() {
        assert_eq!(PASSED.blame(), None);
    }

    #[test]
    fn a_silent_standby_and_one_that_sends_nothing_are_to_blame_themselves() {
        for evidence in [
            Evidence { ended: false, ..PASSED },
            Evidence { sent: false, ..PASSED },
            Evidence { nic_sent: 0, ..PASSED },
        ] {
            assert_eq!(evidence.blame(), Some(Blame::Spare));
        }
    }

    #[test]
    fn a_lost_question_is_the_wires_fault_unless_the_other_side_is_deaf() {
        let seen = DrillSeen { question: false, answered: false, answer_sent: false, received: 7 };
        let lost = Evidence { answered: false, nic_received: 0, seen, ..PASSED };
        assert_eq!(lost.blame(), Some(Blame::Wire));
        let deaf = Evidence { seen: DrillSeen { received: 0, ..seen }, ..lost };
        assert_eq!(deaf.blame(), Some(Blame::Active));
    }

    #[test]
    fn a_lost_answer_is_whose_counter_says_so() {
        let unanswered = Evidence { answered: false, ..PASSED };
        assert_eq!(unanswered.blame(), Some(Blame::Spare), "it was received and not seen");
        let lost = Evidence { nic_received: 0, ..unanswered };
        assert_eq!(lost.blame(), Some(Blame::Wire));
        let seen = DrillSeen { answer_sent: false, ..PASSED.seen };
        assert_eq!(Evidence { seen, ..lost }.blame(), Some(Blame::Active));
    }
}

//! Probes: a switch port that is dead while its link stays up.
//!
//! No NIC can tell: frames leave it, and none come. So where the topology asks for it, the first
//! standby asks the active NIC a question every few milliseconds, as in a drill. A question that is
//! not answered says that one of the two ports is cut off. From between them both cases look the
//! same; what third parties send to the active NIC tells them apart:
//!
//! | three questions in a row | third parties meanwhile | so |
//! |---|---|---|
//! | one is answered | | both ports are alive |
//! | none is | are heard | the standby is cut off: it is not fit, until it is answered |
//! | none is | are silent, and had been heard between any two questions before | the active NIC is cut off: failover |
//! | none is | had been silent before, too | nobody can tell; it is logged, and nothing is done |
//!
//! A port that dies between two questions is therefore left after three more at the latest, if the
//! network talks at least as often as the probes ask.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::drill::{Blame, DrillError, DrillReport};
use super::event::Event;
use super::failover::Failover;
use super::operator::Operator;
use super::verdict::Verdict;
use microvm::domain::{DomainId, DomainSlot, Life};

/// Questions in a row without an answer before anybody is blamed: one may be late.
const UNANSWERED: u32 = 3;
/// Pauses in a row in which third parties were heard, before their silence means anything.
const TALKATIVE: u32 = 3;

/// What the questions say of the two ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ports {
    /// Both alive.
    Alive,
    /// Too early to say.
    Unsure,
    /// One is cut off, and nobody can tell which.
    Mystery,
    /// The standby's is cut off.
    StandbyCut,
    /// The active one's is.
    ActiveCut,
}

/// Judges questions in a row between the same two NICs. Pure.
#[derive(Debug, Default)]
struct PortJudge {
    /// What the active NIC had heard from third parties at the last question, frames.
    heard: Option<u64>,
    /// Pauses in a row, before the first unanswered question, in which it heard somebody.
    talkative: u32,
    /// Questions in a row without an answer.
    unanswered: u32,
    /// Pauses in a row between these in which nobody was heard.
    silent: u32,
}

impl PortJudge {
    fn judge(&mut self, answered: bool, heard: u64) -> Ports {
        let somebody = self.heard.replace(heard).is_some_and(|before| before != heard);
        if answered {
            self.talkative = if somebody { self.talkative.saturating_add(1) } else { 0 };
            (self.unanswered, self.silent) = (0, 0);
            return Ports::Alive;
        }
        self.unanswered = self.unanswered.saturating_add(1);
        if self.unanswered == 1 {
            // The port may have died in the middle of this pause.
            return Ports::Unsure;
        }
        self.silent = if somebody { 0 } else { self.silent.saturating_add(1) };
        match self {
            Self { unanswered, .. } if *unanswered < UNANSWERED => Ports::Unsure,
            _ if somebody => Ports::StandbyCut,
            Self { silent, .. } if *silent < UNANSWERED - 1 => Ports::Unsure,
            Self { talkative, .. } if *talkative >= TALKATIVE => Ports::ActiveCut,
            _ => Ports::Mystery,
        }
    }
}

/// Two lives whose ports are being watched: the one that serves, and the standby that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pair {
    active: (DomainId, u32),
    standby: (DomainId, u32),
}

/// Asks, and acts on what comes of it.
pub(super) struct Probes {
    operator: Operator,
    pair: Option<Pair>,
    judge: PortJudge,
    last: Ports,
}

impl Probes {
    pub(super) fn new(operator: Operator) -> Self {
        Self { operator, pair: None, judge: PortJudge::default(), last: Ports::Alive }
    }

    /// One question.
    pub(super) fn ask(&mut self) {
        let operator = self.operator.clone();
        let failover = operator.failover();
        let Some(active) = failover.active().and_then(|id| failover.life(id)) else { return };
        // Nobody to ask, or more important things to do.
        let Ok(report) = failover.question() else { return };
        let pair =
            Pair { active: (active.id(), active.epoch()), standby: (report.domain, report.epoch) };
        if self.pair.replace(pair) != Some(pair) {
            self.judge = PortJudge::default();
            self.last = Ports::Alive;
        }
        // A standby that could not ask says nothing of the network; drills are for that. And what
        // waits for a guest's buffers waits in front of the question.
        let held_up = is_held_up(&failover.slots[active.id().index()]);
        if report.blame == Some(Blame::Spare) || held_up {
            return;
        }
        let heard = failover.switchboard.counters().received();
        let ports = self.judge.judge(report.passed(), heard);
        let before = std::mem::replace(&mut self.last, ports);
        match ports {
            Ports::Unsure => {}
            Ports::ActiveCut => failover.leave_port(&active),
            Ports::Alive | Ports::StandbyCut => self.note(failover, report, ports),
            Ports::Mystery if before != ports => {
                tracing::warn!("a switch port is dead, and the network too quiet to say whose");
            }
            Ports::Mystery => {}
        }
    }

    /// The standby's fitness follows the network; told when it changes.
    fn note(&self, failover: &Failover, report: DrillReport, ports: Ports) {
        let blame = (ports == Ports::StandbyCut).then_some(Blame::Wire);
        let report = DrillReport { blame, ..report };
        if failover.remember(&report) {
            self.operator.tell(Event::Drilled(report));
        }
    }
}

/// Whether received frames of a domain are not taken out of its ring.
fn is_held_up(slot: &DomainSlot) -> bool {
    let taken = slot.control().rx_done_consumed.0.load(Ordering::Acquire);
    slot.status().rx_done_published.0.load(Ordering::Acquire) != taken
}

impl Failover {
    /// One question of the first standby, which nobody is blamed for.
    fn question(&self) -> Result<DrillReport, DrillError> {
        let _planned = self.begin_planned().ok_or(DrillError::Busy)?;
        let (life, answers) = self.choose(None)?;
        self.attempt(&life, answers)
    }

    /// Hands over from a domain whose port is dead.
    fn leave_port(&self, active: &Arc<Life>) {
        if self.has_spare() {
            self.condemn(active, Verdict::Port);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A judge that has seen three answers, with so many frames of third parties before each.
    fn judge_after(frames: u64) -> PortJudge {
        let mut judge = PortJudge::default();
        for n in 0..=u64::from(TALKATIVE) {
            assert_eq!(judge.judge(true, n * frames), Ports::Alive);
        }
        judge
    }

    #[test]
    fn silence_after_talk_is_the_active_ports_death() {
        let mut judge = judge_after(5);
        // Some came before it died.
        let said = [17, 17, 17].map(|heard| judge.judge(false, heard));
        assert_eq!(said, [Ports::Unsure, Ports::Unsure, Ports::ActiveCut]);
    }

    #[test]
    fn talk_that_goes_on_is_the_standbys_death_and_an_answer_its_return() {
        let mut judge = judge_after(5);
        let said = [20, 25, 30].map(|heard| judge.judge(false, heard));
        assert_eq!(said, [Ports::Unsure, Ports::Unsure, Ports::StandbyCut]);
        assert_eq!(judge.judge(true, 35), Ports::Alive);
    }

    #[test]
    fn one_frame_keeps_the_active_port() {
        let mut judge = judge_after(5);
        let said = [15, 15, 16, 16, 16].map(|heard| judge.judge(false, heard));
        let [.., third, fourth, fifth] = said;
        assert_eq!(third, Ports::StandbyCut);
        assert_eq!((fourth, fifth), (Ports::Unsure, Ports::ActiveCut));
    }

    #[test]
    fn on_a_quiet_network_nobody_is_blamed() {
        let mut judge = judge_after(0);
        let said = [0; 4].map(|heard| judge.judge(false, heard));
        assert_eq!(said, [Ports::Unsure, Ports::Unsure, Ports::Mystery, Ports::Mystery]);
    }

    #[test]
    fn a_late_answer_changes_nothing() {
        let mut judge = judge_after(5);
        assert_eq!(judge.judge(false, 20), Ports::Unsure);
        assert_eq!(judge.judge(false, 20), Ports::Unsure);
        assert_eq!(judge.judge(true, 25), Ports::Alive);
        assert_eq!(judge.judge(false, 25), Ports::Unsure);
    }
}

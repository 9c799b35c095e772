//! Probes find a switch port that is dead while its link stays up.
//!
//! No NIC can see that: frames leave it, and none come in. So where the topology asks for it, the
//! first standby sends the active NIC a question every few milliseconds, as in a drill. A question
//! without an answer shows that one of the two ports is cut off. Whether third parties still reach
//! the active NIC shows which:
//!
//! | three questions in a row | third parties meanwhile | so |
//! |---|---|---|
//! | one is answered | | both ports are alive |
//! | none is | are heard | the standby is cut off: it is unfit until a question is answered |
//! | none is | are silent, and were heard in each pause before | the active NIC is cut off: failover |
//! | none is | were silent before, too | which one is unknown; that is logged, nothing is done |
//!
//! A port that dies between two questions is therefore left after three more questions at the
//! latest, if third parties send at least as often as the standby asks.

use super::domain::LifeHandle;
use super::event::Event;
use super::failover::Failover;
use super::operator::Operator;
use super::reports::{Blame, DrillReport};
use super::verdict::Verdict;
use microvm::domain::DomainId;

/// Questions in a row without an answer before a port is blamed. A single answer may be late.
const UNANSWERED: u32 = 3;
/// Pauses in a row in which third parties must have been heard before their silence counts.
const TALKATIVE: u32 = 3;

/// What the questions say of the two ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ports {
    /// Both alive.
    Alive,
    /// Too early to say.
    Unsure,
    /// One is cut off, and it cannot be told which.
    Undecided,
    /// The standby's is cut off.
    StandbyCut,
    /// The active domain's is.
    ActiveCut,
}

/// Judges questions in a row between the same two NICs. Pure.
#[derive(Debug, Default)]
struct PortJudge {
    /// What the active NIC had heard from third parties at the last question, frames.
    heard: Option<u64>,
    /// Pauses in a row, before the first unanswered question, in which it heard third parties.
    talkative: u32,
    /// Questions in a row without an answer.
    unanswered: u32,
    /// Pauses in a row between unanswered questions in which it heard none.
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
            _ => Ports::Undecided,
        }
    }
}

/// Two lives whose ports are probed: that of the active domain, and that of the standby that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pair {
    active: (DomainId, u32),
    standby: (DomainId, u32),
}

/// Asks, and acts on the answers.
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

    /// Asks one question.
    pub(super) fn ask(&mut self) {
        let operator = self.operator.clone();
        let failover = operator.failover();
        let Some(active) = failover.active().and_then(|id| failover.life_of(id)) else { return };
        // There may be no standby, or a planned operation may be in progress.
        let Ok(report) = failover.probe_question() else { return };
        let pair =
            Pair { active: (active.id(), active.epoch()), standby: (report.domain, report.epoch) };
        if self.pair.replace(pair) != Some(pair) {
            self.judge = PortJudge::default();
            self.last = Ports::Alive;
        }
        // A standby that could not ask proves nothing about the network; drills find such standbys.
        // Nor does a question prove anything if received frames wait for a guest's buffers: the
        // question waits behind them.
        let held_up = failover.domain(active.id()).received_frames_wait();
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
            Ports::Undecided if before != ports => {
                tracing::warn!("a switch port is dead, and the network too quiet to say whose");
            }
            Ports::Undecided => {}
        }
    }

    /// Keeps whether the standby is reachable, and reports when that changes.
    fn note(&self, failover: &Failover, report: DrillReport, ports: Ports) {
        let blame = (ports == Ports::StandbyCut).then_some(Blame::Wire);
        let report = DrillReport { blame, ..report };
        if failover.remember(&report) {
            self.operator.report(Event::Drilled(report));
        }
    }
}

impl Failover {
    /// Hands over from a domain whose port is dead.
    fn leave_port(&self, active: &LifeHandle) {
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
    fn on_a_quiet_network_no_port_is_blamed() {
        let mut judge = judge_after(0);
        let said = [0; 4].map(|heard| judge.judge(false, heard));
        assert_eq!(said, [Ports::Unsure, Ports::Unsure, Ports::Undecided, Ports::Undecided]);
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

//! What planned operations report.

use std::path::PathBuf;
use std::time::Duration;

use microvm::domain::DomainId;
use switchboard::DrillSeen;

/// Whose fault a failed drill was.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Blame {
    /// The standby, its driver or its NIC. The standby is rebuilt.
    Spare,
    /// The network between the two NICs, on the standby's side. The standby is rebuilt, in case its
    /// NIC is to blame after all; twice in a row, and then it waits for the network.
    Wire,
    /// The active domain or its NIC, or nobody can tell. The standby stays as it is, and does not
    /// count as a spare before it passes a drill; the detectors judge the active domain.
    Active,
}

/// The outcome of a drill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrillReport {
    /// The standby.
    pub domain: DomainId,
    /// Number of its life.
    pub epoch: u32,
    /// Whose fault it was, if the drill failed.
    pub blame: Option<Blame>,
    /// The evidence of the last attempt.
    pub evidence: Evidence,
    /// Attempts that were made.
    pub attempts: u32,
    /// Time from the release of the standby to its message that the answer had arrived,
    /// nanoseconds.
    pub round_trip_ns: u64,
    /// When the drill ended, `CLOCK_MONOTONIC` nanoseconds.
    pub at_ns: u64,
}

impl DrillReport {
    /// Returns true if the standby has proved itself.
    pub fn passed(&self) -> bool {
        self.blame.is_none()
    }
}

/// What is known of one attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// The standby ended the drill when it was told to.
    pub ended: bool,
    /// The standby says that its NIC has sent the question.
    pub sent: bool,
    /// The standby says that it got the answer.
    pub answered: bool,
    /// Frames that the standby's NIC counted as sent.
    pub nic_sent: u32,
    /// Frames that the standby's NIC counted as received.
    pub nic_received: u32,
    /// What the switchboard saw through the active domain.
    pub seen: DrillSeen,
    /// The active domain has heard something of the network within the last seconds.
    pub active_hears: bool,
}

impl Evidence {
    /// Whose fault it is that a drill did not pass; `None` if it passed.
    pub fn blame(&self) -> Option<Blame> {
        let Self { ended, sent, answered, nic_sent, nic_received, seen, active_hears } = *self;
        if !ended || !sent || nic_sent == 0 {
            // The standby was silent, or its frame never left its NIC.
            return Some(Blame::Spare);
        }
        if !seen.question {
            // The frame left and did not arrive. If no other frame arrived for seconds either, the
            // active side may be the one that does not receive. A drill is too short to tell.
            let deaf = seen.received == 0 && !active_hears;
            return Some(if deaf { Blame::Active } else { Blame::Wire });
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

/// A planned switch that took place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SwitchReport {
    /// The domain that served, and stands by now.
    pub from: DomainId,
    /// The domain that serves.
    pub to: DomainId,
    /// When the switch began, `CLOCK_MONOTONIC` nanoseconds.
    pub began_ns: u64,
    /// When the ring had changed hands.
    pub switched_ns: u64,
    /// When the other domain stood by.
    pub done_ns: u64,
    /// How long the guest's frames waited, in nanoseconds.
    pub waited_ns: u64,
    /// Frames that both NICs received and the guest got once.
    pub duplicates: u64,
}

/// How far an upgrade came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpgradeStep {
    /// A domain was to attach its NIC with the new image.
    Attach,
    /// That domain was to pass a drill.
    Drill,
    /// That domain was to take the ring.
    Switch,
    /// That domain was to serve for its probation.
    Probation,
}

/// An upgrade that took place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpgradeReport {
    /// The domain that serves now, the first one with the new image.
    pub serves: DomainId,
    /// The domain that served before.
    pub served: DomainId,
    /// How long the upgrade took, probation included.
    pub took: Duration,
}

/// A dump of a domain that is alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpReport {
    /// The domain.
    pub domain: DomainId,
    /// Number of its life.
    pub epoch: u32,
    /// Folder with core file, program and description.
    pub folder: PathBuf,
    /// For how long the domain was stopped, nanoseconds.
    pub held_ns: u64,
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
        active_hears: true,
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
        let quiet = Evidence { seen: DrillSeen { received: 0, ..seen }, ..lost };
        assert_eq!(quiet.blame(), Some(Blame::Wire), "a quiet millisecond is not deafness");
        let deaf = Evidence { active_hears: false, ..quiet };
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

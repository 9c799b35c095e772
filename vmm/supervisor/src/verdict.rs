//! Why a domain has failed, and what is known of the failure at that moment.

use std::fmt;

use super::detect::{Detector, Finding, Symptom};
use super::reports::Blame;
use super::rules::Health;
use microvm::domain::{DomainId, Fault};
use switchboard::Violation;

/// Why a domain has failed.
#[derive(Clone, Copy, Debug)]
pub enum Verdict {
    /// Its vCPU left the guest with a fault.
    Crash(Fault),
    /// It published something invalid.
    Protocol(Violation),
    /// A detector found it failing.
    Detected(Finding),
    /// Its NIC has lost its link, and another NIC's link is up. The domain itself is sound.
    Link,
    /// Its NIC has had no link for a while, and of the standbys with a link the best is no better
    /// than this. The domain itself is sound.
    LinkAtLast(Health),
    /// The switch port of its NIC is dead, though the link is up. The domain itself is sound.
    Port,
    /// It failed its drill.
    Drill(Blame),
    /// It did not change its role in time when it was asked to.
    Unready,
}

impl Verdict {
    /// The detector's name in reports.
    pub fn cause(&self) -> &'static str {
        match self {
            Self::Crash(_) => "crash",
            Self::Protocol(_) => "protocol",
            Self::Detected(finding) => finding.detector.name(),
            Self::Link | Self::LinkAtLast(_) => "link",
            Self::Port => "port",
            Self::Drill(_) => "drill",
            Self::Unready => "unready",
        }
    }

    /// Returns true if the verdict speaks against the domain, and not only against its cable.
    pub fn is_own_fault(&self) -> bool {
        match self {
            Self::Crash(_) | Self::Protocol(_) | Self::Detected(_) | Self::Unready => true,
            Self::Drill(blame) => *blame == Blame::Spare,
            Self::Link | Self::LinkAtLast(_) | Self::Port => false,
        }
    }
}

impl Verdict {
    /// Returns true if the NIC may not answer: what comes before the successor serves does not read
    /// it, because a read of a NIC that is gone lasts as long as the bus allows.
    pub(super) fn suspects_nic(&self) -> bool {
        let Self::Detected(finding) = self else { return false };
        matches!(finding.symptom, Symptom::AllOnes | Symptom::BusError | Symptom::TakenAway)
            || finding.detector == Detector::SilentTransmit
    }

    /// Returns true if the registers of the NIC may be to blame, which a driver that attaches again
    /// does not write all of.
    pub(super) fn blames_registers(&self) -> bool {
        match self {
            Self::Detected(finding) => matches!(
                finding.detector,
                Detector::Device | Detector::SilentTransmit | Detector::SilentReceive
            ),
            Self::Drill(_) => true,
            Self::Crash(_)
            | Self::Protocol(_)
            | Self::Link
            | Self::LinkAtLast(_)
            | Self::Port
            | Self::Unready => false,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crash(fault) => write!(f, "{fault}"),
            Self::Protocol(violation) => write!(f, "{violation}"),
            Self::Detected(finding) => write!(f, "{finding}"),
            Self::Link => write!(f, "the link of its NIC is down"),
            Self::LinkAtLast(health) => write!(
                f,
                "the link of its NIC stays down, and the one that takes over has a link, although {}",
                shortcoming(*health)
            ),
            Self::Port => write!(f, "nothing comes in any more, and probes do not reach the spare"),
            Self::Drill(blame) => write!(f, "it failed its drill, to blame: {blame:?}"),
            Self::Unready => write!(f, "it did not change its role when it was asked to"),
        }
    }
}

/// What speaks against a standby, as the end of a sentence.
fn shortcoming(health: Health) -> &'static str {
    match health {
        Health::Healthy => "it was not healthy before",
        Health::Unproven => "it has yet to pass a drill",
        Health::HeldDown => "that link flaps",
        Health::Aside => "it was put aside",
        Health::DrillFailed => "it failed its last drill",
        Health::LinkDown => "that may be lost again",
    }
}

/// What is known of a failure at the verdict.
#[derive(Clone, Copy, Debug)]
pub struct FailoverRecord {
    /// The failed domain.
    pub from: DomainId,
    /// Number of its life.
    pub epoch: u32,
    /// Whether it served the ring.
    pub was_active: bool,
    /// The domain that took over.
    pub to: Option<DomainId>,
    /// Why the domain failed.
    pub verdict: Verdict,
    /// When the failed vCPU last entered the guest: the nearest stamp before the fault.
    pub entered_ns: u64,
    /// When the oldest frame arrived that the failed domain's NIC had received, or could not take
    /// in, and nobody had published; if there is one, and the NIC can tell.
    pub unpublished_ns: Option<u64>,
    /// When the verdict was given.
    pub verdict_ns: u64,
    /// When the spare had been released.
    pub released_ns: u64,
}

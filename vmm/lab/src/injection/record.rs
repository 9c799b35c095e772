//! One line of `injections.jsonl`: all that is known of one injection, and all that is needed to
//! repeat it.

use serde::{Deserialize, Serialize};

use super::kinds::{Configuration, FaultKind, FaultSegment};
use super::outcome::InjectionOutcome;

/// [`InjectionRecord::schema`] of the lines that this program writes.
pub(crate) const INJECTION_SCHEMA: &str = "warmspare.injection/1";

/// One injection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InjectionRecord {
    /// `warmspare.injection/1`.
    pub schema: String,
    /// The injection's number, from 1; unique in a folder.
    pub id: u64,
    /// How the service recovers.
    pub configuration: Configuration,
    /// Seed from which the fault and its moment were drawn.
    pub seed: u64,
    /// What kind of fault.
    pub kind: FaultKind,
    /// The fault itself.
    pub fault: FaultRecord,
    /// How long after redundancy the fault was to be armed, microseconds.
    pub moment_us: u64,
    /// When the fault was armed, milliseconds after the first echo.
    pub armed_ms: f64,
    /// Whether execution reached the fault. A fault in memory or in a device counts as activated
    /// from the moment at which it is made; whether anything reads it is not known.
    pub activated: bool,
    /// From arming to activation, microseconds.
    pub activated_after_us: Option<f64>,
    /// The first verdict on a domain after the activation.
    pub verdict: Option<VerdictRecord>,
    /// What came of the fault, judged from outside.
    pub outcome: InjectionOutcome,
    /// The longest time between successive echoes around the fault, at the sender, microseconds;
    /// nothing where the service did not come back.
    pub interruption_us: Option<f64>,
    /// What the sender counted from the activation on.
    pub frames: FrameCounts,
    /// What was done about the fault, in order.
    pub recovery: Vec<RecoveryStep>,
    /// The longest time in which the machine itself stood still during the observation,
    /// milliseconds; 0 if it never did.
    pub machine_stall_ms: f64,
    /// Why it was judged so, in one line, where the outcome alone does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What a record counts as. Every tally, denominator and list rests on these few lines.
impl InjectionRecord {
    /// Returns true if it counts as a fault that was injected, as the paper counts them: it was
    /// activated, or it harmed the service, even where no activation was seen. An outcome must not
    /// get lost between two denominators.
    pub fn is_injected(&self) -> bool {
        match self.outcome {
            InjectionOutcome::NotActivated => false,
            // Without a fault, a false alarm says nothing about faults.
            InjectionOutcome::FalseFailover => self.activated,
            _ => true,
        }
    }

    /// Returns true if a failure was detected.
    pub fn is_detected(&self) -> bool {
        match self.outcome {
            InjectionOutcome::Unrecovered | InjectionOutcome::Corrupted => self.verdict.is_some(),
            outcome => outcome.can_be_detected(),
        }
    }

    /// Returns true if a failure was detected and the service came back, with a spare or without.
    pub fn is_restored(&self) -> bool {
        self.outcome.is_recovered() || self.outcome == InjectionOutcome::Degraded
    }

    /// Returns true if the service or its guest was harmed and nothing was detected. A fault that
    /// ended the program itself is one of these.
    pub fn is_silent(&self) -> bool {
        match self.outcome {
            InjectionOutcome::SilentFailure => true,
            InjectionOutcome::Unrecovered | InjectionOutcome::Corrupted => self.verdict.is_none(),
            _ => false,
        }
    }

    /// Returns true if a person should look into it.
    pub fn is_bad(&self) -> bool {
        // Where recovery is switched off, a failure that was found is the expected result.
        let by_design = self.configuration == Configuration::None
            && self.outcome == InjectionOutcome::Unrecovered
            && self.verdict.is_some();
        self.outcome.is_bad() && !by_design
    }
}

/// A fault: enough to inject it once more. What does not apply is left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultRecord {
    /// Of code, register and mutation: the instruction's address. Of data and descriptors: the
    /// byte's guest-physical address. Of the NIC: the register's offset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<u64>,
    /// The address as people read it: `function+0x12`, or the NIC register's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub symbol: Option<String>,
    /// The function alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// `file:line`, where the image's line table knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The instruction as it was, disassembled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instruction: Option<String>,
    /// Where the fault is.
    pub segment: FaultSegment,
    /// Of code: which byte of the instruction, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub byte: Option<u8>,
    /// Which bit: 0 to 7 of a byte, 0 to 31 of a NIC register, 0 to 63 of a CPU register.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bit: Option<u8>,
    /// Of register: its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub register: Option<String>,
    /// Of mutation: its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mutation: Option<String>,
    /// Of mutation: the bytes that stand over the instruction, in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<String>,
    /// At which execution after the arming the fault takes effect, from 1.
    pub activation: u32,
}

impl FaultRecord {
    /// A fault in this segment of which nothing else is said.
    pub(crate) fn blank(segment: FaultSegment) -> Self {
        Self {
            address: None,
            symbol: None,
            function: None,
            source: None,
            instruction: None,
            segment,
            byte: None,
            bit: None,
            register: None,
            mutation: None,
            bytes: None,
            activation: 1,
        }
    }
}

/// What a detector found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VerdictRecord {
    /// The detector, by its name in events: `crash`, `hang`, `stall`, `protocol`, `silent-tx`, ...
    pub cause: String,
    /// What it saw, in one line.
    pub text: String,
    /// From the activation to the verdict, microseconds.
    pub detect_us: f64,
    /// From the verdict to the first frame of the domain that serves then, microseconds.
    pub switch_us: Option<f64>,
}

/// Datagrams at the sender.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameCounts {
    /// Sent.
    pub sent: u64,
    /// Of these, came back at least once, whole.
    pub received: u64,
    /// Never came back.
    pub lost: u64,
    /// Second and further echoes.
    pub duplicated: u64,
    /// Came back damaged, or were never sent.
    pub corrupted: u64,
}

/// Something that was done about a fault.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecoveryStep {
    /// What: `verdict`, `released`, `first-frame`, `healed`, `ready`.
    pub step: String,
    /// When, microseconds after the activation.
    pub after_us: f64,
}

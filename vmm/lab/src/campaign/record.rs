//! One line of `injections.jsonl`: all that is known of one injection, and all that is needed to
//! repeat it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::spec::Configuration;

/// [`InjectionRecord::schema`] of the lines that this program writes.
pub const INJECTION_SCHEMA: &str = "warmspare.injection/1";

/// One injection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InjectionRecord {
    /// [`INJECTION_SCHEMA`].
    pub schema: String,
    /// Its number, from 1; unique in a folder.
    pub id: u64,
    /// How the service recovers.
    pub configuration: Configuration,
    /// Seed from which the fault and its moment were drawn.
    pub seed: u64,
    /// What kind of fault.
    pub kind: FaultKind,
    /// The fault itself.
    pub fault: FaultRecord,
    /// How long after redundancy it was to be armed, microseconds.
    pub moment_us: u64,
    /// When it was armed, milliseconds after the first echo.
    pub armed_ms: f64,
    /// Whether execution reached it. A fault in memory or in a device is there from the moment at
    /// which it is made; whether anybody reads it is not known.
    pub activated: bool,
    /// From arming to activation, microseconds.
    pub activated_after_us: Option<f64>,
    /// The first verdict on a domain after the activation.
    pub verdict: Option<VerdictRecord>,
    /// What came of it, judged from outside.
    pub outcome: InjectionOutcome,
    /// The longest time between successive echoes around the fault, at the sender, microseconds;
    /// nothing where the service did not come back.
    pub interruption_us: Option<f64>,
    /// What the sender counted from the activation on.
    pub frames: FrameCounts,
    /// What was done about it, in order.
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
    /// Whether it counts as a fault that was injected, as the paper counts them: it was activated,
    /// or it harmed the service, even where nothing was seen to activate it. An outcome must not
    /// get lost between two denominators.
    pub fn is_injected(&self) -> bool {
        match self.outcome {
            InjectionOutcome::NotActivated => false,
            // Without a fault, a false alarm says nothing about faults.
            InjectionOutcome::FalseFailover => self.activated,
            _ => true,
        }
    }

    /// Whether a failure was detected.
    pub fn is_detected(&self) -> bool {
        match self.outcome {
            InjectionOutcome::Unrecovered | InjectionOutcome::Corrupted => self.verdict.is_some(),
            outcome => outcome.can_be_detected(),
        }
    }

    /// Whether a failure was detected and the service came back, with a spare or without.
    pub fn is_restored(&self) -> bool {
        self.outcome.is_recovered() || self.outcome == InjectionOutcome::Degraded
    }

    /// Whether the service or its guest was harmed and nothing was detected. A fault that ended the
    /// program itself is one of these.
    pub fn is_silent(&self) -> bool {
        match self.outcome {
            InjectionOutcome::SilentFailure => true,
            InjectionOutcome::Unrecovered | InjectionOutcome::Corrupted => self.verdict.is_none(),
            _ => false,
        }
    }

    /// Whether somebody should look into it.
    pub fn is_bad(&self) -> bool {
        // Where nothing recovers, a failure that was found is no news.
        let by_design = self.configuration == Configuration::None
            && self.outcome == InjectionOutcome::Unrecovered
            && self.verdict.is_some();
        self.outcome.is_bad() && !by_design
    }
}

/// A kind of fault.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// A bit of an instruction byte.
    Code,
    /// A bit of a CPU register.
    Register,
    /// A bit of the domain's memory.
    Data,
    /// A bit of a NIC register, or of an address in a DMA descriptor.
    Device,
    /// A programming error, made of the machine code at an instruction.
    Mutation,
}

/// Where a fault is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum FaultSegment {
    /// The driver's code.
    Text,
    /// Its constants.
    Rodata,
    /// Its initialised data.
    Data,
    /// Its zeroed data.
    Bss,
    /// Its stack.
    Stack,
    /// Entries of the rings that it shares with the switchboard.
    Ring,
    /// Buffers of received frames.
    Frames,
    /// Its status page.
    Status,
    /// A register of its NIC.
    Nic,
    /// An address in a descriptor that the NIC reads.
    Descriptor,
    /// A register of its CPU.
    Registers,
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
    /// At which execution after the arming it strikes, from 1.
    pub activation: u32,
}

/// What a detector found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VerdictRecord {
    /// The detector: `crash`, `hang`, `stall`, `protocol`, `silent-tx`, ... as events have it.
    pub cause: String,
    /// What it saw, in one line.
    pub text: String,
    /// From the activation to the verdict, microseconds.
    pub detect_us: f64,
    /// From the verdict to the first frame of the domain that serves then, microseconds.
    pub switch_us: Option<f64>,
}

/// What became of an injection. Exactly one is true.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum InjectionOutcome {
    /// Execution never reached it. Counts in no denominator.
    NotActivated,
    /// Nothing was found and the service did not suffer.
    Masked,
    /// Detected as a crash, and recovered.
    Crash,
    /// Detected as a hang, and recovered.
    Hang,
    /// Detected as a stall (alive, but serves nothing), and recovered.
    Stall,
    /// Detected as silence (a claim that the NIC's counters refute, a lost wakeup, a NIC's register
    /// that is not as it should be), and recovered.
    Silence,
    /// Detected as a breach of the shared rings' protocol, and recovered.
    Protocol,
    /// Detected as a lost link, and recovered.
    Link,
    /// Detected, and the service recovered, but not all: for instance, no spare stood by again.
    Degraded,
    /// Detected, and the service did not come back.
    Unrecovered,
    /// The service stopped or was damaged, and nothing was detected.
    SilentFailure,
    /// The application guest was harmed: a foreign or damaged frame that its checksums do not
    /// catch, memory outside posted buffers, its virtqueues.
    Corrupted,
    /// A sound domain was found to have failed.
    FalseFailover,
}

impl InjectionOutcome {
    /// All of them, in the order of tables.
    pub const ALL: [Self; 13] = [
        Self::NotActivated,
        Self::Masked,
        Self::Crash,
        Self::Hang,
        Self::Stall,
        Self::Silence,
        Self::Protocol,
        Self::Link,
        Self::Degraded,
        Self::Unrecovered,
        Self::SilentFailure,
        Self::Corrupted,
        Self::FalseFailover,
    ];

    /// As in files and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotActivated => "not-activated",
            Self::Masked => "masked",
            Self::Crash => "crash",
            Self::Hang => "hang",
            Self::Stall => "stall",
            Self::Silence => "silence",
            Self::Protocol => "protocol",
            Self::Link => "link",
            Self::Degraded => "degraded",
            Self::Unrecovered => "unrecovered",
            Self::SilentFailure => "silent-failure",
            Self::Corrupted => "corrupted",
            Self::FalseFailover => "false-failover",
        }
    }

    /// Whether a detector found the fault and the service came back whole.
    pub fn is_recovered(self) -> bool {
        matches!(
            self,
            Self::Crash | Self::Hang | Self::Stall | Self::Silence | Self::Protocol | Self::Link
        )
    }

    /// Whether the class is one of detected failures, or, as harm that may go unnoticed, can be.
    pub fn can_be_detected(self) -> bool {
        self.is_recovered() || matches!(self, Self::Degraded | Self::Unrecovered | Self::Corrupted)
    }

    /// Whether somebody should look into it.
    pub fn is_bad(self) -> bool {
        !self.is_recovered() && !matches!(self, Self::NotActivated | Self::Masked)
    }
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
    /// What: `verdict`, `released`, `first-frame`, `healed`, `redundant`, ...
    pub step: String,
    /// When, microseconds after the activation.
    pub after_us: f64,
}

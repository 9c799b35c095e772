//! The kinds of faults, of places and of recoveries that files, records and reports name.

use serde::{Deserialize, Serialize};

/// How the service recovers from the failure of its driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Configuration {
    /// A spare with its NIC attached stands by.
    FastSpare,
    /// A spare stands by and attaches its NIC when it is needed.
    Spare,
    /// No spare: the failed domain is started anew.
    Reboot,
    /// No recovery at all: what fails stays failed.
    None,
}

impl Configuration {
    /// The name in files and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::FastSpare => "fast-spare",
            Self::Spare => "spare",
            Self::Reboot => "reboot",
            Self::None => "none",
        }
    }
}

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// A flipped bit of an instruction byte.
    Code,
    /// A flipped bit of a CPU register.
    Register,
    /// A flipped bit of the domain's memory.
    Data,
    /// A flipped bit of a NIC register, or of an address in a DMA descriptor.
    Device,
    /// A programming error, made of the machine code at an instruction.
    Mutation,
}

/// Where a fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultSegment {
    /// The driver's code.
    Text,
    /// The driver's constants.
    Rodata,
    /// The driver's initialised data.
    Data,
    /// The driver's zeroed data.
    Bss,
    /// The driver's stack.
    Stack,
    /// Entries of the rings that the driver shares with the switchboard.
    Ring,
    /// Buffers of received frames.
    Frames,
    /// The domain's status page.
    Status,
    /// A register of the domain's NIC.
    Nic,
    /// An address in a descriptor that the NIC reads.
    Descriptor,
    /// A register of the domain's CPU.
    Registers,
}

/// A programming error; the table at the head of `mutate.rs` says what each one changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mutation {
    /// A condition the wrong way round.
    InvertedBranch,
    /// A branch or call that is missing.
    SkippedBranch,
    /// A bound that is off by one.
    OffByOne,
    /// A pointer that points elsewhere.
    WildPointer,
    /// An event that the driver does not look for.
    MissedInterrupt,
    /// A buffer that the driver never gives back.
    LeakedBuffer,
}

impl Mutation {
    /// All mutations.
    pub const ALL: [Self; 6] = [
        Self::InvertedBranch,
        Self::SkippedBranch,
        Self::OffByOne,
        Self::WildPointer,
        Self::MissedInterrupt,
        Self::LeakedBuffer,
    ];

    /// The name in files and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::InvertedBranch => "inverted-branch",
            Self::SkippedBranch => "skipped-branch",
            Self::OffByOne => "off-by-one",
            Self::WildPointer => "wild-pointer",
            Self::MissedInterrupt => "missed-interrupt",
            Self::LeakedBuffer => "leaked-buffer",
        }
    }
}

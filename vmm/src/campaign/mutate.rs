//! Programming errors, made of machine code.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A programming error.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
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
    /// An event that nobody looks for.
    MissedInterrupt,
    /// A buffer that is never given back.
    LeakedBuffer,
}

impl Mutation {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::InvertedBranch,
        Self::SkippedBranch,
        Self::OffByOne,
        Self::WildPointer,
        Self::MissedInterrupt,
        Self::LeakedBuffer,
    ];
}

//! `campaign.json`: what the injections of a folder have in common.

use serde::{Deserialize, Serialize};

use super::spec::CampaignSpec;

/// [`Manifest::schema`] of the files that this program writes.
pub(super) const MANIFEST_SCHEMA: &str = "warmspare.campaign/1";

/// All that is fixed before the first injection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// `warmspare.campaign/1`.
    pub schema: String,
    /// The campaign file, with what it left out filled in.
    pub campaign: CampaignSpec,
    /// The file's path, as it was given.
    pub file: String,
    /// Version of the program that began it.
    pub version: String,
    /// Revision of the sources in the current folder, if that is known.
    pub revision: Option<String>,
    /// Build id of the driver's image, in hexadecimal. Addresses are this image's.
    pub image: String,
    /// When the campaign began, RFC 3339, UTC.
    pub began: String,
    /// Worker processes at the beginning; with more than one, times say little.
    pub jobs: u32,
    /// The machine it began on.
    pub machine: Machine,
    /// Where the driver spends its time under this traffic; present where a kind of fault asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
}

/// The machine that a campaign began on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// Model of the CPU.
    pub cpu: String,
    /// Processors of this process.
    pub processors: u32,
    /// The kernel's release.
    pub kernel: String,
    /// Whether real-time scheduling is permitted.
    pub realtime: bool,
}

/// Samples of the driver's instruction pointer under traffic.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Profile {
    /// Samples in the driver's text.
    pub samples: u64,
    /// Bytes of the driver's text.
    pub text_bytes: u64,
    /// The chosen functions, most samples first.
    pub functions: Vec<ProfiledFunction>,
    /// Share of the samples that lie in the chosen functions, 0 to 1.
    pub sample_share: f64,
    /// Share of the text's bytes that the chosen functions are, 0 to 1.
    pub code_share: f64,
}

/// A function that a profile chose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProfiledFunction {
    /// The function's name.
    pub name: String,
    /// Samples in it.
    pub samples: u64,
    /// The function's bytes.
    pub bytes: u64,
}

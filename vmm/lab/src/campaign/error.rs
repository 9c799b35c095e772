//! What goes wrong with a campaign.

use super::draw::DrawError;
use super::results::ResultsError;
use super::spec::SpecError;
use crate::injection::TargetError;

/// Why a campaign stopped early, or did not begin.
#[derive(Debug, thiserror::Error)]
pub enum CampaignError {
    /// The campaign file is not sound.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The campaign file names something that does not exist.
    #[error("{file}: {source}")]
    Draw {
        /// The campaign file.
        file: String,
        /// What is wrong.
        source: DrawError,
    },
    /// The folder with the results cannot be used.
    #[error(transparent)]
    Results(#[from] ResultsError),
    /// The image is damaged.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The faults on record were injected into another image.
    #[error(
        "{folder}: was made with another driver image ({was}, this is {is}): use the program of \
         then, or another folder"
    )]
    Image {
        /// The folder.
        folder: String,
        /// Build id of the image then.
        was: String,
        /// Build id now.
        is: String,
    },
    /// The campaign file was changed after the campaign had begun.
    #[error(
        "{file}: is not the campaign that {folder} holds: go on with the same file (only `until` may change), or name another folder"
    )]
    Changed {
        /// The campaign file.
        file: String,
        /// The folder.
        folder: String,
    },
    /// There is no such record.
    #[error("{folder}: has no injection {id}: its records are numbered {first} to {last}")]
    NoRecord {
        /// The folder.
        folder: String,
        /// The number that was asked for.
        id: u64,
        /// First number there is.
        first: u64,
        /// Last number there is.
        last: u64,
    },
    /// No process, thread or descriptor can be had.
    #[error("cannot {what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// An injection could not be carried out, several times.
    #[error("injection {id} could not be carried out: {why}")]
    Trial {
        /// Which injection.
        id: u64,
        /// Why not.
        why: String,
    },
    /// The driver could not be sampled.
    #[error("the driver could not be sampled: {0}")]
    Profile(String),
}

impl CampaignError {
    /// Returns true if the user can mend it: then the program ends with status 2.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Spec(_)
            | Self::Draw { .. }
            | Self::Image { .. }
            | Self::Changed { .. }
            | Self::NoRecord { .. } => true,
            Self::Results(error) => !matches!(error, ResultsError::Write { .. }),
            Self::Target(_) | Self::Io { .. } | Self::Trial { .. } | Self::Profile(_) => false,
        }
    }
}

pub(super) fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> CampaignError {
    move |source| CampaignError::Io { what, source }
}

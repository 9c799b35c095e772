//! What a run of a campaign is to do, from the command line.

use std::path::PathBuf;

/// What a run of a campaign is to do.
#[derive(Clone, Debug)]
pub struct RunConfig {
    /// The campaign file.
    pub file: PathBuf,
    /// Where the results go.
    pub out: PathBuf,
    /// Whether to go on with the campaign in that folder.
    pub resume: bool,
    /// Worker processes.
    pub jobs: u32,
    /// Whether to show progress.
    pub progress: bool,
}

//! Reads a campaign's folder: `campaign.json`, and `injections.jsonl` with one injection per line.

use std::path::{Path, PathBuf};

use crate::campaign::{
    INJECTIONS_FILE, Manifest, Records, ResultsError, read_manifest, read_records,
};
use crate::injection::InjectionRecord;

/// Why a folder cannot be reported on. The user can mend each of these.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// There is no such folder.
    #[error("{}: there is no such folder: name what `warmspare campaign --out` was given", .0.display())]
    Missing(PathBuf),
    /// It holds no campaign, or one that cannot be read.
    #[error(transparent)]
    Results(#[from] ResultsError),
    /// No injection is recorded.
    #[error("{}: no injection is recorded: let the campaign run, or go on with --resume", .0.display())]
    Empty(PathBuf),
}

/// What a campaign has recorded so far.
#[derive(Clone, Debug)]
pub struct Folder {
    /// Path of the folder.
    pub(super) path: PathBuf,
    /// What all injections have in common.
    pub(super) manifest: Manifest,
    /// The injections, as they were recorded.
    pub(super) records: Vec<InjectionRecord>,
    /// The last line's number, if that line is incomplete: a run was ended while it wrote.
    pub(super) torn_line: Option<usize>,
}

impl Folder {
    /// Reads all of a folder. An incomplete last line is left out and noted.
    ///
    /// # Errors
    /// See [`FolderError`].
    pub fn load(path: &Path) -> Result<Self, FolderError> {
        if !path.is_dir() {
            return Err(FolderError::Missing(path.to_owned()));
        }
        let manifest = read_manifest(path)?;
        let Records { records, torn_line, .. } = read_records(path)?;
        if records.is_empty() {
            return Err(FolderError::Empty(path.join(INJECTIONS_FILE)));
        }
        Ok(Self { path: path.to_owned(), manifest, records, torn_line })
    }

    /// A warning about an incomplete last line, if there is one.
    pub fn warning(&self) -> Option<String> {
        let line = self.torn_line?;
        let file = self.path.join(INJECTIONS_FILE);
        Some(format!("{}:{line}: the last line is torn and left out", file.display()))
    }
}

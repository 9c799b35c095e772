//! Reads a campaign's folder: `campaign.json`, and `injections.jsonl` with one injection a line.

use std::path::{Path, PathBuf};

use crate::campaign::{
    INJECTIONS_FILE, Manifest, Records, ResultsError, read_manifest, read_records,
};
use crate::injection::InjectionRecord;

/// Why a folder cannot be reported on. Each is the user's to mend.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// No such folder.
    #[error("{}: there is no such folder: name what `warmspare campaign --out` was given", .0.display())]
    Missing(PathBuf),
    /// It holds no campaign, or one that cannot be read.
    #[error(transparent)]
    Results(#[from] ResultsError),
    /// No injection.
    #[error("{}: no injection is recorded: let the campaign run, or go on with --resume", .0.display())]
    Empty(PathBuf),
}

/// What a campaign has recorded so far.
#[derive(Clone, Debug)]
pub struct Folder {
    /// Where.
    pub path: PathBuf,
    /// What all injections have in common.
    pub manifest: Manifest,
    /// The injections, as they were recorded.
    pub records: Vec<InjectionRecord>,
    /// The last line's number, if that line is torn: a run was ended while it wrote.
    pub torn_line: Option<usize>,
}

impl Folder {
    /// Reads all of it. A torn last line is left out and noted.
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

    /// What is to be said about a torn line; nothing if none is.
    pub fn warning(&self) -> Option<String> {
        let line = self.torn_line?;
        let file = self.path.join(INJECTIONS_FILE);
        Some(format!("{}:{line}: the last line is torn and left out", file.display()))
    }
}

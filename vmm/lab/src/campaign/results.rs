//! The folder of a campaign: `campaign.json`, `injections.jsonl`, `log.txt`.
//!
//! A line counts once its line feed is written. A partial line that a killed run left is cut off, and
//! so is one that a full disk cut short.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::manifest::{MANIFEST_SCHEMA, Manifest};
use crate::injection::{INJECTION_SCHEMA, InjectionRecord};

/// Name of the file with the records, one line each.
pub(crate) const INJECTIONS_FILE: &str = "injections.jsonl";
/// Name of the manifest.
pub(super) const MANIFEST_FILE: &str = "campaign.json";

/// What is wrong with a campaign's folder.
#[derive(Debug, thiserror::Error)]
pub enum ResultsError {
    /// The folder holds a campaign already.
    #[error("{0}: holds a campaign already: go on with --resume, or name another folder")]
    Exists(String),
    /// Another process writes it.
    #[error("{0}: another campaign is writing it: wait for its end, or name another folder")]
    Busy(String),
    /// The folder holds no campaign.
    #[error("{0}: holds no campaign: name the --out folder of one")]
    Missing(String),
    /// A file says that it is of another kind or version.
    #[error(
        "{at}: the schema is `{found}`, this program reads `{wanted}`: use the version that wrote it"
    )]
    Schema {
        /// File and line.
        at: String,
        /// The schema in the file.
        found: String,
        /// The schema that this program reads.
        wanted: &'static str,
    },
    /// The text is not what this program writes.
    #[error(
        "{at}: {reason}: another version wrote it, or it was changed since; use that version, or mend it"
    )]
    Malformed {
        /// File and line.
        at: String,
        /// What is wrong.
        reason: String,
    },
    /// An injection is recorded twice.
    #[error("{at}: injection {id} stands in line {first} already: remove one of them")]
    Twice {
        /// File and line.
        at: String,
        /// The injection's number.
        id: u64,
        /// The line that records it first.
        first: usize,
    },
    /// The disk is full, or gone.
    #[error("{path}: cannot be written")]
    Write {
        /// The file.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The operating system refuses.
    #[error("{path}: cannot be {what}")]
    Io {
        /// The file or folder.
        path: String,
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: std::io::Error,
    },
}

impl ResultsError {
    fn io(path: &Path, what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.display().to_string();
        move |source| Self::Io { path, what, source }
    }

    fn write(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.display().to_string();
        move |source| Self::Write { path, source }
    }
}

/// A campaign's folder, open for writing.
pub(super) struct ResultStore {
    path: PathBuf,
    file: File,
    /// Bytes of whole lines.
    len: u64,
}

/// A folder that was opened.
pub(super) struct OpenedStore {
    pub(super) store: ResultStore,
    /// The injections that it records.
    pub(super) records: Vec<InjectionRecord>,
}

impl ResultStore {
    /// Makes the folder of a new campaign; [`write_manifest`] adds its manifest. A file without a
    /// record, in a folder without a manifest, is of a campaign that was ended before it had begun.
    ///
    /// # Errors
    /// The folder holds a campaign already, or cannot be made.
    pub(super) fn create(folder: &Path) -> Result<Self, ResultsError> {
        std::fs::create_dir_all(folder).map_err(ResultsError::io(folder, "made"))?;
        let injections = std::fs::metadata(folder.join(INJECTIONS_FILE));
        let begun = injections.is_ok_and(|injections| injections.len() > 0);
        if begun || folder.join(MANIFEST_FILE).exists() {
            return Err(ResultsError::Exists(folder.display().to_string()));
        }
        Ok(Self::open(folder)?.store)
    }

    /// Opens the folder of a campaign to go on with it.
    ///
    /// # Errors
    /// A line in the middle is no record, or the file cannot be written.
    pub(super) fn open(folder: &Path) -> Result<OpenedStore, ResultsError> {
        let path = folder.join(INJECTIONS_FILE);
        let open = OpenOptions::new().read(true).append(true).create(true).open(&path);
        let mut file = open.map_err(ResultsError::io(&path, "opened"))?;
        if file.try_lock().is_err() {
            return Err(ResultsError::Busy(path.display().to_string()));
        }
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(ResultsError::io(&path, "read"))?;
        let Records { records, whole_bytes, torn_line } = parse_records(&path, &text)?;
        let mut store = Self { path, file, len: whole_bytes };
        if torn_line.is_some() {
            store.cut()?;
        }
        Ok(OpenedStore { store, records })
    }

    /// Adds a record. The operating system has it when this returns.
    ///
    /// # Errors
    /// The disk is full, or gone; nothing of the line is left.
    pub(super) fn add(&mut self, record: &InjectionRecord) -> Result<(), ResultsError> {
        let line = serde_json::to_string(record).map_err(std::io::Error::other);
        let mut line = line.map_err(ResultsError::write(&self.path))?;
        line.push('\n');
        if let Err(error) = self.file.write_all(line.as_bytes()) {
            // If this fails too, the next run cuts the partial line off.
            let _ = self.cut();
            return Err(ResultsError::write(&self.path)(error));
        }
        self.len += line.len() as u64;
        Ok(())
    }

    fn cut(&mut self) -> Result<(), ResultsError> {
        let cut = self.file.set_len(self.len);
        cut.and_then(|()| self.file.seek(SeekFrom::End(0)).map(drop))
            .map_err(ResultsError::io(&self.path, "cut"))
    }
}

/// The records of a campaign.
#[derive(Clone, Debug, Default)]
pub struct Records {
    /// The injections, in the order in which they were recorded; each number once.
    pub records: Vec<InjectionRecord>,
    /// The last line's number, if that line is partial and left out: a run was ended while it wrote.
    pub torn_line: Option<usize>,
    /// Bytes of whole lines.
    whole_bytes: u64,
}

/// Reads the records of a campaign. One that was ended before its first injection has none.
///
/// # Errors
/// The file cannot be read, a line is no record, or an injection is recorded twice.
pub fn read_records(folder: &Path) -> Result<Records, ResultsError> {
    let path = folder.join(INJECTIONS_FILE);
    match std::fs::read(&path) {
        Ok(text) => parse_records(&path, &text),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Records::default()),
        Err(error) => Err(ResultsError::io(&path, "read")(error)),
    }
}

fn parse_records(path: &Path, text: &[u8]) -> Result<Records, ResultsError> {
    let (mut found, mut lines) = (Records::default(), HashMap::new());
    for (text, line) in text.split_inclusive(|&byte| byte == b'\n').zip(1..) {
        // A line counts once its line feed is written.
        if !text.ends_with(b"\n") {
            found.torn_line = Some(line);
            break;
        }
        let at = || format!("{}:{line}", path.display());
        let record = parse(text, INJECTION_SCHEMA, |r: &InjectionRecord| &r.schema, at)?;
        if let Some(first) = lines.insert(record.id, line) {
            return Err(ResultsError::Twice { at: at(), id: record.id, first });
        }
        found.whole_bytes += text.len() as u64;
        found.records.push(record);
    }
    Ok(found)
}

/// Reads the manifest of a campaign.
///
/// # Errors
/// There is no campaign, or its manifest is damaged.
pub(crate) fn read_manifest(folder: &Path) -> Result<Manifest, ResultsError> {
    let path = folder.join(MANIFEST_FILE);
    let text = std::fs::read(&path).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => {
            ResultsError::Missing(folder.display().to_string())
        }
        _ => ResultsError::io(&path, "read")(error),
    })?;
    let at = || path.display().to_string();
    parse(&text, MANIFEST_SCHEMA, |manifest: &Manifest| &manifest.schema, at)
}

/// The key that every kind and version of file has.
#[derive(Deserialize)]
struct Head {
    schema: String,
}

fn parse<T: DeserializeOwned>(
    text: &[u8],
    wanted: &'static str,
    schema: impl Fn(&T) -> &String,
    at: impl Fn() -> String,
) -> Result<T, ResultsError> {
    let wrong = |found: String| ResultsError::Schema { at: at(), found, wanted };
    match serde_json::from_slice::<T>(text) {
        Ok(value) if schema(&value) == wanted => Ok(value),
        Ok(value) => Err(wrong(schema(&value).clone())),
        // A file of another version need not have the same keys: its schema explains more.
        Err(error) => match serde_json::from_slice::<Head>(text) {
            Ok(head) if head.schema != wanted => Err(wrong(head.schema)),
            _ => Err(ResultsError::Malformed { at: at(), reason: error.to_string() }),
        },
    }
}

/// Writes the manifest of a campaign, whole or not at all.
///
/// # Errors
/// The operating system refuses.
pub(super) fn write_manifest(folder: &Path, manifest: &Manifest) -> Result<(), ResultsError> {
    let path = folder.join(MANIFEST_FILE);
    let next = folder.join(format!("{MANIFEST_FILE}.new"));
    let text = serde_json::to_string_pretty(manifest).map_err(std::io::Error::other);
    let written = text.and_then(|text| std::fs::write(&next, text + "\n"));
    written.and_then(|()| std::fs::rename(&next, &path)).map_err(ResultsError::write(&path))
}

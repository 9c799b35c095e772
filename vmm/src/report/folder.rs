//! Reads a campaign's folder: `campaign.json`, and `injections.jsonl` with one injection a line.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::campaign::{
    INJECTION_SCHEMA, INJECTIONS_FILE, InjectionRecord, MANIFEST_FILE, MANIFEST_SCHEMA, Manifest,
};

/// Why a folder cannot be reported on. Each is the user's to mend.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// No such folder.
    #[error("{}: there is no such folder: name what `warmspare campaign --out` was given", .0.display())]
    Missing(PathBuf),
    /// A file of it cannot be read.
    #[error("{}: cannot be read ({source}): name the folder of a campaign", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file says that it is of another kind or version.
    #[error(
        "{at}: the schema is `{found}`, this program reads `{wanted}`: use the version that wrote it"
    )]
    Schema {
        /// File and line.
        at: String,
        /// What it says.
        found: String,
        /// What it should say.
        wanted: &'static str,
    },
    /// Something else than was written there.
    #[error(
        "{at}: {reason}: another version wrote it, or it was changed since; use that version, or mend it"
    )]
    Malformed {
        /// File and line.
        at: String,
        /// What is wrong.
        reason: String,
    },
    /// An injection's number stands there twice.
    #[error("{at}: injection {id} stands in line {first} already: remove one of them")]
    Twice {
        /// File and line.
        at: String,
        /// Its number.
        id: u64,
        /// Where it stands first.
        first: usize,
    },
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

/// What every kind and version of file has.
#[derive(Deserialize)]
struct Head {
    schema: String,
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
        let manifest = load_manifest(&path.join(MANIFEST_FILE))?;
        let file = path.join(INJECTIONS_FILE);
        let opened = match File::open(&file) {
            Ok(opened) => opened,
            // A campaign that was ended before its first injection has none.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(FolderError::Empty(file));
            }
            Err(source) => return Err(FolderError::Read { file, source }),
        };
        let (records, torn_line) = read_records(&file, BufReader::new(opened))?;
        if records.is_empty() {
            return Err(FolderError::Empty(file));
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

fn load_manifest(file: &Path) -> Result<Manifest, FolderError> {
    let failed = |source| FolderError::Read { file: file.to_owned(), source };
    let text = std::fs::read(file).map_err(failed)?;
    parse(
        &text,
        MANIFEST_SCHEMA,
        |manifest: &Manifest| &manifest.schema,
        || file.display().to_string(),
    )
}

fn read_records(
    file: &Path,
    mut reader: impl BufRead,
) -> Result<(Vec<InjectionRecord>, Option<usize>), FolderError> {
    let (mut records, mut lines) = (Vec::new(), HashMap::new());
    let mut text = Vec::new();
    for line in 1.. {
        text.clear();
        let read = reader.read_until(b'\n', &mut text);
        let read = read.map_err(|source| FolderError::Read { file: file.to_owned(), source })?;
        if read == 0 {
            break;
        }
        // A line counts once its line feed is written, as for the campaign itself.
        if !text.ends_with(b"\n") {
            return Ok((records, Some(line)));
        }
        let at = || format!("{}:{line}", file.display());
        let record = parse(&text, INJECTION_SCHEMA, |r: &InjectionRecord| &r.schema, at)?;
        if let Some(first) = lines.insert(record.id, line) {
            return Err(FolderError::Twice { at: at(), id: record.id, first });
        }
        records.push(record);
    }
    Ok((records, None))
}

fn parse<T: serde::de::DeserializeOwned>(
    text: &[u8],
    wanted: &'static str,
    schema: impl Fn(&T) -> &String,
    at: impl Fn() -> String,
) -> Result<T, FolderError> {
    let wrong = |found: String| FolderError::Schema { at: at(), found, wanted };
    match serde_json::from_slice::<T>(text) {
        Ok(value) if schema(&value) == wanted => Ok(value),
        Ok(value) => Err(wrong(schema(&value).clone())),
        // What another version wrote need not have the same keys: its schema says more.
        Err(error) => match serde_json::from_slice::<Head>(text) {
            Ok(head) if head.schema != wanted => Err(wrong(head.schema)),
            _ => Err(FolderError::Malformed { at: at(), reason: error.to_string() }),
        },
    }
}

//! The folder of a campaign: `campaign.json`, `injections.jsonl`, `log.txt`.
//!
//! A line counts once its line feed is written. What a killed run left behind it is cut off; a line
//! that a full disk cut short is taken back.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::manifest::{MANIFEST_SCHEMA, Manifest};
use super::record::InjectionRecord;

/// Name of the file with the records, one line each.
pub const INJECTIONS_FILE: &str = "injections.jsonl";
/// Name of the manifest.
pub const MANIFEST_FILE: &str = "campaign.json";

/// What is wrong with a campaign's folder.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    /// There is one already.
    #[error("{0}: holds a campaign already: go on with --resume, or name another folder")]
    Exists(String),
    /// Somebody else writes it.
    #[error("{0}: another campaign is writing it: wait for its end, or name another folder")]
    Busy(String),
    /// There is none.
    #[error("{0}: holds no campaign: name the --out folder of one")]
    Missing(String),
    /// It is not what it should be.
    #[error("{file}: line {line} is no record of an injection ({what}): mend or remove the line")]
    Line {
        /// The file.
        file: String,
        /// From 1.
        line: usize,
        /// Why not.
        what: String,
    },
    /// The manifest is not what it should be.
    #[error("{file}: no manifest of a campaign ({what}): name another folder")]
    Manifest {
        /// The file.
        file: String,
        /// Why not.
        what: String,
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

impl BookError {
    fn io(path: &Path, what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.display().to_string();
        move |source| Self::Io { path, what, source }
    }
}

/// A campaign's folder, open for writing.
pub struct Book {
    path: PathBuf,
    file: File,
    /// Bytes of whole lines.
    len: u64,
}

impl Book {
    /// Makes the folder of a new campaign; its manifest comes with [`write_manifest`]. Without one,
    /// a file without a record is of a campaign that was ended before it had begun.
    ///
    /// # Errors
    /// There is one already, or the folder cannot be made.
    pub fn create(folder: &Path) -> Result<Self, BookError> {
        std::fs::create_dir_all(folder).map_err(BookError::io(folder, "made"))?;
        let injections = std::fs::metadata(folder.join(INJECTIONS_FILE));
        let begun = injections.is_ok_and(|injections| injections.len() > 0);
        if begun || folder.join(MANIFEST_FILE).exists() {
            return Err(BookError::Exists(folder.display().to_string()));
        }
        Ok(Self::open(folder)?.0)
    }

    /// Opens the folder of a campaign to go on with it; gives what is recorded.
    ///
    /// # Errors
    /// A line in the middle is no record, or the file cannot be written.
    pub fn open(folder: &Path) -> Result<(Self, Vec<InjectionRecord>), BookError> {
        let path = folder.join(INJECTIONS_FILE);
        let open = OpenOptions::new().read(true).append(true).create(true).open(&path);
        let mut file = open.map_err(BookError::io(&path, "opened"))?;
        if file.try_lock().is_err() {
            return Err(BookError::Busy(path.display().to_string()));
        }
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(BookError::io(&path, "read"))?;
        let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let records = parse(&path, &text[..whole])?;
        let mut book = Self { path, file, len: whole as u64 };
        if whole < text.len() {
            book.cut()?;
        }
        Ok((book, records))
    }

    /// Adds a record. It is with the operating system when this returns.
    ///
    /// # Errors
    /// The disk is full, or gone; nothing of the line is left.
    pub fn add(&mut self, record: &InjectionRecord) -> Result<(), BookError> {
        let line = serde_json::to_string(record).map_err(std::io::Error::other);
        let mut line = line.map_err(BookError::io(&self.path, "written"))?;
        line.push('\n');
        if let Err(error) = self.file.write_all(line.as_bytes()) {
            // If this fails too, the next run cuts the rest off.
            let _ = self.cut();
            return Err(BookError::io(&self.path, "written")(error));
        }
        self.len += line.len() as u64;
        Ok(())
    }

    fn cut(&mut self) -> Result<(), BookError> {
        let cut = self.file.set_len(self.len);
        cut.and_then(|()| self.file.seek(SeekFrom::End(0)).map(drop))
            .map_err(BookError::io(&self.path, "cut"))
    }
}

fn parse(path: &Path, text: &[u8]) -> Result<Vec<InjectionRecord>, BookError> {
    let mut records = BTreeMap::new();
    let lines = text.split(|&byte| byte == b'\n').enumerate();
    for (n, line) in lines.filter(|(_, line)| !line.is_empty()) {
        let record: InjectionRecord = serde_json::from_slice(line).map_err(|error| {
            let (file, what) = (path.display().to_string(), error.to_string());
            BookError::Line { file, line: n + 1, what }
        })?;
        records.insert(record.id, record);
    }
    Ok(records.into_values().collect())
}

/// The records of a campaign, by number; a torn last line is left out.
///
/// # Errors
/// There is no campaign, or a line is no record.
pub fn read_records(folder: &Path) -> Result<Vec<InjectionRecord>, BookError> {
    let path = folder.join(INJECTIONS_FILE);
    let text =
        std::fs::read(&path).map_err(|_| BookError::Missing(folder.display().to_string()))?;
    let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    parse(&path, &text[..whole])
}

/// The manifest of a campaign.
///
/// # Errors
/// There is no campaign, or its manifest is damaged.
pub fn read_manifest(folder: &Path) -> Result<Manifest, BookError> {
    let path = folder.join(MANIFEST_FILE);
    let text = std::fs::read_to_string(&path)
        .map_err(|_| BookError::Missing(folder.display().to_string()))?;
    let wrong = |what: String| BookError::Manifest { file: path.display().to_string(), what };
    let manifest: Manifest =
        serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    if manifest.schema != MANIFEST_SCHEMA {
        return Err(wrong(format!("it is `{}`, not `{MANIFEST_SCHEMA}`", manifest.schema)));
    }
    Ok(manifest)
}

/// Writes the manifest of a campaign, whole or not at all.
///
/// # Errors
/// The operating system refuses.
pub fn write_manifest(folder: &Path, manifest: &Manifest) -> Result<(), BookError> {
    let path = folder.join(MANIFEST_FILE);
    let next = folder.join(format!("{MANIFEST_FILE}.new"));
    let text = serde_json::to_string_pretty(manifest).map_err(std::io::Error::other);
    let written = text.and_then(|text| std::fs::write(&next, text + "\n"));
    written.and_then(|()| std::fs::rename(&next, &path)).map_err(BookError::io(&path, "written"))
}

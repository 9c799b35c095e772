//! The folder of dumps: one folder for each failure, bounded in number and size.
//!
//! A failure is written to `.partial-NUMBER` and renamed when it is complete, so every folder with
//! a final name, `NUMBER-DOMAIN-CAUSE`, is complete. Only folders with such names are ever removed:
//! other files in the folder of dumps are left alone.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::capture::Capture;
use super::elf;
use super::failure::Failure;
use super::files::{CORE_FILE, FAILURE_FILE, IMAGE_FILE};
use crate::topology::DumpSpec;

const PARTIAL: &str = ".partial-";
/// Digits of the number in a folder's name, so that names sort by age.
const DIGITS: usize = 6;

/// Why the folder of dumps cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {} for dumps", dir.display())]
pub struct StoreError {
    dir: PathBuf,
    source: io::Error,
}

/// Why a dump was not written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {what}")]
pub struct DumpError {
    what: &'static str,
    source: io::Error,
}

impl DumpError {
    /// The error and its cause in one line.
    pub(super) fn one_line(&self) -> String {
        format!("{self}: {}", self.source)
    }

    fn of(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { what, source }
    }
}

/// The folder of dumps.
#[derive(Debug)]
pub struct DumpStore {
    spec: DumpSpec,
    next: u64,
}

/// A dump in the folder.
#[derive(Debug)]
struct Kept {
    number: u64,
    path: PathBuf,
    bytes: u64,
}

impl DumpStore {
    /// Creates the folder if it does not exist, removes what an earlier run left incomplete, and
    /// continues that run's numbers.
    ///
    /// From this call on, a write beyond the limit of a file's size is an error in the whole
    /// process, and no longer a deadly signal.
    ///
    /// # Errors
    /// The folder cannot be made or read.
    pub fn open(spec: DumpSpec) -> Result<Self, StoreError> {
        let failed = |source| StoreError { dir: spec.dir.clone(), source };
        make_folder(&spec.dir, true).map_err(failed)?;
        platform::signals::ignore_file_size_signal();
        let mut next = 1;
        for entry in fs::read_dir(&spec.dir).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let Some(name) = name.to_str() else { continue };
            if let Some(number) = number_of(name) {
                next = next.max(number.saturating_add(1));
            } else if name.strip_prefix(PARTIAL).is_some_and(|rest| rest.parse::<u64>().is_ok()) {
                fs::remove_dir_all(spec.dir.join(name)).map_err(failed)?;
            }
        }
        Ok(Self { spec, next })
    }

    /// Writes a dump, and removes the oldest ones that are too many. Returns the dump's folder.
    ///
    /// # Errors
    /// The dump cannot be written completely; nothing of it is left.
    pub fn save(&mut self, capture: &Capture) -> Result<PathBuf, DumpError> {
        let number = self.next;
        self.next += 1;
        let partial = self.spec.dir.join(format!("{PARTIAL}{number}"));
        let name = format!("{number:0DIGITS$}-{}-{}", capture.domain, capture.config.cause);
        let whole = self.spec.dir.join(name);
        let written = write_all(&partial, capture)
            .and_then(|()| fs::rename(&partial, &whole).map_err(DumpError::of("its folder")));
        if let Err(error) = written {
            // What cannot be removed now is removed at the next start.
            let _ = fs::remove_dir_all(&partial);
            return Err(error);
        }
        self.make_room();
        Ok(whole)
    }

    /// Removes the oldest dumps until both bounds hold. The newest dump always stays.
    fn make_room(&self) {
        let mut kept = self.kept();
        let limit = u64::from(self.spec.max_mib) << 20;
        let mut total: u64 = kept.iter().map(|dump| dump.bytes).sum();
        let mut count = kept.len();
        kept.sort_by_key(|dump| dump.number);
        for dump in kept {
            if count <= 1 || (count <= self.spec.keep as usize && total <= limit) {
                return;
            }
            if let Err(error) = fs::remove_dir_all(&dump.path) {
                tracing::warn!(path = %dump.path.display(), %error, "an old dump stays");
            }
            count -= 1;
            total -= dump.bytes;
        }
    }

    fn kept(&self) -> Vec<Kept> {
        let Ok(entries) = fs::read_dir(&self.spec.dir) else { return Vec::new() };
        let kept = entries.flatten().filter_map(|entry| {
            let number = number_of(entry.file_name().to_str()?)?;
            let path = entry.path();
            Some(Kept { number, bytes: bytes_in(&path), path })
        });
        kept.collect()
    }
}

/// Returns true if this can be the name of a dump's folder. Such a name leads one level down from
/// the folder of dumps, and nowhere else.
pub fn is_dump_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    number_of(name).is_some() && name.chars().all(plain)
}

/// The number in a dump's name; `None` if the name is not one that this store gives.
fn number_of(name: &str) -> Option<u64> {
    let (digits, rest) = name.split_once('-')?;
    let is_dump = digits.len() >= DIGITS
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && rest.contains('-');
    is_dump.then(|| digits.parse().ok()).flatten()
}

/// Bytes of the files in a folder; holes in sparse files count in full.
fn bytes_in(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|data| data.len()).sum()
}

fn write_all(folder: &Path, capture: &Capture) -> Result<(), DumpError> {
    make_folder(folder, false).map_err(DumpError::of("its folder"))?;
    write_file(&folder.join(CORE_FILE), |file| elf::write(file, &capture.notes(), &capture.areas))
        .map_err(DumpError::of("the core file"))?;
    write_file(&folder.join(IMAGE_FILE), |file| file.write_all(capture.image.file()))
        .map_err(DumpError::of("the driver's program"))?;
    write_file(&folder.join(FAILURE_FILE), |file| {
        serde_json::to_writer_pretty(&mut *file, &Failure::of(capture))?;
        file.write_all(b"\n")
    })
    .map_err(DumpError::of("the description"))
}

fn write_file(
    path: &Path,
    body: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let mut file = BufWriter::with_capacity(1 << 16, file);
    body(&mut file)?;
    file.flush()
}

fn make_folder(path: &Path, with_parents: bool) -> io::Result<()> {
    DirBuilder::new().recursive(with_parents).mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_the_store_gives_have_a_number() {
        assert_eq!(number_of("000017-a-crash"), Some(17));
        assert_eq!(number_of("1000000-a-crash"), Some(1_000_000));
        for foreign in ["17-a-crash", "000017", "000017-notes", "00001x-a-crash", "", "-a-b"] {
            assert_eq!(number_of(foreign), None, "{foreign}");
            assert!(!is_dump_name(foreign));
        }
        assert!(is_dump_name("000017-a-crash"));
        assert!(!is_dump_name("000017-a-../etc"));
    }
}

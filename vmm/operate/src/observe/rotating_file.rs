//! A file of lines that is rotated, by its owner and by others, and in which no line is torn.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use platform::user_file;

/// The file of the newest lines.
#[derive(Debug)]
pub(super) struct RotatingFile {
    path: PathBuf,
    file: File,
    max_bytes: u64,
    older: u32,
}

impl RotatingFile {
    /// Opens the file, or makes it. It may have `max_bytes`, and `older` ones are kept beside it.
    ///
    /// # Errors
    /// It cannot be opened, or is no regular file.
    pub(super) fn open(path: &Path, max_bytes: u64, older: u32) -> io::Result<Self> {
        let options = || OpenOptions::new().create(true).read(true).append(true).to_owned();
        let file = user_file::open(path, &mut options())?;
        Ok(Self { path: path.to_owned(), file, max_bytes, older })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a line: wholly, or nothing of it.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn write_line(&mut self, line: &str) -> io::Result<()> {
        if !self.is_in_place() {
            *self = Self::open(&self.path, self.max_bytes, self.older)?;
        }
        let line = format!("{line}\n");
        let bytes = self.file.metadata()?.len();
        if bytes > 0 && bytes + line.len() as u64 > self.max_bytes {
            self.rotate()?;
        }
        self.append(line.as_bytes())
    }

    /// Returns true if the name still leads to this file: nobody has moved or removed it.
    fn is_in_place(&self) -> bool {
        let number = |it: fs::Metadata| (it.dev(), it.ino());
        match (self.file.metadata(), self.path.metadata()) {
            (Ok(own), Ok(there)) => number(own) == number(there),
            _ => false,
        }
    }

    /// Writes all of it, or takes back what was written.
    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let before = self.file.metadata()?.len();
        let whole = match self.ends_in_a_line(before) {
            true => line.to_owned(),
            // Somebody's last line was cut.
            false => [b"\n", line].concat(),
        };
        let written = self.file.write_all(&whole);
        if written.is_err() {
            // Shortening a file takes no room. Where it fails nevertheless, the next line begins
            // with a line end.
            self.file.set_len(before)?;
        }
        written
    }

    fn ends_in_a_line(&self, bytes: u64) -> bool {
        use std::os::unix::fs::FileExt;
        let mut last = [b'\n'];
        let read = bytes.checked_sub(1).map(|place| self.file.read_exact_at(&mut last, place));
        !matches!(read, Some(Ok(()))) || last == [b'\n']
    }

    fn rotate(&mut self) -> io::Result<()> {
        for n in (1..self.older).rev() {
            match fs::rename(self.numbered(n), self.numbered(n + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(&self.path, self.numbered(1))?;
        *self = Self::open(&self.path, self.max_bytes, self.older)?;
        Ok(())
    }

    fn numbered(&self, n: u32) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(format!(".{n}"));
        name.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let name = format!("warmspare-rotating-file-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn old_files_go_and_no_line_is_torn() {
        let folder = folder("rotate");
        let path = folder.join("events");
        let mut file = RotatingFile::open(&path, 20, 2).unwrap();
        for n in 0..10 {
            file.write_line(&format!("line {n:03}")).unwrap();
        }
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
        assert_eq!(read("events"), "line 008\nline 009\n");
        assert_eq!(read("events.1"), "line 006\nline 007\n");
        assert_eq!(read("events.2"), "line 004\nline 005\n");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 3);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_file_that_was_moved_or_removed_is_made_anew() {
        let folder = folder("moved");
        let path = folder.join("events");
        let mut file = RotatingFile::open(&path, 1000, 2).unwrap();
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
        file.write_line("one").unwrap();
        fs::rename(&path, folder.join("moved")).unwrap();
        file.write_line("two").unwrap();
        assert_eq!((read("moved").as_str(), read("events").as_str()), ("one\n", "two\n"));
        fs::remove_file(&path).unwrap();
        file.write_line("three").unwrap();
        assert_eq!(read("events"), "three\n");
        fs::write(folder.join("other"), "other\n").unwrap();
        fs::rename(folder.join("other"), &path).unwrap();
        file.write_line("four").unwrap();
        assert_eq!(read("events"), "other\nfour\n");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_line_that_somebody_cut_is_ended_first() {
        let folder = folder("cut");
        let path = folder.join("events");
        fs::write(&path, "whole\ncut").unwrap();
        RotatingFile::open(&path, 1000, 2).unwrap().write_line("next").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "whole\ncut\nnext\n");
        fs::remove_dir_all(folder).unwrap();
    }
}

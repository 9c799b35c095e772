//! Writes events into a file, one line each, and bounds the size on disk.
//!
//! `FILE` grows to its limit and is renamed to `FILE.1`, the older `FILE.1` to `FILE.2`, and so on;
//! the oldest file is removed. A thread of its own writes, so a slow disk delays no other thread.
//! Events that it cannot keep up with are lost, and a line in the file says how many.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::bus::Subscription;
use platform::realtime;

/// Most bytes of one file: tens of thousands of events.
const FILE_BYTES: u64 = 16 << 20;
/// Older files that are kept.
const OLDER_FILES: u32 = 4;

/// How long dropping [`EventFile`] waits for the last lines.
const END_DEADLINE: Duration = Duration::from_secs(1);

/// The thread that writes. It ends when the event bus is dropped; dropping this waits for it, up to
/// a deadline.
#[derive(Debug)]
pub(crate) struct EventFile {
    thread: JoinHandle<()>,
}

impl EventFile {
    /// Opens the file and starts the thread `event-file`.
    ///
    /// # Errors
    /// The file cannot be opened, or the operating system refuses another thread.
    pub(crate) fn spawn(path: &Path, events: Subscription) -> io::Result<Self> {
        let file = RotatingFile::open(path, FILE_BYTES, OLDER_FILES)?;
        let thread = realtime::spawn("event-file", None, move || write_all(file, events))?;
        Ok(Self { thread })
    }
}

impl Drop for EventFile {
    fn drop(&mut self) {
        let end = Instant::now() + END_DEADLINE;
        while !self.thread.is_finished() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn write_all(mut file: RotatingFile, mut events: Subscription) {
    let mut broken = false;
    while let Some(delivery) = events.next_blocking() {
        let written = file.write_line(&delivery.line());
        if let Err(error) = &written
            && !broken
        {
            tracing::error!(path = %file.path.display(), %error, "events cannot be written");
        }
        broken = written.is_err();
    }
}

#[derive(Debug)]
struct RotatingFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    max_bytes: u64,
    older: u32,
}

impl RotatingFile {
    fn open(path: &Path, max_bytes: u64, older: u32) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, bytes, max_bytes, older })
    }

    fn write_line(&mut self, line: &str) -> io::Result<()> {
        let added = line.len() as u64 + 1;
        if self.bytes > 0 && self.bytes + added > self.max_bytes {
            self.rotate()?;
        }
        self.file.write_all(format!("{line}\n").as_bytes())?;
        self.bytes += added;
        Ok(())
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
    use std::sync::Arc;

    use super::*;
    use crate::observe::bus::{EventBus, Published};

    fn folder(name: &str) -> PathBuf {
        let name = format!("warmspare-event-file-{name}-{}", std::process::id());
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
    fn an_earlier_run_is_continued() {
        let folder = folder("continue");
        let path = folder.join("events");
        fs::write(&path, "before\n").unwrap();
        let bus = EventBus::default();
        let file = EventFile::spawn(&path, bus.subscribe()).unwrap();
        bus.publish(Arc::new(Published { seq: 1, kind: "link", json: "after".into() }));
        drop(bus);
        drop(file);
        assert_eq!(fs::read_to_string(&path).unwrap(), "before\nafter\n");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn an_impossible_place_is_an_error_at_once() {
        let bus = EventBus::default();
        assert!(EventFile::spawn(Path::new("/no/such/folder/events"), bus.subscribe()).is_err());
    }
}

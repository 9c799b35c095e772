//! Writes events into a file, one line each, and bounds the size on disk.
//!
//! `FILE` grows to its limit and is renamed to `FILE.1`, the older `FILE.1` to `FILE.2`, and so on;
//! the oldest file is removed. A thread of its own writes, so a slow disk delays no other thread.
//! Events that it cannot keep up with are lost, and so are those that a full disk does not take; a
//! line in the file says how many.
//!
//! Others may rotate the file too: before each line, the thread looks whether its file is still the
//! one of that name, and opens the name again if it is not. SIGHUP is an event, so that a file which
//! was moved before the signal is there again right after it.

use std::io;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::bus::{Delivery, Subscription};
use super::rotating_file::RotatingFile;
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

    /// Checks that events can be written to this file.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(crate) fn check(path: &Path) -> io::Result<()> {
        RotatingFile::open(path, FILE_BYTES, OLDER_FILES).map(drop)
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
    let mut lost = 0;
    while let Some(delivery) = events.next_blocking() {
        let written =
            tell_loss(&mut file, &mut lost).and_then(|()| file.write_line(&delivery.line()));
        if let Err(error) = written {
            if lost == 0 {
                let path = file.path().display();
                tracing::error!(%path, %error, "events cannot be written, and are lost");
            }
            lost += match delivery {
                Delivery::Event(_) => 1,
                Delivery::Lost(count) => count,
            };
        }
    }
}

/// Says in the file how many events are missing there, if some are.
fn tell_loss(file: &mut RotatingFile, lost: &mut u64) -> io::Result<()> {
    if *lost == 0 {
        return Ok(());
    }
    file.write_line(&Delivery::Lost(*lost).line())?;
    tracing::warn!(path = %file.path().display(), lost, "events are written again; some were lost");
    *lost = 0;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use super::*;
    use crate::observe::bus::{EventBus, Published};

    fn folder(name: &str) -> PathBuf {
        let name = format!("warmspare-event-file-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn event(json: &str) -> Arc<Published> {
        Arc::new(Published { seq: 1, kind: "link", json: json.into() })
    }

    #[test]
    fn an_earlier_run_is_continued() {
        let folder = folder("continue");
        let path = folder.join("events");
        std::fs::write(&path, "before\n").unwrap();
        let bus = EventBus::default();
        let file = EventFile::spawn(&path, bus.subscribe()).unwrap();
        bus.publish(event("after"));
        drop(bus);
        drop(file);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "before\nafter\n");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_could_not_be_written_is_told_once_it_can() {
        let folder = folder("loss");
        let path = folder.join("gone").join("events");
        std::fs::create_dir(folder.join("gone")).unwrap();
        let file = RotatingFile::open(&path, FILE_BYTES, OLDER_FILES).unwrap();
        std::fs::remove_dir_all(folder.join("gone")).unwrap();
        let bus = EventBus::default();
        let mut events = bus.subscribe();
        (0..3).for_each(|_| bus.publish(event("lost")));
        drop(bus);
        // The folder is there again when the fourth event comes.
        let bus = EventBus::default();
        let mut later = bus.subscribe();
        bus.publish(event("written"));
        drop(bus);
        let mut file = file;
        let mut lost = 0;
        while let Some(delivery) = events.next_blocking() {
            assert!(file.write_line(&delivery.line()).is_err());
            lost += 1;
        }
        std::fs::create_dir(folder.join("gone")).unwrap();
        tell_loss(&mut file, &mut lost).unwrap();
        file.write_line(&later.next_blocking().unwrap().line()).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "{\"event\":\"lost\",\"count\":3}\nwritten\n");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn an_impossible_place_is_an_error_at_once() {
        let bus = EventBus::default();
        for path in ["/no/such/folder/events", "/dev/null", "/tmp"] {
            assert!(EventFile::check(Path::new(path)).is_err(), "{path}");
            assert!(EventFile::spawn(Path::new(path), bus.subscribe()).is_err(), "{path}");
        }
    }
}

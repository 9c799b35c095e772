//! Descriptors that a front-end passed, and what may be done with them.
//!
//! A descriptor can be a file of the front-end's own FUSE daemon, which answers when it likes. What
//! asks the file system (fstat(2), statfs(2), a write, even close(2), which flushes) may never
//! return. So a descriptor's kind is found out by questions that the kernel answers by itself, and
//! one whose close could hang is closed by a thread that nobody waits for.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use platform::realtime;

/// What a descriptor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    EventFd,
    Pipe,
    /// A file whose pages are memory of this machine: on tmpfs or hugetlbfs, memfds included.
    Memory,
    /// Anything else. None of its operations may be called where somebody waits.
    Unknown,
}

fn kind_of(file: &File) -> Kind {
    // SAFETY: plain integers and an open descriptor. Only files of tmpfs and hugetlbfs have seals.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GET_SEALS) } >= 0 {
        return Kind::Memory;
    }
    // The only way to tell an eventfd from other anonymous inodes. The name of a file that has a
    // path begins with a slash.
    let link = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let Ok(link) = link else { return Kind::Unknown };
    match link.to_str() {
        Some("anon_inode:[eventfd]") => Kind::EventFd,
        Some(name) if name.starts_with("pipe:[") => Kind::Pipe,
        _ => Kind::Unknown,
    }
}

/// A descriptor that a front-end passed. Dropping it never waits.
#[derive(Debug)]
pub(crate) struct Foreign {
    /// `None` only while it is dropped.
    file: Option<File>,
    kind: Kind,
    closer: Closer,
}

impl Foreign {
    /// Takes a descriptor that came; `closer` closes it if that could take long.
    pub(crate) fn new(file: File, closer: &Closer) -> Self {
        let kind = kind_of(&file);
        Self { file: Some(file), kind, closer: closer.clone() }
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// The file.
    pub(super) fn file(&self) -> Option<&File> {
        self.file.as_ref()
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        if let Some(file) = self.file.take().filter(|_| self.kind == Kind::Unknown) {
            self.closer.close(file);
        }
    }
}

impl From<File> for Foreign {
    fn from(file: File) -> Self {
        Self::new(file, &Closer::default())
    }
}

impl From<OwnedFd> for Foreign {
    fn from(fd: OwnedFd) -> Self {
        File::from(fd).into()
    }
}

/// Closes descriptors of one guest's front-ends, one after the other, on a thread that is started
/// with the first. Nobody waits for that thread: a file system that hangs holds it, and nothing else.
#[derive(Clone, Debug, Default)]
pub(crate) struct Closer {
    shared: Arc<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Not closed yet.
    count: AtomicUsize,
    to: Mutex<Option<Sender<File>>>,
}

impl Closer {
    /// Descriptors that are not closed yet.
    pub(crate) fn waiting(&self) -> usize {
        self.shared.count.load(Ordering::Relaxed)
    }

    fn close(&self, file: File) {
        self.shared.count.fetch_add(1, Ordering::Relaxed);
        let mut to = self.shared.to.lock().unwrap_or_else(PoisonError::into_inner);
        let file = match to.as_ref() {
            Some(sender) => match sender.send(file) {
                Ok(()) => return,
                Err(unsent) => unsent.0,
            },
            None => file,
        };
        *to = self.start(file);
    }

    /// Starts the thread, with a first descriptor. `None` where no thread can be had: then the
    /// descriptor stays open and counted, as one whose close hangs.
    fn start(&self, file: File) -> Option<Sender<File>> {
        let (sender, files) = channel::<File>();
        let shared = Arc::downgrade(&self.shared);
        // The queue outlives a thread that cannot be started, so that nothing in it is closed here.
        let files = std::mem::ManuallyDrop::new(files);
        let _ = sender.send(file);
        let close = move || {
            for file in std::mem::ManuallyDrop::into_inner(files) {
                drop(file);
                let Some(shared) = shared.upgrade() else { continue };
                shared.count.fetch_sub(1, Ordering::Relaxed);
            }
        };
        realtime::spawn("close", None, close).ok().map(|_| sender)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::memfd;
    use std::time::{Duration, Instant};

    #[test]
    fn kinds_are_told_without_asking_a_file_system() {
        let kind = |path: &str| Foreign::from(File::open(path).unwrap()).kind();
        assert_eq!(kind("/proc/self/exe"), Kind::Unknown);
        assert_eq!(kind("/dev/zero"), Kind::Unknown);
        assert_eq!(kind("/tmp"), Kind::Unknown);
        assert_eq!(Foreign::from(memfd(4096)).kind(), Kind::Memory);
        let (read, write) = std::io::pipe().unwrap();
        let kinds = [OwnedFd::from(read), OwnedFd::from(write)].map(|fd| Foreign::from(fd).kind());
        assert_eq!(kinds, [Kind::Pipe; 2]);
    }

    #[test]
    fn what_is_unknown_is_closed_by_the_closer_and_all_of_it() {
        let closer = Closer::default();
        for _ in 0..50 {
            drop(Foreign::new(File::open("/dev/null").unwrap(), &closer));
        }
        drop(Foreign::new(memfd(4096), &closer));
        let end = Instant::now() + Duration::from_secs(5);
        while closer.waiting() != 0 {
            assert!(Instant::now() < end, "{} are not closed", closer.waiting());
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

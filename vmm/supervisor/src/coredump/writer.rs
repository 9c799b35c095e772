//! The thread that writes dumps.
//!
//! The thread writes one capture at a time and keeps one more waiting. Captures that arrive while
//! both places are taken are dropped: a disk that is slower than the failures costs dumps, not
//! memory.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

use super::capture::Capture;
use super::store::{DumpError, DumpStore};
use platform::budget::DUMP_END_DEADLINE;
use platform::realtime;

/// What became of a dump.
#[derive(Debug)]
pub enum DumpOutcome {
    /// The dump is in this folder.
    Saved(PathBuf),
    /// The dump could not be written.
    Failed(DumpError),
}

/// A capture to be written.
pub struct Offer {
    capture: Capture,
    /// Where somebody waits for the outcome, if anybody does.
    reply: Option<SyncSender<Result<PathBuf, String>>>,
}

impl Offer {
    /// The capture of a failed domain.
    pub fn of_failure(capture: Capture) -> Self {
        Self { capture, reply: None }
    }

    /// A capture that was requested. `reply` receives the folder, or the reason why there is none.
    pub fn requested(capture: Capture, reply: SyncSender<Result<PathBuf, String>>) -> Self {
        Self { capture, reply: Some(reply) }
    }
}

/// Handle of the thread "dumps". When it is dropped, the thread finishes the captures that it has.
pub struct DumpWriter {
    captures: Option<SyncSender<Offer>>,
    thread: Option<JoinHandle<()>>,
}

impl DumpWriter {
    /// Starts the thread. It calls `tell` for each dump with the domain, whether the dump was
    /// requested, and the outcome.
    ///
    /// # Errors
    /// The operating system refuses to start a thread.
    pub fn spawn(
        store: DumpStore,
        tell: impl Fn(&str, bool, DumpOutcome) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (captures, queue) = sync_channel(1);
        let thread = realtime::spawn("dumps", None, move || run(store, &queue, tell))?;
        Ok(Self { captures: Some(captures), thread: Some(thread) })
    }

    /// Hands a capture to the thread. Returns true if there was room for it. Never waits.
    pub fn offer(&self, offer: Offer) -> bool {
        let Some(captures) = &self.captures else { return false };
        match captures.try_send(offer) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }
}

fn run(mut store: DumpStore, queue: &Receiver<Offer>, tell: impl Fn(&str, bool, DumpOutcome)) {
    while let Ok(Offer { capture, reply }) = queue.recv() {
        let outcome = match store.save(&capture) {
            Ok(path) => DumpOutcome::Saved(path),
            Err(error) => DumpOutcome::Failed(error),
        };
        let requested = reply.is_some();
        if let Some(reply) = reply {
            let answer = match &outcome {
                DumpOutcome::Saved(path) => Ok(path.clone()),
                DumpOutcome::Failed(error) => Err(error.one_line()),
            };
            // The receiver may be gone: it stops waiting after a while.
            let _ = reply.try_send(answer);
        }
        tell(&capture.domain, requested, outcome);
    }
}

impl Drop for DumpWriter {
    fn drop(&mut self) {
        self.captures = None;
        let Some(thread) = self.thread.take() else { return };
        let end = Instant::now() + DUMP_END_DEADLINE;
        while !thread.is_finished() {
            if Instant::now() >= end {
                tracing::warn!("the disk does not take the last dump: the dump is given up");
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        // The thread has finished; its panic hook has reported a panic, if there was one.
        let _ = thread.join();
    }
}

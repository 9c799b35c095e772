//! Threads that do the same again and again.

use std::io;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use platform::realtime::{self, Priority};

/// A thread that acts, and pauses; ends when dropped.
pub(super) struct PeriodicThread {
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl PeriodicThread {
    /// Acts after each pause.
    ///
    /// # Errors
    /// No thread is to be had.
    pub(super) fn spawn(
        name: &str,
        pause: Duration,
        mut act: impl FnMut() + Send + 'static,
    ) -> io::Result<Self> {
        let (stop, stopped) = sync_channel(0);
        // Below every thread of the data path; but a drill that waits for a processor would keep
        // its standby released for longer than it should.
        let thread = realtime::spawn(name, Some(Priority::Nic), move || {
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(pause) {
                act();
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for PeriodicThread {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

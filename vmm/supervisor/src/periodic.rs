//! Threads that repeat one action after a pause.

use std::io;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use platform::realtime::{self, Priority, guarded};

/// A thread that acts after each pause; it ends when this is dropped.
pub(super) struct PeriodicThread {
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl PeriodicThread {
    /// Starts the thread.
    ///
    /// # Errors
    /// The operating system refuses to start a thread.
    pub(super) fn spawn(
        name: &str,
        pause: Duration,
        mut act: impl FnMut() + Send + 'static,
    ) -> io::Result<Self> {
        let (stop, stopped) = sync_channel(0);
        // The priority is below every thread of the data path. It is not the normal one, because a
        // drill that waits for a processor would keep its standby released for longer than it
        // should.
        let own_name = name.to_owned();
        let thread = realtime::spawn(name, Some(Priority::Nic), move || {
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(pause) {
                // Each act begins anew, so a panic in one does not concern the next.
                guarded(&own_name, &mut act);
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl PeriodicThread {
    /// Returns true if the thread has ended, which it does only by a defect as long as this lives.
    pub(super) fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
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

//! The thread that a server's async runtime runs on.

use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use super::config::ControlError;
use platform::realtime;

/// How long the end waits for operations that still run.
const END_DEADLINE: Duration = Duration::from_millis(100);

/// The running thread. Dropped, it cuts all connections and ends.
#[derive(Debug)]
pub(super) struct ServerThread {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// A runtime for one thread, with at most this many more threads for operations that wait.
pub(super) fn runtime(waiting_threads: usize) -> Result<Runtime, ControlError> {
    Builder::new_current_thread()
        .thread_name("control-wait")
        .max_blocking_threads(waiting_threads)
        .enable_all()
        .build()
        .map_err(ControlError::Thread)
}

impl ServerThread {
    /// Starts the thread under this name. `kept` is dropped when the thread ends.
    pub(super) fn spawn<T: Send + 'static>(
        name: &str,
        runtime: Runtime,
        kept: T,
    ) -> Result<Self, ControlError> {
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = realtime::spawn(name, None, move || {
            // The sender never sends: it is dropped, and that ends the wait.
            let _ = runtime.block_on(stopped);
            runtime.shutdown_timeout(END_DEADLINE);
            drop(kept);
        })
        .map_err(ControlError::Thread)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for ServerThread {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

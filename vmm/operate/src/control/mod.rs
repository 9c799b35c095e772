//! The control plane: one HTTP server on a thread of normal priority, behind two doors.
//!
//! ```text
//!  Unix socket ─┐                       ┌─▶ Observer: state, metrics, events
//!               ├─ door ─ routes ───────┤
//!  dashboard ───┘                       └─▶ Actions: switch, drill, upgrade, pause, dump, gdb
//! ```
//!
//! Requests are bounded in size, number and time. Nothing the data path or a failover needs is ever
//! locked here.

mod actions;
pub mod client;
mod door;
mod dumps;
mod error;
mod input;
mod listen;
mod openapi;
mod page;
mod pages;
mod plane;
mod reload;
mod requests;
mod routes;
mod stream;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

pub use actions::{
    Actions, Drilled, Dumped, Opened, Paused, Resumed, Switched, SystemActions, Upgraded,
};
pub use door::{Token, TokenError};
pub use error::{ApiError, ErrorBody, ErrorCode};
pub use openapi::document;
pub use page::CSS as PAGE_STYLE;
pub use pages::{PageServer, Pages};
pub use plane::{Plane, PlaneError, PlaneOptions};
pub use reload::Reloaded;
pub use requests::{
    DomainRequest, DrillRequest, GdbRequest, PauseRequest, SwitchRequest, UpgradeRequest,
};

use crate::observe::{Observer, Sampler, sampler};
use door::{Door, TokenCell};
use listen::LocalSocket;
use platform::realtime;
use routes::App;

/// From an event to the state that shows it; more events in this time share one.
const STATE_PAUSE: Duration = Duration::from_millis(150);

/// Why the control plane cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The Unix socket cannot be used.
    #[error("{}: the control socket cannot be made", path.display())]
    Socket {
        /// Its path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The dashboard's address cannot be used.
    #[error("{address}: the dashboard cannot listen there")]
    Address {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// No thread or runtime.
    #[error("the control thread cannot be started")]
    Thread(#[source] io::Error),
}

/// Where the dashboard listens.
#[derive(Clone, Debug)]
pub struct DashboardConfig {
    /// Its address; port 0 takes any.
    pub listen: SocketAddr,
    /// What allows changes, and beyond loopback everything.
    pub token: Token,
}

/// What the server is to listen on.
#[derive(Clone, Debug, Default)]
pub struct ControlConfig {
    /// The Unix socket.
    pub socket: Option<PathBuf>,
    /// The dashboard.
    pub dashboard: Option<DashboardConfig>,
    /// Folder with the remains of failed domains, to be served.
    pub dumps: Option<PathBuf>,
}

/// The running control plane. Dropped, it cuts all connections and ends.
#[derive(Debug)]
pub struct ControlServer {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    dashboard: Option<SocketAddr>,
    token: Option<TokenCell>,
}

impl ControlServer {
    /// Listens, and starts the thread `control`.
    ///
    /// # Errors
    /// A socket cannot be made, or the operating system refuses another thread.
    pub fn spawn(
        config: &ControlConfig,
        observer: Observer,
        actions: Arc<dyn Actions>,
    ) -> Result<Self, ControlError> {
        let runtime = runtime(4)?;
        let sampler = Arc::new(Sampler::default());
        let states = Arc::new(watch::Sender::new(Arc::from("")));
        let dumps = config.dumps.clone();
        let app = App { observer, sampler, actions, dumps, states };
        let entered = runtime.enter();
        let socket = match &config.socket {
            Some(path) => Some(LocalSocket::bind(path)?),
            None => None,
        };
        let (mut address, mut token) = (None, None);
        if let Some(dashboard) = &config.dashboard {
            let listener = listen::bind_network(dashboard.listen)?;
            address = listener.local_addr().ok();
            let cell = token.insert(TokenCell::new(dashboard.token.clone())).clone();
            let door = Door::at(dashboard.listen, cell);
            listen::serve_network(listener, routes::router(app.clone(), door));
        }
        let file = socket.map(|socket| socket.serve(routes::router(app.clone(), Door::Local)));
        tokio::spawn(feed(app));
        drop(entered);
        let (stop, stopped) = oneshot::channel();
        let thread = realtime::spawn("control", None, move || {
            run(runtime, stopped);
            drop(file);
        })
        .map_err(ControlError::Thread)?;
        Ok(Self { stop: Some(stop), thread: Some(thread), dashboard: address, token })
    }

    /// From now on, this token and no other.
    pub fn set_token(&self, token: Token) {
        if let Some(cell) = &self.token {
            cell.set(token);
        }
    }

    /// Where the dashboard listens.
    pub fn dashboard(&self) -> Option<SocketAddr> {
        self.dashboard
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A runtime for one thread, and at most so many that wait for something.
fn runtime(waiting_threads: usize) -> Result<Runtime, ControlError> {
    Builder::new_current_thread()
        .thread_name("control-wait")
        .max_blocking_threads(waiting_threads)
        .enable_all()
        .build()
        .map_err(ControlError::Thread)
}

fn run(runtime: Runtime, stopped: oneshot::Receiver<()>) {
    // The sender is dropped, never used: that is the sign.
    let _ = runtime.block_on(stopped);
    runtime.shutdown_timeout(Duration::from_millis(100));
}

/// Takes the samples, and makes the states of the live feed while somebody looks: one a second, and
/// one soon after each event.
async fn feed(app: App) {
    let mut events = app.observer.recorder.subscribe();
    let mut due = Instant::now();
    loop {
        match tokio::time::timeout_at(due, events.next()).await {
            Ok(Some(_)) => tokio::time::sleep(STATE_PAUSE).await,
            Ok(None) => return,
            Err(_) => {}
        }
        // Looked at each time, since events may come without a pause.
        if Instant::now() >= due {
            app.sampler.sample(&app.observer);
            due = (due + sampler::PERIOD).max(Instant::now());
        }
        if app.states.receiver_count() > 0 {
            app.states.send_replace(app.state_json());
        }
    }
}

//! The control server: its listeners, and the feed of samples and states.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::access_control::AccessControl;
use super::actions::Actions;
use super::app_state::AppState;
use super::config::{ControlConfig, ControlError, DashboardConfig};
use super::listen::{self, LocalSocket};
use super::routes;
use super::server_thread::{ServerThread, runtime};
use super::token::{Token, TokenCell};
use crate::observe::{Observer, Sampler, sampler};

/// Threads for operations that wait.
const WAITING_THREADS: usize = 4;
/// From an event to the state that shows it. More events in this time share one state.
const STATE_PAUSE: Duration = Duration::from_millis(150);

/// The running control server. Dropped, it cuts all connections and ends.
#[derive(Debug)]
pub(super) struct ControlServer {
    _thread: ServerThread,
    dashboard: Option<Dashboard>,
}

/// The dashboard's listener.
#[derive(Debug)]
struct Dashboard {
    address: SocketAddr,
    token: TokenCell,
}

impl ControlServer {
    /// Listens, and starts the thread `control`.
    ///
    /// # Errors
    /// A socket cannot be made, or the operating system refuses another thread.
    pub(super) fn spawn(
        config: &ControlConfig,
        observer: Observer,
        actions: Arc<dyn Actions>,
    ) -> Result<Self, ControlError> {
        let runtime = runtime(WAITING_THREADS)?;
        let sampler = Arc::new(Sampler::default());
        let states = Arc::new(watch::Sender::new(Arc::from("")));
        let dumps = config.dumps.clone();
        let app = AppState { observer, sampler, actions, dumps, states };
        let entered = runtime.enter();
        let socket = match &config.socket {
            Some(path) => Some(LocalSocket::bind(path)?),
            None => None,
        };
        let dashboard = match &config.dashboard {
            Some(dashboard) => Some(serve_dashboard(dashboard, config.connections, app.clone())?),
            None => None,
        };
        let file = socket.map(|socket| {
            let router = routes::router(app.clone(), AccessControl::Local);
            socket.serve(router, config.connections)
        });
        tokio::spawn(keep_feeding(app));
        drop(entered);
        Ok(Self { _thread: ServerThread::spawn("control", runtime, file)?, dashboard })
    }

    /// From now on, this token and no other is valid.
    pub(super) fn set_token(&self, token: Token) {
        if let Some(dashboard) = &self.dashboard {
            dashboard.token.set(token);
        }
    }

    /// Where the dashboard listens.
    pub(super) fn dashboard(&self) -> Option<SocketAddr> {
        self.dashboard.as_ref().map(|dashboard| dashboard.address)
    }
}

/// Serves the dashboard. Needs the runtime's context.
fn serve_dashboard(
    config: &DashboardConfig,
    connections: usize,
    app: AppState,
) -> Result<Dashboard, ControlError> {
    let listener = listen::bind_network(config.listen)?;
    let address = listener.local_addr().unwrap_or(config.listen);
    let token = TokenCell::new(config.token.clone());
    let control = AccessControl::at(config.listen, token.clone(), config.hosts.clone());
    listen::serve_network(listener, routes::router(app, control), connections);
    Ok(Dashboard { address, token })
}

/// Feeds until the end. A panic ends one task and not the dashboard's rates: another takes over.
async fn keep_feeding(app: AppState) {
    while tokio::spawn(feed(app.clone())).await.is_err() {
        tracing::error!("the samples for the dashboard have panicked: they begin anew");
        tokio::time::sleep(sampler::PERIOD).await;
    }
}

/// Takes the samples. While somebody follows the live feed, also makes its states: one a second, and
/// one soon after each event.
async fn feed(app: AppState) {
    let mut events = app.observer.recorder.subscribe();
    let mut due = Instant::now();
    loop {
        match tokio::time::timeout_at(due, events.next()).await {
            Ok(Some(_)) => tokio::time::sleep(STATE_PAUSE).await,
            Ok(None) => return,
            Err(_) => {}
        }
        // Checked in every turn, because events can come without a pause.
        if Instant::now() >= due {
            app.observer.sample_rates(&app.sampler);
            due = (due + sampler::PERIOD).max(Instant::now());
        }
        if app.states.receiver_count() > 0 {
            app.states.send_replace(app.state_json());
        }
    }
}

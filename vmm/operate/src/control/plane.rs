//! Attaches the control plane to a running system: observer, event file, notify programs and server,
//! as the command line and the topology ask for.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;

use super::actions::{Actions, SystemActions};
use super::config::{ControlConfig, ControlError, DashboardConfig, DashboardError};
use super::descriptors;
use super::reload::{self, Reloaded};
use super::server::ControlServer;
use super::token::{Token, TokenError};
use crate::observe::event_file::EventFile;
use crate::observe::guest_frames::{self, GuestFrameWatch};
use crate::observe::hooks::{Hook, Hooks};
use crate::observe::{FrontEndWatch, Observer, ReceivedEvent, SystemWatch, system};
use crate::service::ServiceState;
use microvm::domain::DomainSlot;
use supervisor::topology::{NotifySpec, Topology, is_host_name};
use supervisor::{Event, System};

/// Options of the command line for the control plane.
#[derive(Clone, Debug, Default, Args)]
pub struct PlaneOptions {
    /// Control socket: HTTP on this Unix socket, for its owner only
    #[arg(long, value_name = "PATH")]
    pub api_socket: Option<PathBuf>,
    /// Serve the dashboard at this address; 127.0.0.1:8470, for instance
    #[arg(long, value_name = "ADDR")]
    pub dashboard: Option<SocketAddr>,
    /// Host name under which a proxy asks for the dashboard; can be given several times
    #[arg(long, value_name = "NAME", value_parser = host_name)]
    pub dashboard_host: Vec<String>,
    /// File with the dashboard's token; by default one is generated and printed
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Append every event to this file, one JSON line each; it is rotated at 16 MiB
    #[arg(long, value_name = "FILE")]
    pub event_file: Option<PathBuf>,
}

/// Why the control plane cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum PlaneError {
    /// A socket or address cannot be used.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The dashboard's address cannot be served.
    #[error(transparent)]
    Dashboard(#[from] DashboardError),
    /// The token file is of no use.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// There is no thread for the notify programs.
    #[error("notify programs cannot be run")]
    Notify(#[source] io::Error),
    /// The event file cannot be written.
    #[error("{}: the event file cannot be opened", path.display())]
    EventFile {
        /// Its path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// The control plane of a running system. Its parts are dropped in the order of the fields.
pub struct Plane {
    server: Option<ControlServer>,
    url: Option<String>,
    observer: Observer,
    slots: Vec<Arc<DomainSlot>>,
    _event_file: Option<EventFile>,
    hooks: Hooks,
    token_file: Option<PathBuf>,
    front_ends: FrontEndWatch,
    guest_frames: GuestFrameWatch,
}

impl PlaneOptions {
    /// What the server listens on. The command line goes before the topology.
    fn config(&self, topology: &Topology) -> Result<ControlConfig, PlaneError> {
        let spec = topology.dashboard.as_ref();
        let listen = self.dashboard.or(spec.map(|spec| spec.listen));
        let dashboard = match (listen, self.token_file(topology)) {
            (Some(address), file) => {
                Some(DashboardConfig::new(address, file)?.with_hosts(self.hosts(topology)))
            }
            // The token is not needed, but the user should learn now that its file is of no use.
            (None, Some(file)) => Token::load(file).map(|_| None)?,
            (None, None) => None,
        };
        let dumps = topology.dumps.as_ref().map(|spec| spec.dir.clone());
        let connections = descriptors::connections(topology);
        Ok(ControlConfig { socket: self.api_socket.clone(), dashboard, dumps, connections })
    }

    /// Host names that are allowed beside addresses and `localhost`. The command line goes before
    /// the topology.
    fn hosts(&self, topology: &Topology) -> Vec<String> {
        let named = topology.dashboard.as_ref().map(|spec| &spec.hosts);
        match self.dashboard_host.as_slice() {
            [] => named.cloned().unwrap_or_default(),
            given => given.to_owned(),
        }
    }

    fn token_file<'a>(&'a self, topology: &'a Topology) -> Option<&'a Path> {
        let spec = topology.dashboard.as_ref();
        self.token_file.as_deref().or(spec.and_then(|spec| spec.token_file.as_deref()))
    }
}

/// A host name on the command line.
fn host_name(name: &str) -> Result<String, String> {
    match is_host_name(name) {
        true => Ok(name.to_owned()),
        false => Err("it is not a host name: write one as ws.example.org, without a port".into()),
    }
}

fn hooks(topology: &Topology) -> Vec<Hook> {
    let hook = |spec: &NotifySpec| {
        let (program, arguments) = spec.run.split_first()?;
        Some(Hook {
            events: spec.events.clone(),
            program: program.into(),
            arguments: arguments.to_vec(),
            timeout: Duration::from_millis(spec.timeout_ms),
        })
    };
    topology.notify.iter().filter_map(hook).collect()
}

impl PlaneOptions {
    /// Checks the files that the options and the topology name, before anything runs.
    ///
    /// # Errors
    /// See [`PlaneError`].
    pub fn check(&self, topology: &Topology) -> Result<(), PlaneError> {
        self.config(topology)?;
        let Some(path) = &self.event_file else { return Ok(()) };
        let failed = |source| PlaneError::EventFile { path: path.to_owned(), source };
        EventFile::check(path).map_err(failed)
    }
}

fn open_event_file(path: &Path, observer: &Observer) -> Result<EventFile, PlaneError> {
    let failed = |source| PlaneError::EventFile { path: path.to_owned(), source };
    EventFile::spawn(path, observer.recorder.subscribe()).map_err(failed)
}

/// Starts the server, if it has anything to listen on.
fn serve(
    config: &ControlConfig,
    observer: &Observer,
    system: &System,
) -> Result<Option<ControlServer>, PlaneError> {
    if config.socket.is_none() && config.dashboard.is_none() {
        return Ok(None);
    }
    let actions: Arc<dyn Actions> = Arc::new(SystemActions::new(system, config.socket.as_deref()));
    Ok(Some(ControlServer::spawn(config, observer.clone(), actions)?))
}

/// Address of the dashboard for a browser, with this token in it.
fn url(address: SocketAddr, token: Option<&Token>) -> String {
    match token {
        Some(token) => format!("http://{address}/#token={}", token.reveal()),
        None => format!("http://{address}/"),
    }
}

impl Plane {
    /// Begins to observe, and listens where the options and the topology say.
    ///
    /// # Errors
    /// See [`PlaneError`].
    pub fn start(
        options: &PlaneOptions,
        topology: &Topology,
        system: &System,
    ) -> Result<Self, PlaneError> {
        let config = options.config(topology)?;
        let observer = SystemWatch::observe(system, topology);
        let event_file = match &options.event_file {
            Some(path) => Some(open_event_file(path, &observer)?),
            None => None,
        };
        let hooks = Hooks::spawn(hooks(topology), observer.recorder.subscribe())
            .map_err(PlaneError::Notify)?;
        let server = serve(&config, &observer, system)?;
        let address = server.as_ref().and_then(ControlServer::dashboard);
        let url = address.zip(config.dashboard.as_ref()).map(|(address, dashboard)| {
            url(address, options.token_file.is_none().then_some(&dashboard.token))
        });
        let token_file = options.token_file(topology).map(Path::to_owned);
        let slots = system.slots().to_vec();
        let (front_ends, guest_frames) = (FrontEndWatch::default(), GuestFrameWatch::default());
        Ok(Self {
            server,
            url,
            observer,
            slots,
            _event_file: event_file,
            hooks,
            token_file,
            front_ends,
            guest_frames,
        })
    }

    /// Where a browser finds the dashboard, with the token in it unless the command line names its
    /// file.
    pub fn url(&self) -> Option<&str> {
        self.url.as_deref()
    }

    /// Returns true if the system can be observed through a socket or an address.
    pub fn is_serving(&self) -> bool {
        self.server.is_some()
    }

    /// Records an event of the system, and publishes it.
    pub fn record(&self, event: &Event) {
        self.observer.recorder.record(system::received(&self.slots, event));
    }

    /// Records that the configuration files were read again, or why they could not be.
    pub fn record_reload(&self, result: &Result<Reloaded, String>) {
        self.observer.recorder.record(match result.clone() {
            Ok(Reloaded { applied, ignored }) => ReceivedEvent::Reloaded { applied, ignored },
            Err(reason) => ReceivedEvent::ReloadFailed { reason },
        });
    }

    /// Applies what can be changed at run time of a topology that was read again, and reads the token
    /// from its file again.
    ///
    /// # Errors
    /// The token file is of no use; nothing has changed.
    pub fn reload(&self, running: &mut Topology, new: &Topology) -> Result<Reloaded, PlaneError> {
        let mut reloaded = Reloaded::default();
        let token = self.token_file.as_ref().map(|file| Token::load(file)).transpose()?;
        if let (Some(server), Some(token)) = (&self.server, token) {
            server.set_token(token);
            reloaded.applied.push("token".into());
        }
        for key in reload::changed(running, new) {
            match &*key {
                "notify" => reloaded.applied.push(key),
                _ => reloaded.ignored.push(key),
            }
        }
        self.hooks.replace(hooks(new));
        running.notify.clone_from(&new.notify);
        Ok(reloaded)
    }

    /// Records an event for each socket at which more front-ends wait than before, for each new
    /// reason for which a guest's frames are dropped, and for addresses that guests come to have.
    pub fn watch_guests(&self) {
        let (apps, now) = (self.observer.view.apps(), Instant::now());
        let front_ends = self.front_ends.sample(&apps, now);
        for event in front_ends.into_iter().chain(self.guest_frames.sample(&apps, now)) {
            guest_frames::log(&event);
            self.observer.recorder.record(event);
        }
    }

    /// Returns true if one domain serves and another could take over.
    pub fn is_redundant(&self) -> bool {
        self.observer.is_redundant()
    }

    /// The state of the service in one line.
    pub fn service_state(&self) -> ServiceState {
        self.observer.service_state()
    }
}

//! Puts the control plane on a running system: watch, server, event file, from what the command
//! line and the topology ask for.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::actions::{Actions, SystemActions};
use super::door::{Token, TokenError};
use super::reload::{self, Reloaded};
use super::{ControlConfig, ControlError, ControlServer, DashboardConfig};
use crate::observe::event_file::EventFile;
use crate::observe::hooks::{Hook, Hooks};
use crate::observe::{Heard, Observer, SystemWatch, system};
use microvm::domain::DomainSlot;
use supervisor::topology::{NotifySpec, Topology};
use supervisor::{Event, System};

/// What the command line asks for.
#[derive(Clone, Debug, Default, Args)]
pub struct PlaneOptions {
    /// Control socket: HTTP on this Unix socket, for its owner only
    #[arg(long, value_name = "PATH")]
    pub api_socket: Option<PathBuf>,
    /// Serve the dashboard at this address; 127.0.0.1:8470, for instance
    #[arg(long, value_name = "ADDR")]
    pub dashboard: Option<SocketAddr>,
    /// File with the dashboard's token; by default one is made up and printed
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
    /// The token file is of no use.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Open to the network without a token that its users can know.
    #[error(
        "a dashboard at {0} can be reached from elsewhere: name a --token-file, or listen on \
         127.0.0.1"
    )]
    Open(SocketAddr),
    /// No random numbers.
    #[error("no token can be made up")]
    Random(#[source] io::Error),
    /// No thread for the programs that run on events.
    #[error("programs cannot be run on events")]
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

/// The control plane of a running system. Its parts end in the order in which they stand here.
pub struct Plane {
    server: Option<ControlServer>,
    url: Option<String>,
    observer: Observer,
    slots: Vec<Arc<DomainSlot>>,
    _event_file: Option<EventFile>,
    hooks: Hooks,
    token_file: Option<PathBuf>,
}

impl DashboardConfig {
    /// At an address, with the token of a file; without a file one is made up, which does where only
    /// this machine reaches it.
    ///
    /// # Errors
    /// The file holds no token, or there is none and other machines reach the address.
    pub fn new(listen: SocketAddr, token_file: Option<&Path>) -> Result<Self, PlaneError> {
        let token = match token_file {
            Some(file) => Token::load(file)?,
            None if !listen.ip().is_loopback() => return Err(PlaneError::Open(listen)),
            None => Token::random().map_err(PlaneError::Random)?,
        };
        Ok(Self { listen, token })
    }
}

impl PlaneOptions {
    /// What is to be listened on, and where a browser finds it.
    fn config(&self, topology: &Topology) -> Result<ControlConfig, PlaneError> {
        let spec = topology.dashboard.as_ref();
        let listen = self.dashboard.or(spec.map(|spec| spec.listen));
        let file = self.token_file.as_ref().or(spec.and_then(|spec| spec.token_file.as_ref()));
        let dashboard = match (listen, file) {
            (Some(address), file) => Some(DashboardConfig::new(address, file.map(|f| &**f))?),
            // Of no use, but if it is none, that is to be known now.
            (None, Some(file)) => Token::load(file).map(|_| None)?,
            (None, None) => None,
        };
        let dumps = topology.dumps.as_ref().map(|spec| spec.dir.clone());
        Ok(ControlConfig { socket: self.api_socket.clone(), dashboard, dumps })
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

impl Plane {
    /// Begins to watch, and listens where it is asked to.
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
            None => None,
            Some(path) => {
                let opened = EventFile::spawn(path, observer.recorder.subscribe());
                let failed = |source| PlaneError::EventFile { path: path.clone(), source };
                Some(opened.map_err(failed)?)
            }
        };
        let hooks = Hooks::spawn(hooks(topology), observer.recorder.subscribe())
            .map_err(PlaneError::Notify)?;
        let wanted = config.socket.is_some() || config.dashboard.is_some();
        let actions: Arc<dyn Actions> =
            Arc::new(SystemActions::new(system, config.socket.as_deref()));
        let server = match wanted {
            true => Some(ControlServer::spawn(&config, observer.clone(), actions)?),
            false => None,
        };
        let url = match (server.as_ref().and_then(ControlServer::dashboard), &config.dashboard) {
            (Some(address), Some(dashboard)) if options.token_file.is_none() => {
                Some(format!("http://{address}/#token={}", dashboard.token.reveal()))
            }
            (Some(address), _) => Some(format!("http://{address}/")),
            (None, _) => None,
        };
        let slots = system.slots().to_vec();
        let spec = topology.dashboard.as_ref();
        let token_file =
            options.token_file.clone().or(spec.and_then(|spec| spec.token_file.clone()));
        Ok(Self { server, url, observer, slots, _event_file: event_file, hooks, token_file })
    }

    /// Where a browser finds the dashboard; with the token, if that was made up.
    pub fn url(&self) -> Option<&str> {
        self.url.as_deref()
    }

    /// Whether anybody can look.
    pub fn is_serving(&self) -> bool {
        self.server.is_some()
    }

    /// Enters an event into the books.
    pub fn hear(&self, event: &Event) {
        self.observer.recorder.hear(system::heard(&self.slots, event));
    }

    /// Enters into the books that files were read again, or why not.
    pub fn hear_reload(&self, result: &Result<Reloaded, String>) {
        self.observer.recorder.hear(match result.clone() {
            Ok(Reloaded { applied, ignored }) => Heard::Reloaded { applied, ignored },
            Err(reason) => Heard::ReloadFailed { reason },
        });
    }

    /// Takes what can be taken from a topology that was read again, and the token from its file.
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

    /// Whether one domain serves and another could take over.
    pub fn is_redundant(&self) -> bool {
        self.observer.is_redundant()
    }
}

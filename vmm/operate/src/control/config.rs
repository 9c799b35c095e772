//! Where the control plane listens, and why it cannot begin.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::token::{Token, TokenError};

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
    /// The operating system refuses a thread or what its runtime needs.
    #[error("the control thread cannot be started")]
    Thread(#[source] io::Error),
}

/// Why an address cannot be served to browsers.
#[derive(Debug, thiserror::Error)]
pub enum DashboardError {
    /// The token file is of no use.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The address is open to the network, and its users have no way to know the token.
    #[error(
        "a dashboard at {0} can be reached from elsewhere: name a --token-file, or listen on \
         127.0.0.1"
    )]
    Open(SocketAddr),
    /// There are no random numbers.
    #[error("no token can be generated")]
    Random(#[source] io::Error),
}

/// Where the dashboard listens.
#[derive(Clone, Debug)]
pub struct DashboardConfig {
    /// Its address; with port 0, the operating system chooses one.
    pub(super) listen: SocketAddr,
    /// The token that allows changes, and beyond loopback everything.
    pub(super) token: Token,
    /// Host names that a proxy may hand on.
    pub(super) hosts: Vec<String>,
}

impl DashboardConfig {
    /// A dashboard at this address, with the token of a file. Without a file, a token is generated,
    /// which is allowed only where no other machine reaches the address.
    ///
    /// # Errors
    /// See [`DashboardError`].
    pub fn new(listen: SocketAddr, token_file: Option<&Path>) -> Result<Self, DashboardError> {
        let token = match token_file {
            Some(file) => Token::load(file)?,
            None if !listen.ip().is_loopback() => return Err(DashboardError::Open(listen)),
            None => Token::random().map_err(DashboardError::Random)?,
        };
        Ok(Self { listen, token, hosts: Vec::new() })
    }

    /// The same, where a proxy may ask under these host names.
    #[must_use]
    pub fn with_hosts(self, hosts: Vec<String>) -> Self {
        Self { hosts, ..self }
    }
}

/// What the control server listens on.
#[derive(Clone, Debug, Default)]
pub(super) struct ControlConfig {
    /// The Unix socket.
    pub(super) socket: Option<PathBuf>,
    /// The dashboard.
    pub(super) dashboard: Option<DashboardConfig>,
    /// Folder with the dumps of failed domains, to be served.
    pub(super) dumps: Option<PathBuf>,
    /// Most connections of each of the two at a time.
    pub(super) connections: usize,
}

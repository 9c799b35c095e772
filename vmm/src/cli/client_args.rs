//! What all commands have in common that ask a running warmspare through its control socket.

use std::path::PathBuf;

use clap::Args;

use super::exit::Failure;
use operate::control::client::{Client, ClientError};

/// Where a packaged service has its control socket.
const DEFAULT_SOCKET: &str = "/run/warmspare/api.sock";

#[derive(Debug, Args)]
pub(super) struct ClientArgs {
    /// Control socket of a running warmspare, as given to its `--api-socket`
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    api_socket: PathBuf,
}

impl ClientArgs {
    /// A client of this control socket.
    pub(super) fn client(&self) -> Client {
        Client::new(&self.api_socket)
    }
}

/// A refused request or a missing warmspare is the user's to mend; a broken connection is not.
pub(super) fn client_failure(error: &ClientError) -> Failure {
    match error {
        ClientError::Connect { .. } | ClientError::Refused(_) => Failure::mistake(error),
        ClientError::Broken(_) | ClientError::Foreign(_) => Failure::run(error),
    }
}

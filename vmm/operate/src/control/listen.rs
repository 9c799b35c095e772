//! Listening sockets, and the loop that accepts connections from one.

use std::fs::{File, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixSocket};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::config::ControlError;
use platform::socket_file::{SocketFile, remove_stale};

/// Time for the head of a request to arrive.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// Most bytes of a request's head, and of what is read ahead on a connection.
const BUFFER_BYTES: usize = 16 << 10;
/// Most connections of one socket at a time. Streams stay open, so this also bounds subscribers.
const MAX_CONNECTIONS: usize = 512;
/// Connections that wait to be accepted.
const BACKLOG: u32 = 128;
/// Pause after a connection could not be accepted, for want of a descriptor for instance.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A Unix socket that only its owner may use. Its file is removed with it.
#[derive(Debug)]
pub(super) struct LocalSocket {
    file: SocketFile,
    listener: UnixListener,
}

impl LocalSocket {
    /// Binds the socket, and replaces the file that a dead process left there. Needs the runtime's
    /// context.
    pub(super) fn bind(path: &Path) -> Result<Self, ControlError> {
        let failed = |source| ControlError::Socket { path: path.to_owned(), source };
        remove_stale(path).map_err(failed)?;
        let bind = || {
            let socket = UnixSocket::new_stream()?;
            // The file gets the mode of the socket, so there is no moment in which others may
            // connect.
            let file = File::from(socket.as_fd().try_clone_to_owned()?);
            file.set_permissions(Permissions::from_mode(0o600))?;
            socket.bind(path)?;
            Ok(Self { file: SocketFile::bound_at(path)?, listener: socket.listen(BACKLOG)? })
        };
        bind().map_err(failed)
    }

    /// Serves its connections until the runtime ends.
    pub(super) fn serve(self, router: Router) -> SocketFile {
        let Self { listener, file } = self;
        tokio::spawn(async move {
            let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
            loop {
                let accepted = listener.accept().await.map(|(stream, _)| stream);
                serve_accepted(accepted, &room, &router).await;
            }
        });
        file
    }
}

/// Binds the dashboard's address. Needs the runtime's context.
pub(super) fn bind_network(address: SocketAddr) -> Result<TcpListener, ControlError> {
    let bind = || {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    };
    bind().map_err(|source| ControlError::Address { address, source })
}

/// Serves the dashboard's connections until the runtime ends.
pub(super) fn serve_network(listener: TcpListener, router: Router) {
    tokio::spawn(async move {
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let accepted = listener.accept().await.map(|(stream, _)| stream);
            serve_accepted(accepted, &room, &router).await;
        }
    });
}

/// Serves an accepted connection on a task of its own, or closes it if there are too many.
async fn serve_accepted<S>(accepted: io::Result<S>, room: &Arc<Semaphore>, router: &Router)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    match (accepted, room.clone().try_acquire_owned()) {
        (Ok(stream), Ok(permit)) => {
            tokio::spawn(serve_connection(stream, router.clone(), permit));
        }
        (Ok(_), Err(_)) => tracing::warn!("too many connections: one was closed"),
        (Err(error), _) => {
            tracing::warn!(%error, "a connection cannot be accepted");
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }
}

async fn serve_connection<S>(stream: S, router: Router, permit: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection ended early");
    }
    drop(permit);
}

//! Listening sockets, and the loop that accepts connections from one.

use std::fs::{File, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use axum::Router;
use axum::body::HttpBody;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixSocket};

use super::config::ControlError;
use super::connections::{Connections, Phase, PhaseCell};
use platform::socket_file::{SocketFile, remove_stale};

/// Time for the head of a request to arrive.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// Most bytes of a request's head, and of what is read ahead on a connection.
const BUFFER_BYTES: usize = 16 << 10;
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
    pub(super) fn serve(self, router: Router, most: usize) -> SocketFile {
        let Self { listener, file } = self;
        tokio::spawn(async move {
            let connections = Connections::new(most);
            loop {
                let accepted = listener.accept().await.map(|(stream, _)| stream);
                serve_accepted(accepted, &connections, &router).await;
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
pub(super) fn serve_network(listener: TcpListener, router: Router, most: usize) {
    tokio::spawn(async move {
        let connections = Connections::new(most);
        loop {
            let accepted = listener.accept().await.map(|(stream, _)| stream);
            serve_accepted(accepted, &connections, &router).await;
        }
    });
}

/// Serves an accepted connection on a task of its own, in place of an idle one if there are too many.
async fn serve_accepted<S>(accepted: io::Result<S>, connections: &Connections, router: &Router)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    match accepted {
        Ok(stream) => {
            if connections.make_room() {
                let phase = PhaseCell::default();
                let task = tokio::spawn(serve_connection(stream, router.clone(), phase.clone()));
                connections.add(phase, task.abort_handle());
            }
        }
        Err(error) => {
            connections.tell_refused(&error);
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }
}

async fn serve_connection<S>(stream: S, router: Router, phase: PhaseCell)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let router = TowerToHyperService::new(router);
    let service = service_fn(|request: Request<Incoming>| {
        phase.set(Phase::Busy);
        let (answer, phase) = (router.call(request), phase.clone());
        async move {
            let answer = answer.await;
            let is_whole = answer.as_ref().is_ok_and(|it| it.body().size_hint().exact().is_some());
            phase.set(if is_whole { Phase::Idle } else { Phase::Streaming });
            answer
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection ended early");
    }
}

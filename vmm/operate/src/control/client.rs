//! A client of the control socket, for the command line. It speaks HTTP/1.0, so an answer ends with
//! its connection and has no chunks to decode.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{ApiError, ErrorBody};

/// Time for the server to answer. A switch takes some milliseconds, an upgrade builds some domains.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);
/// Most bytes that are read of an answer that does not stream.
const ANSWER_BYTES: u64 = 16 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No process listens there, or this process may not connect.
    #[error(
        "{}: no warmspare answers there ({source}): name the --api-socket of a running one",
        path.display()
    )]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The connection broke.
    #[error("the connection to warmspare broke")]
    Broken(#[source] io::Error),
    /// The answer is not one of this API.
    #[error("the answer is not one of warmspare: {0}")]
    Foreign(String),
    /// The server refuses the request.
    #[error(transparent)]
    Refused(ApiError),
}

/// The control socket of a running warmspare.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client of the socket at this path. Each request is a connection of its own.
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// Requests a value.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        parse(&self.text(path)?)
    }

    /// Requests a text.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn text(&self, path: &str) -> Result<String, ClientError> {
        read_all(self.request("GET", path, "", ANSWER_DEADLINE)?)
    }

    /// Requests an operation.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        self.post_for(path, body, Duration::ZERO)
    }

    /// Like [`Self::post`], for an operation that itself takes as long as `takes`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn post_for<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        takes: Duration,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_string(body).map_err(|e| ClientError::Broken(e.into()))?;
        parse(&read_all(self.request("POST", path, &body, ANSWER_DEADLINE + takes)?)?)
    }

    /// The lines of a stream as they arrive, without a deadline.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn lines(
        &self,
        path: &str,
    ) -> Result<impl Iterator<Item = io::Result<String>> + use<>, ClientError> {
        let answer = self.request("GET", path, "", ANSWER_DEADLINE)?;
        answer.get_ref().set_read_timeout(None).map_err(ClientError::Broken)?;
        Ok(answer.lines())
    }

    /// Sends a request and reads the head of its answer.
    fn request(
        &self,
        method: &str,
        path: &str,
        body: &str,
        deadline: Duration,
    ) -> Result<BufReader<UnixStream>, ClientError> {
        let mut stream = UnixStream::connect(&self.socket)
            .map_err(|source| ClientError::Connect { path: self.socket.clone(), source })?;
        let request = format!(
            "{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let limited = stream.set_read_timeout(Some(deadline));
        limited.and_then(|()| stream.write_all(request.as_bytes())).map_err(ClientError::Broken)?;
        let mut answer = BufReader::new(stream);
        match read_status(&mut answer)? {
            200 => Ok(answer),
            status => Err(refusal(status, answer)),
        }
    }
}

/// Reads the head of an answer and returns the status.
fn read_status(answer: &mut impl BufRead) -> Result<u16, ClientError> {
    let mut line = || {
        let mut line = String::new();
        answer.by_ref().take(8192).read_line(&mut line).map_err(ClientError::Broken)?;
        Ok::<_, ClientError>(line)
    };
    let first = line()?;
    let status =
        first.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1)?.parse().ok());
    while !line()?.trim_end().is_empty() {}
    status.ok_or_else(|| ClientError::Foreign(first.trim_end().to_owned()))
}

fn read_all(answer: BufReader<UnixStream>) -> Result<String, ClientError> {
    let mut text = String::new();
    answer.take(ANSWER_BYTES).read_to_string(&mut text).map_err(ClientError::Broken)?;
    Ok(text)
}

fn refusal(status: u16, answer: BufReader<UnixStream>) -> ClientError {
    match read_all(answer).and_then(|text| parse::<ErrorBody>(&text)) {
        Ok(body) => ClientError::Refused(body.error),
        Err(_) => ClientError::Foreign(format!("status {status}")),
    }
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, ClientError> {
    serde_json::from_str(text).map_err(|error| ClientError::Foreign(error.to_string()))
}

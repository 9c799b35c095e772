//! The other way round: the VMM listens, and this side connects (what OVS and libvirt call client
//! mode). A VMM that is not there yet, or not any more, is tried again for as long as it takes.

use std::io::{self, ErrorKind};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Instant;

use platform::budget::CONNECT_RETRY;
use platform::socket_file::connect_at_once;

/// Connects to the socket of a VMM, again and again.
#[derive(Debug)]
pub(super) struct Dialer {
    path: PathBuf,
    /// When to try next.
    due: Instant,
    /// Why the last attempt failed, which was told.
    told: Option<ErrorKind>,
}

impl Dialer {
    /// Tries at once for the first time.
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, due: Instant::now(), told: None }
    }

    /// When to try next.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Tries, if it is time to. Never waits. Tells why it fails when that changes.
    pub(super) fn dial(&mut self) -> Option<UnixStream> {
        let now = Instant::now();
        if now < self.due {
            return None;
        }
        self.due = now + CONNECT_RETRY;
        match connect_at_once(&self.path) {
            Ok(stream) => {
                self.told = None;
                Some(stream)
            }
            Err(error) => {
                self.tell(&error);
                None
            }
        }
    }

    fn tell(&mut self, error: &io::Error) {
        let before = self.told.replace(error.kind());
        if before == Some(error.kind()) {
            return;
        }
        let socket = self.path.display();
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::WouldBlock => {
                // These alternate while a VMM restarts.
                if before.is_none_or(is_lasting) {
                    tracing::info!(%socket, "waits for the VMM that listens on this socket");
                }
            }
            _ => tracing::warn!(
                %socket,
                %error,
                "the VMM's socket cannot be connected to, and is tried again: let the user that \
                 runs warmspare open it"
            ),
        }
    }
}

/// Returns true unless the error is what a VMM that restarts causes.
fn is_lasting(kind: ErrorKind) -> bool {
    use ErrorKind as E;
    !matches!(kind, E::NotFound | E::ConnectionRefused | E::WouldBlock)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    fn path(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("warmspare-{name}-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        path
    }

    #[test]
    fn it_tries_again_but_not_at_once_and_connects_when_somebody_listens() {
        let path = path("dial");
        let mut dialer = Dialer::new(path.clone());
        assert!(dialer.dial().is_none(), "nobody is there");
        let _listener = UnixListener::bind(&path).unwrap();
        assert!(dialer.dial().is_none(), "not before its time");
        std::thread::sleep(CONNECT_RETRY);
        assert!(dialer.dial().is_some());
        std::fs::remove_file(&path).unwrap();
    }
}

//! The other way round: the VMM listens, and this side connects (what OVS and libvirt call client
//! mode). A VMM that is not there yet, or not any more, is tried again for as long as it takes.

use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Instant;

use platform::budget::CONNECT_RETRY;

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
        match connect(&self.path) {
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

/// Connects without waiting, which the standard library's call does while the queue of the listener
/// is full.
fn connect(path: &Path) -> io::Result<UnixStream> {
    // SAFETY: all zeroes are a valid address.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    let bytes = path.as_os_str().as_bytes();
    if bytes.len() >= address.sun_path.len() || bytes.contains(&0) {
        return Err(ErrorKind::InvalidInput.into());
    }
    for (to, from) in address.sun_path.iter_mut().zip(bytes) {
        *to = *from as libc::c_char;
    }
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: plain integers.
    let fd = unsafe { libc::socket(libc::AF_UNIX, kind, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a fresh descriptor that nothing else owns.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: an open socket, and an address of the length that is said, which outlives the call.
    let result = unsafe { libc::connect(fd.as_raw_fd(), (&raw const address).cast(), length) };
    match result {
        0 => Ok(fd.into()),
        _ => Err(io::Error::last_os_error()),
    }
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

    #[test]
    fn a_full_listener_and_an_impossible_path_hold_nobody_up() {
        let path = path("full");
        let listener = UnixListener::bind(&path).unwrap();
        // SAFETY: plain integers and an open socket, whose queue gets room for one.
        assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
        let _waits = connect(&path).unwrap();
        assert_eq!(connect(&path).unwrap_err().kind(), ErrorKind::WouldBlock);
        let long = PathBuf::from("x".repeat(200));
        assert_eq!(connect(&long).unwrap_err().kind(), ErrorKind::InvalidInput);
        std::fs::remove_file(&path).unwrap();
    }
}

//! The socket that front-ends connect to.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Why a socket path cannot be used. Each says how to mend it.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// `sockaddr_un` has room for 108 bytes, one of them a zero.
    #[error("socket path {path:?} has {bytes} bytes: choose one of at most {MAX_PATH_BYTES}")]
    TooLong {
        /// The path.
        path: PathBuf,
        /// Its length.
        bytes: usize,
    },
    /// An empty path, or one with a zero byte.
    #[error("socket path {path:?} is no path: give the name of a file to be created")]
    NoPath {
        /// The path.
        path: PathBuf,
    },
    /// Something that is not a socket has this name.
    #[error("{path:?} exists and is not a socket: remove it or choose another path")]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// Somebody is listening there.
    #[error("{path:?} is in use by another process: stop it or choose another path")]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// The directory does not exist.
    #[error("the directory of socket {path:?} does not exist: create it or choose another path")]
    NoDirectory {
        /// The path.
        path: PathBuf,
    },
    /// The operating system refuses.
    #[error(
        "cannot listen on {path:?} ({source}): choose a path in a directory that you may write to"
    )]
    System {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Longest path of a socket, bytes.
const MAX_PATH_BYTES: usize = 107;

/// Connections that may wait while one is served.
const BACKLOG: i32 = 8;

/// A listening socket; its file goes with it.
#[derive(Debug)]
pub(super) struct Listener {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the file, so that a successor's is not removed.
    identity: (u64, u64),
}

impl Listener {
    /// Listens on `path`, for the owner only. A file that a dead process left is replaced.
    pub(super) fn bind(path: &Path) -> Result<Self, SocketError> {
        let bytes = path.as_os_str().as_bytes();
        if bytes.is_empty() || bytes.contains(&0) {
            return Err(SocketError::NoPath { path: path.to_owned() });
        }
        if bytes.len() > MAX_PATH_BYTES {
            return Err(SocketError::TooLong { path: path.to_owned(), bytes: bytes.len() });
        }
        make_room(path)?;
        let system = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => SocketError::NoDirectory { path: path.to_owned() },
            io::ErrorKind::AddrInUse => SocketError::InUse { path: path.to_owned() },
            _ => SocketError::System { path: path.to_owned(), source },
        };
        let listener = bind_private(bytes).map_err(system)?;
        let metadata = std::fs::symlink_metadata(path).map_err(system)?;
        let identity = (metadata.dev(), metadata.ino());
        Ok(Self { listener, path: path.to_owned(), identity })
    }

    /// The next front-end, if one waits.
    pub(super) fn accept(&self) -> io::Result<Option<UnixStream>> {
        match self.listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(true)?;
                Ok(Some(stream))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.listener.as_raw_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let ours = std::fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.identity);
        if ours && let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!("cannot remove {:?}: {error}", self.path);
        }
    }
}

/// Removes a socket on which nobody listens any more.
fn make_room(path: &Path) -> Result<(), SocketError> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        return Err(SocketError::NotASocket { path: path.to_owned() });
    }
    match connect(path.as_os_str().as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            let system = |source| SocketError::System { path: path.to_owned(), source };
            std::fs::remove_file(path).map_err(system)
        }
        // Connected, its queue full, or not permitted to: somebody's.
        Ok(()) | Err(_) => Err(SocketError::InUse { path: path.to_owned() }),
    }
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn socket(flags: i32) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | flags;
    // SAFETY: plain integers; the result is checked.
    let fd = check(unsafe { libc::socket(libc::AF_UNIX, kind, 0) })?;
    // SAFETY: a fresh descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The address of a path that fits with a zero byte behind it, and its length.
fn address(path: &[u8]) -> (libc::sockaddr_un, libc::socklen_t) {
    // SAFETY: an all-zero address is valid.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    for (to, from) in address.sun_path.iter_mut().zip(path) {
        *to = *from as libc::c_char;
    }
    (address, size_of::<libc::sockaddr_un>() as libc::socklen_t)
}

/// Tries to connect, without waiting for a place in the listener's queue.
fn connect(path: &[u8]) -> io::Result<()> {
    let socket = socket(libc::SOCK_NONBLOCK)?;
    let (address, len) = address(path);
    let address = std::ptr::from_ref(&address).cast();
    // SAFETY: an open descriptor, and an address that outlives the call.
    check(unsafe { libc::connect(socket.as_raw_fd(), address, len) }).map(drop)
}

/// A socket whose file is the owner's only from its first moment: the mode is set before bind(2),
/// which creates the file with it.
fn bind_private(path: &[u8]) -> io::Result<UnixListener> {
    let socket = socket(libc::SOCK_NONBLOCK)?;
    let fd = socket.as_raw_fd();
    let (address, len) = address(path);
    // SAFETY: an open descriptor, and an address that outlives the calls.
    unsafe {
        check(libc::fchmod(fd, 0o600))?;
        check(libc::bind(fd, std::ptr::from_ref(&address).cast(), len))?;
        check(libc::listen(fd, BACKLOG))?;
    }
    Ok(UnixListener::from(socket))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("warmspare-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn a_socket_is_the_owners_and_its_file_goes_with_it() {
        let path = directory("owner").join("s");
        let listener = Listener::bind(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(Listener::bind(&path), Err(SocketError::InUse { .. })));
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn a_file_left_by_a_dead_process_is_replaced_and_a_successors_is_kept() {
        let path = directory("stale").join("s");
        drop(UnixListener::bind(&path).unwrap()); // the file stays
        let first = Listener::bind(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let second = Listener::bind(&path).unwrap();
        drop(first);
        assert!(path.exists());
        drop(second);
        assert!(!path.exists());
    }

    #[test]
    fn an_unusable_path_says_why() {
        let dir = directory("bad");
        let file = dir.join("file");
        std::fs::write(&file, "x").unwrap();
        assert!(matches!(Listener::bind(&file), Err(SocketError::NotASocket { .. })));
        let nowhere = dir.join("no/such/s");
        assert!(matches!(Listener::bind(&nowhere), Err(SocketError::NoDirectory { .. })));
        let long = dir.join("x".repeat(200));
        assert!(matches!(Listener::bind(&long), Err(SocketError::TooLong { .. })));
        assert!(matches!(Listener::bind(Path::new("")), Err(SocketError::NoPath { .. })));
        assert!(matches!(Listener::bind(&file.join("s")), Err(SocketError::System { .. })));
        assert_eq!(std::fs::read(&file).unwrap(), b"x");
    }
}

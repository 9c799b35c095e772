//! The file of a listening Unix socket: whose it is, and who listens there.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

/// The file of a socket that this process has bound. Dropped, it removes the file, unless another
/// program has put a file of its own into that place.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Keeps the file's number from being given to another one.
    own: File,
}

impl SocketFile {
    /// The file that was bound at this path a moment ago.
    ///
    /// # Errors
    /// It is not there any more.
    pub fn bound_at(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW);
        Ok(Self { path: path.to_owned(), own: options.open(path)? })
    }

    fn is_own(&self) -> bool {
        let number = |it: Metadata| (it.dev(), it.ino());
        match (self.own.metadata(), self.path.symlink_metadata()) {
            (Ok(own), Ok(there)) => number(own) == number(there),
            _ => false,
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_own() {
            // An error means that somebody has removed it meanwhile.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Removes the file of a socket that no process listens on any more.
///
/// # Errors
/// A process does, or the file is something else, or it cannot be removed.
pub fn remove_stale(path: &Path) -> io::Result<()> {
    let Ok(metadata) = path.symlink_metadata() else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "it exists and is not a socket"));
    }
    match connect_at_once(path) {
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => std::fs::remove_file(path),
        _ => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there")),
    }
}

/// Connects without waiting, which the standard library's call does for as long as the listener's
/// queue is full. The stream is in non-blocking mode.
///
/// # Errors
/// Nobody listens there, or the queue is full (`WouldBlock`), or the path is impossible.
pub fn connect_at_once(path: &Path) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(OwnedFd::from(socket).into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn only_the_own_file_is_removed() {
        let path = std::env::temp_dir().join(format!("warmspare-own-{}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let file = SocketFile::bound_at(&path).unwrap();
        drop(file);
        assert!(!path.exists(), "its own file is left");

        let other = UnixListener::bind(&path).unwrap();
        let file = SocketFile::bound_at(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        drop((listener, other));
        let successor = UnixListener::bind(&path).unwrap();
        drop(file);
        assert!(path.exists(), "another program's file was removed");
        assert!(remove_stale(&path).is_err(), "it is not stale");
        drop(successor);
        remove_stale(&path).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_full_listener_and_an_impossible_path_hold_nobody_up() {
        let path = std::env::temp_dir().join(format!("warmspare-full-{}", std::process::id()));
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        listener.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        listener.listen(0).unwrap();
        let _waits = connect_at_once(&path).unwrap();
        assert_eq!(connect_at_once(&path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert!(remove_stale(&path).is_err(), "it is not stale");
        assert!(connect_at_once(Path::new(&"x".repeat(200))).is_err());
        std::fs::remove_file(&path).unwrap();
    }
}

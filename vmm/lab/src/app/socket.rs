//! Connects to a Unix socket without waiting.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::error::ConnectionError;

/// Connects without waiting: a back-end whose backlog is full counts as absent.
pub(super) fn connect(path: &Path) -> Result<UnixStream, ConnectionError> {
    let bytes = path.as_os_str().as_bytes();
    // SAFETY: all-zero bytes are a valid address of no family.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    if bytes.len() >= address.sun_path.len() {
        return Err(ConnectionError::PathTooLong);
    }
    for (to, from) in address.sun_path.iter_mut().zip(bytes) {
        *to = *from as libc::c_char;
    }
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: plain integers; the result is checked.
    let socket = unsafe { libc::socket(libc::AF_UNIX, kind, 0) };
    if socket < 0 {
        return Err(ConnectionError::System(io::Error::last_os_error()));
    }
    // SAFETY: a fresh descriptor that nothing else owns.
    let socket = UnixStream::from(unsafe { OwnedFd::from_raw_fd(socket) });
    let len = size_of::<libc::sockaddr_un>() as libc::socklen_t;
    // SAFETY: `address` is a socket address of that many bytes.
    if unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), len) } != 0 {
        return Err(ConnectionError::Connect(io::Error::last_os_error()));
    }
    socket.set_nonblocking(false).map_err(ConnectionError::System)?;
    Ok(socket)
}

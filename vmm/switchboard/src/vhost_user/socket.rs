//! The listening socket and its file.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use super::error::VhostUserError;

/// A listening socket whose file goes when it goes.
pub(super) struct Socket {
    pub(super) listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Listens on `path`, in place of a file that a dead program left there.
    pub(super) fn bind(path: &Path) -> Result<Self, VhostUserError> {
        let bind = || UnixListener::bind(path);
        let failed = |source| VhostUserError::Bind { path: path.to_owned(), source };
        let listener = match bind() {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                if UnixStream::connect(path).is_ok() {
                    return Err(VhostUserError::InUse(path.to_owned()));
                }
                std::fs::remove_file(path).map_err(failed)?;
                bind()
            }
            other => other,
        };
        let listener = listener.map_err(failed)?;
        // Who may connect gets at the network: the owner only.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(Self { listener, path: path.to_owned() })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Somebody may have removed it already.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_file_is_replaced_and_a_live_socket_is_not() {
        let path = std::env::temp_dir().join(format!("warmspare-bind-{}", std::process::id()));
        drop(UnixListener::bind(&path).unwrap());
        let socket = Socket::bind(&path).unwrap();
        assert!(matches!(Socket::bind(&path), Err(VhostUserError::InUse(_))));
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        drop(socket);
        assert!(!path.exists());
    }
}

//! The listening socket and its file.

use std::fs::Permissions;
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt, lchown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use super::error::VhostUserError;
use platform::socket_file::SocketFile;

/// Whose the socket is, and who may connect. Whoever connects gets at the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketRights {
    /// The user that it is given to; left as it is if `None`.
    pub owner: Option<u32>,
    /// The group that it is given to; left as it is if `None`.
    pub group: Option<u32>,
    /// Its permissions.
    pub mode: u32,
}

impl SocketRights {
    /// For the user that runs this process only.
    pub const OWNER_ONLY: Self = Self { owner: None, group: None, mode: 0o600 };
}

/// A listening socket whose file goes when it goes.
pub(super) struct Socket {
    pub(super) listener: UnixListener,
    _file: SocketFile,
}

impl Socket {
    /// Listens on `path`, in place of a file that a dead program left there.
    pub(super) fn bind(path: &Path, rights: SocketRights) -> Result<Self, VhostUserError> {
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
        let file = SocketFile::bound_at(path).map_err(failed)?;
        give(path, rights)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(Self { listener, _file: file })
    }
}

/// Sets the rights. The owner comes last: from then on he may put a link into the file's place, which
/// a change of its mode would follow.
fn give(path: &Path, rights: SocketRights) -> Result<(), VhostUserError> {
    let SocketRights { owner, group, mode } = rights;
    let failed = |source| VhostUserError::Rights { path: path.to_owned(), source };
    std::fs::set_permissions(path, Permissions::from_mode(mode)).map_err(failed)?;
    match (owner, group) {
        (None, None) => Ok(()),
        _ => lchown(path, owner, group).map_err(failed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> std::path::PathBuf {
        std::env::temp_dir().join(format!("warmspare-{name}-{}", std::process::id()))
    }

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_stale_file_is_replaced_and_a_live_socket_is_not() {
        let path = path("bind");
        drop(UnixListener::bind(&path).unwrap());
        let socket = Socket::bind(&path, SocketRights::OWNER_ONLY).unwrap();
        let again = Socket::bind(&path, SocketRights::OWNER_ONLY);
        assert!(matches!(again, Err(VhostUserError::InUse(_))));
        assert_eq!(mode(&path), 0o600);
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn a_socket_gets_the_rights_that_are_wanted() {
        use std::os::unix::fs::MetadataExt;
        let path = path("rights");
        let group = Path::new("/proc/self").metadata().unwrap().gid();
        let rights = SocketRights { owner: None, group: Some(group), mode: 0o660 };
        let socket = Socket::bind(&path, rights).unwrap();
        assert_eq!((mode(&path), path.metadata().unwrap().gid()), (0o660, group));
        drop(socket);
        assert!(!path.exists());
    }
}

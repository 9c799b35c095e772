//! Why a socket cannot be served.

use std::path::PathBuf;

/// Why a socket cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum VhostUserError {
    /// Another program listens on it.
    #[error("{}: another program listens on this socket: choose another path, or, if it is the guest's VMM, connect to it by \"socket\": {{\"connect\": PATH}}", .0.display())]
    InUse(PathBuf),
    /// It cannot be made.
    #[error("{}: the socket cannot be made: choose a path in a folder that you may write to", path.display())]
    Bind {
        /// The path.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It cannot be given to the user or group that is wanted.
    #[error(
        "{}: the socket cannot be given the owner, group and mode of the topology: run as root or \
         with CAP_CHOWN, or as a member of that group",
        path.display()
    )]
    Rights {
        /// The path.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// No thread or descriptors.
    #[error("the vhost-user thread cannot be started")]
    Start(#[source] std::io::Error),
}

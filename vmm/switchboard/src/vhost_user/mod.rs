//! The vhost-user socket of an application guest: its front-end connects here.
//!
//! A connection layer of our own over the message shapes of the `vhost` crate. The stock request
//! handler (and `vhost-user-backend`, which is built on it) cannot be used here: it ends the
//! connection when `SET_VRING_ENABLE` comes before `SET_FEATURES`, as QEMU sends it; a daemon serves
//! one connection in its life; and rings are served by its own threads under locks, where here one
//! thread, the switchboard, serves them all. What remains is small:
//!
//! - [`message`]: one message at a time from a non-blocking socket, bounded in size and time, with
//!   its descriptors ([`ancillary`]);
//! - [`session`]: what a front-end has said so far, and the rings that follow from it;
//! - [`server`]: the thread that listens, and holds one connection at a time.
//!
//! Nothing a front-end sends is trusted. A message without sense ends that connection, with one log
//! line; the next one begins from nothing.

mod ancillary;
mod message;
mod request;
mod server;
mod session;
mod socket;

pub use server::{VhostUserConfig, VhostUserServer};

use std::path::PathBuf;

/// Why a socket cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum VhostUserError {
    /// Somebody listens on it.
    #[error("{}: another program listens on this socket: choose another path", .0.display())]
    InUse(PathBuf),
    /// It cannot be made.
    #[error("{}: the socket cannot be made: choose a path in a folder that you may write to", path.display())]
    Bind {
        /// The path.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// No thread or descriptors.
    #[error("the vhost-user thread cannot be started")]
    Start(#[source] std::io::Error),
}

//! The vhost-user socket of an application guest: its front-end connects here.
//!
//! A connection layer of our own over the message shapes of the `vhost` crate. The stock request
//! handler (and `vhost-user-backend`, which is built on it) cannot be used here: it ends the
//! connection when `SET_VRING_ENABLE` comes before `SET_FEATURES`, as QEMU sends it; a daemon
//! serves one connection in its life; and it serves rings by threads of its own under locks, where
//! here one thread, the switchboard, serves them all. What remains is small:
//!
//! - [`message`]: one message at a time from a non-blocking socket, bounded in size and time, with
//!   its descriptors ([`ancillary`]);
//! - [`session`]: what a front-end has said so far, and the rings that follow from it;
//! - [`server`]: the thread that listens, or connects to a VMM that does ([`dialer`]), and holds one
//!   connection at a time; [`waiting`] has those whose turn comes later.
//!
//! Nothing a front-end sends is trusted. A message without sense ends that connection, with one log
//! line; the next one begins from nothing.

mod ancillary;
mod dialer;
mod error;
mod message;
mod pace;
mod peer;
mod request;
mod server;
mod session;
mod socket;
mod sources;
mod waiting;

pub use self::error::VhostUserError;
pub use self::server::{SocketConfig, VhostUserConfig, VhostUserServer};
pub use self::socket::SocketRights;

//! `warmspare app`: the built-in application guest, a small VMM in a process of its own.
//!
//! ```text
//!  guest (CPL 3): smoltcp ─ virtio-drivers ─┬─ registers (exits, at set-up) ──► mmio ──┐
//!                                           ├─ QueueNotify (ioeventfd) ─► kick ─────┐  ▼
//!                                           ├─ WAIT ◄─ ppoll ◄─ call ◄──────────┐   │ line ─ link
//!                                           └─ virtqueues, buffers (memfd) ◄──► vhost-user back-end
//! ```
//!
//! It knows nothing of driver domains: the back-end is whatever answers at the socket, and may go
//! away and come back while the guest runs on.
//!
//! ```text
//!  run ─▶ guest ─▶ machine ─▶ reconnect ─▶ connection ─▶ deadline, socket
//!             └──▶ integrity      └──────────▶ mmio
//! ```

mod config;
mod connection;
mod deadline;
mod error;
mod guest;
mod guest_pages;
mod integrity;
mod machine;
mod mmio;
mod reconnect;
mod run;
mod socket;

pub use config::{AppConfig, Ipv4Cidr, StationMac};
pub use error::AppError;
pub use guest::{App, AppReport};
pub use run::run;

#[cfg(test)]
mod tests;

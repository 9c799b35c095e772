//! The control plane: one HTTP server on a thread of normal priority, with two listeners.
//!
//! ```text
//!  Unix socket ─┐                            ┌─▶ read handlers: Observer (state, metrics, events)
//!               ├─ access control ─ routes ──┤
//!  dashboard ───┘                            └─▶ action handlers: Actions (switch, drill, upgrade, …)
//! ```
//!
//! Requests are bounded in size, number and time. No lock that the data path or a failover needs is
//! ever taken here.

mod access_control;
mod action_handlers;
mod actions;
mod app_state;
pub mod client;
mod config;
mod connections;
pub mod descriptors;
mod dumps;
mod endpoints;
mod error;
mod input;
mod listen;
mod openapi;
mod page;
mod pages;
mod plane;
mod read_handlers;
mod refusals;
mod reload;
mod requests;
mod responses;
mod routes;
mod server;
mod server_thread;
mod stream;
#[cfg(test)]
mod tests;
mod token;

pub use config::{ControlError, DashboardConfig, DashboardError};
pub use error::{ApiError, ErrorBody, ErrorCode};
pub use page::CSS as PAGE_STYLE;
pub use pages::{PageServer, Pages};
pub use plane::{Plane, PlaneError, PlaneOptions};
pub use reload::Reloaded;
pub use requests::{
    DomainRequest, DrillRequest, GdbRequest, PauseRequest, SwitchRequest, UpgradeRequest,
};
pub use responses::{Drilled, Dumped, Opened, Paused, Resumed, Switched, Upgraded};
pub use token::TokenError;

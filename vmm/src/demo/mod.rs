//! `warmspare demo`: the whole system on one machine, crashed again and again.
//!
//! ```text
//!  sender ── switch ── NIC A ── domain a ─┐
//!               │                         ├─ switchboard ── vhost-user ── `warmspare app`
//!               └───── NIC B ── domain b ─┘                               (a process of its own)
//! ```
//!
//! The sender is outside: it sees only Ethernet. Every fault is a corrupted instruction in the
//! active driver; nothing tells the VMM that it failed.

mod render;
mod report;
mod run;

pub use report::Report;
pub use run::{DemoConfig, DemoError, run};

//! `warmspare demo`: the whole system on one machine, crashed again and again.
//!
//! ```text
//!  sender ── switch ── NIC A ── domain a ─┐
//!               │                         ├─ switchboard ── vhost-user ── `warmspare app`
//!               └───── NIC B ── domain b ─┘                               (a process of its own)
//! ```
//!
//! The sender is outside: it sees only Ethernet. Every fault is real: a corrupted driver, a corrupted
//! NIC register, a pulled cable ([`crate::fault`]); nothing tells the VMM that anything failed.

mod confusion;
mod inject;
mod operate;
mod render;
mod report;
mod run;

pub use inject::Plan;
pub use operate::Operation;
pub use report::{Limits, Report};
pub use run::{DemoConfig, DemoError, run};

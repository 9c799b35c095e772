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
//!
//! ```text
//!  run ─▶ inject, operate ─▶ session ─▶ config, error      (who does it)
//!   └───▶ render ─▶ confusion ─▶ report ─▶ outcome ─▶ plan (what came of it)
//! ```

mod config;
mod confusion;
mod error;
mod inject;
mod operate;
mod outcome;
mod plan;
mod render;
mod report;
mod run;
mod session;

pub use config::DemoConfig;
pub use confusion::CauseSummary;
pub use error::DemoError;
pub use plan::{Operation, Plan};
pub use report::{Limits, Report};
pub use run::run;

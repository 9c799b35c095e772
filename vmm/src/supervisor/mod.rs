//! Hears of faults, decides on failovers, and has failed domains built anew.
//!
//! ```text
//!  vCPU thread ─ crash ──────────────┐
//!  switchboard ─ violation ─ hub ─ supervisor thread ─┤
//!                                    ▼
//!                         failover::Failover::verdict      (the one place that changes roles)
//!                          │ NIC off, ring over, spare on
//!                          ▼
//!                         rebuild thread: record, quiesce, build anew ─ events
//! ```

pub mod detect;
mod event;
mod failover;
mod flapping;
mod hub;
mod keeper;
mod looks;
mod operator;
mod rebuild;
mod roles;
mod rules;
mod seats;
mod system;
mod watch;
mod workshop;

pub use event::{Event, FailoverReport};
pub use failover::{Failover, FailoverRecord, Verdict};
pub use operator::{Operator, OperatorError};
pub use roles::{IllegalTransition, RoleEvent, RoleState};
pub use rules::{DomainView, FailBack, FailBackAdvice, Health, Link, Need, SystemState};
pub use system::{System, SystemError, Wires};

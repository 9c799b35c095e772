//! Hears of faults, decides on failovers, and has failed domains rebuilt.
//!
//! ```text
//!  vCPU thread ─ crash ─────────────┐
//!  switchboard ─ violation ─┐       │
//!                           ▼       ▼
//!                         event sink ──────────────┐
//!                           │                      │
//!  samples of each domain ─▶ supervisor thread ─▶ failover::Failover::verdict
//!                                                  │ NIC off, ring over, spare on
//!                                                  ▼
//!                         rebuild thread: record, quiesce, rebuild ─▶ events
//! ```
//! `domain_table` holds the roles, and every change of a role is one step of its table. `domain` is
//! the one place where the supervisor acts on a domain.

#![forbid(unsafe_code)]

mod builder;
pub mod coredump;
pub mod detect;
mod domain;
mod domain_table;
mod drill;
mod drill_schedule;
mod error;
mod event;
mod event_sink;
mod examine;
mod failover;
mod failure_record;
mod flapping;
mod guest_link;
mod hearing;
mod images;
mod job_queue;
mod lifecycle;
mod monitor;
mod operator;
mod periodic;
mod planned;
mod probes;
mod published;
mod qmp;
mod rebuild;
mod rebuild_context;
mod reports;
mod roles;
mod rules;
mod sampling;
mod supervisor_thread;
mod switch;
mod system;
pub mod topology;
mod upgrade;
mod verdict;
mod views;
mod wait;
mod wires;

pub use drill::DrillError;
pub use error::{NoNicError, SystemError};
pub use event::{Event, FailoverReport};
pub use examine::{Debugged, ExamineError};
pub use failover::Failover;
pub use operator::Operator;
pub use reports::{
    Blame, DrillReport, DumpReport, Evidence, SwitchReport, UpgradeReport, UpgradeStep,
};
pub use roles::{IllegalTransition, RoleEvent, RoleState};
pub use rules::{DomainView, FailBack, FailBackAdvice, Health, Link, Need, Proof, SystemState};
pub use switch::SwitchError;
pub use system::{Pulse, System};
pub use upgrade::UpgradeError;
pub use verdict::{FailoverRecord, Verdict};
pub use wires::Wires;

#[cfg(test)]
mod system_tests;

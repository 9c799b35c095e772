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

mod clockwork;
pub mod coredump;
pub mod detect;
mod drill;
mod event;
mod examine;
mod failover;
mod flapping;
mod hub;
mod images;
mod keeper;
mod looks;
mod operator;
mod probes;
mod rebuild;
mod roles;
mod rules;
mod seats;
mod switch;
mod system;
pub mod topology;
mod upgrade;
mod verdict;
mod watch;
mod workshop;

pub use drill::{Blame, DrillError, DrillReport, Evidence};
pub use event::{Event, FailoverReport};
pub use examine::{Debugged, DumpReport, ExamineError};
pub use failover::Failover;
pub use operator::Operator;
pub use roles::{IllegalTransition, RoleEvent, RoleState};
pub use rules::{DomainView, FailBack, FailBackAdvice, Health, Link, Need, SystemState};
pub use switch::{SwitchError, SwitchReport};
pub use system::{System, SystemError, Wires};
pub use upgrade::{UpgradeError, UpgradeReport, UpgradeStep};
pub use verdict::{FailoverRecord, Verdict};

#[cfg(test)]
mod tests;

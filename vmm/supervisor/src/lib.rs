//! Hears of faults, decides on failovers, and has failed domains built anew.
//!
//! ```text
//!  vCPU thread ─ crash ──────────────┐
//!  switchboard ─ violation ─ event_sink ─ supervisor thread ─┤
//!                                    ▼
//!                         failover::Failover::verdict      (the one place that changes roles)
//!                          │ NIC off, ring over, spare on
//!                          ▼
//!                         rebuild thread: record, quiesce, build anew ─ events
//! ```

pub mod coredump;
pub mod detect;
mod domain_table;
mod drill;
mod event;
mod event_sink;
mod examine;
mod failover;
mod flapping;
mod images;
mod monitor;
mod operator;
mod periodic;
mod probes;
mod rebuild;
mod rebuild_context;
mod roles;
mod rules;
mod sampling;
mod supervisor_thread;
mod switch;
mod system;
pub mod topology;
mod upgrade;
mod verdict;

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

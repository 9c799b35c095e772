//! The topology file: which domains, NICs and application guests there are.
//!
//! Strict JSON, in three steps: parse (unknown keys and wrong types name their path), check the
//! whole ([`check`]), and only then build. A mistake is one line: what, where, and how to mend it.
//!
//! ```text
//!  load: file ─▶ parse ─▶ spec ─▶ check ─▶ Topology, or one TopologyError
//! ```
//! Nothing here depends on the rest of the crate: whoever reads a topology needs no running system.

mod check;
mod check_apps;
mod egress;
mod event_kind;
mod limits;
mod load;
mod mac;
mod policy;
mod socket_mode;
mod socket_spec;
mod spec;
mod thresholds;

pub use check::is_host_name;
pub use egress::{EgressSpec, MacsMode, MacsSpec};
pub use event_kind::EventKind;
pub use limits::{FailBackSpec, Limits};
pub use load::TopologyError;
pub use mac::MacAddress;
pub use policy::Policy;
pub use socket_mode::SocketMode;
pub use socket_spec::SocketSpec;
pub use spec::{
    AnnounceSpec, AppSpec, DashboardSpec, DomainSpec, DrillSpec, DumpSpec, EmulatedSpec,
    MAX_DOMAINS, NicSpec, NotifySpec, QmpSpec, Topology, WireSpec,
};
pub use thresholds::Thresholds;

#[cfg(test)]
mod tests;

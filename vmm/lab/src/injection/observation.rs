//! Everything that was seen of one trial, as plain data.

use std::path::PathBuf;

use crate::traffic::Ledger;
use microvm::domain::DomainId;
use operate::observe::Stall;
use supervisor::FailoverReport;

/// Something that happened to a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DomainEvent {
    pub(super) domain: DomainId,
    /// When it happened, `CLOCK_MONOTONIC` nanoseconds.
    pub(super) at_ns: u64,
}

/// Everything that was seen of one trial. All times are `CLOCK_MONOTONIC` nanoseconds.
pub(crate) struct Observation {
    /// When the first echo came back.
    pub(super) first_echo_ns: u64,
    /// When the fault was armed.
    pub(super) armed_ns: u64,
    /// When execution reached the fault.
    pub(super) activated_ns: Option<u64>,
    /// When the observation ended.
    pub(super) end_ns: u64,
    /// The domain that had the fault.
    pub(super) victim: DomainId,
    /// Failures, in order.
    pub(super) failovers: Vec<FailoverReport>,
    /// Lost wakeups that were made up for.
    pub(super) healed: Vec<DomainEvent>,
    /// Domains that came up again.
    pub(super) ready: Vec<DomainEvent>,
    /// Whether echoes came back without a break at the end.
    pub(super) serving: bool,
    /// Whether the system was whole at the end: a domain serves, and a spare stands by where the
    /// configuration has one.
    pub(super) whole: bool,
    /// What the sender saw.
    pub(super) ledger: Ledger,
    /// Times in which the machine itself stood still.
    pub(super) stalls: Vec<Stall>,
    /// What the application guest reports of itself.
    pub(super) app: Result<(), String>,
    /// Where the failed domain left its core file.
    pub(crate) dump: Option<PathBuf>,
    /// How many times as long as usual everything may take on this testbed.
    pub(super) slowness: u32,
}

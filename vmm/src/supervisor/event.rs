//! Events, one for each thing an operator would want to know. Sent off the failover path.

use super::failover::FailoverRecord;
use super::roles::RoleState;
use crate::domain::DomainId;

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A NIC's link came or went.
    Link {
        /// Name of the NIC.
        nic: String,
        /// Whether it is up now.
        up: bool,
    },
    /// A domain failed, and what was done about it.
    Failover(Box<FailoverReport>),
    /// A domain is built and attached.
    Ready {
        /// Which one.
        domain: DomainId,
        /// What it is now.
        state: RoleState,
        /// When, in `CLOCK_MONOTONIC` nanoseconds.
        at_ns: u64,
    },
    /// A domain could not be built.
    BuildFailed {
        /// Which one.
        domain: DomainId,
        /// Why, in one line.
        reason: String,
        /// Whether it will not be tried again.
        given_up: bool,
    },
}

/// A failure with what the switchboard and the NICs knew of it afterwards.
#[derive(Clone, Debug)]
pub struct FailoverReport {
    /// What was known at the verdict.
    pub record: FailoverRecord,
    /// When the spare's first frame left its NIC, if it did and the NIC can tell.
    pub first_sent_ns: Option<u64>,
    /// Frames that were sent again through the spare.
    pub resent: u64,
    /// Frames dropped because they were in hand at two failures in a row.
    pub poisoned: u64,
    /// Received frames saved from the failed NIC.
    pub salvaged: u64,
    /// Frame for people: what the domain left behind, one line.
    pub epitaph: String,
}

//! What a single detector says at a look.

use super::finding::Finding;

/// A detector's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opinion {
    /// Nothing is wrong.
    Fine,
    /// Something may be; look again in so many nanoseconds.
    Suspect(u64),
    /// Wake the domain; then look again in so many nanoseconds.
    Wake(u64),
    /// Wake the switchboard, which the domain should have done; then look again in so many
    /// nanoseconds.
    Ring(u64),
    /// Kick the vCPU out of the guest once; then look again in so many nanoseconds.
    Kick(u64),
    /// A wakeup had been lost, and ours made up for it, after so many nanoseconds.
    Healed(u64),
    /// The domain has failed.
    Failed(Finding),
}

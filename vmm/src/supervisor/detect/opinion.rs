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
    /// Kick the vCPU out of the guest once; then look again in so many nanoseconds.
    SecondLook(u64),
    /// A wakeup did not come, and ours made up for it.
    Healed {
        /// After so many nanoseconds.
        lasted_ns: u64,
        /// It was lost; nobody who wakes the domain can just have been stopped on the way.
        certain: bool,
    },
    /// The domain has failed.
    Failed(Finding),
}

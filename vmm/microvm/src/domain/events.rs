//! What the vCPU threads of domains report.

use super::fault::Fault;
use super::slot::DomainId;

/// Receives what happens to domains. Called on the vCPU thread, so an implementation must neither
/// block nor allocate.
pub trait DomainEvents: Send + Sync {
    /// The domain attached its NIC. At most once in a life.
    fn ready(&self, id: DomainId, epoch: u32);

    /// The domain failed and is out of the guest for good. At most once in a life, and never after
    /// it was forced out. Of an exception, `fault` holds what the CPU itself left behind; general
    /// purpose registers and CR2 are in [`super::Life::outcome`], a few microseconds later.
    ///
    /// `entered_ns` is when the vCPU was last entered, `CLOCK_MONOTONIC`.
    fn failed(&self, id: DomainId, epoch: u32, fault: &Fault, entered_ns: u64);

    /// The domain has been woken and is about to run. Called often: it must cost next to nothing.
    fn woke(&self, _id: DomainId) {}
}

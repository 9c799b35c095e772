//! Doubles for tests: a clock, the VMM's calls, a domain's memory, and a model of the NIC.

#![expect(
    clippy::expect_used,
    reason = "in a test double, a disappointed expectation is a failure"
)]

mod nic;
mod vmm;

pub use nic::{ModelNic, Personality, SentFrame, open_filters};
pub use vmm::{FakeCalls, TestMemory, VmmRings};

use std::cell::Cell;

use crate::clock::Clock;

/// A clock that goes forward by ten microseconds each time it is asked, so that bounded waits end
/// without waiting.
#[derive(Debug, Default)]
pub struct FakeClock(Cell<u64>);

impl Clock for FakeClock {
    fn now_us(&self) -> u64 {
        self.0.set(self.0.get() + 10);
        self.0.get()
    }
}

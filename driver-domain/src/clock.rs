//! Time, for bounded waits.

use crate::error::DomainError;

/// A clock that only goes forward.
pub trait Clock {
    /// Microseconds since some moment.
    fn now_us(&self) -> u64;

    /// Asks `done` until it says yes or `budget_us` have passed. Returns true if it said yes. It is
    /// asked at least once, and once more after the time is up: this thread may have been away.
    ///
    /// # Errors
    /// The first error of `done`.
    fn poll(
        &self,
        budget_us: u64,
        mut done: impl FnMut() -> Result<bool, DomainError>,
    ) -> Result<bool, DomainError> {
        let start = self.now_us();
        loop {
            let late = self.now_us().wrapping_sub(start) > budget_us;
            if done()? {
                return Ok(true);
            }
            if late {
                return Ok(false);
            }
            core::hint::spin_loop();
        }
    }

    /// Lets `us` microseconds pass. Only for bring-up: it does not sleep.
    fn pause(&self, us: u64) {
        let start = self.now_us();
        while self.now_us().wrapping_sub(start) < us {
            core::hint::spin_loop();
        }
    }
}

/// The time stamp counter.
#[derive(Clone, Copy, Debug)]
pub struct Tsc {
    khz: u64,
}

impl Tsc {
    /// A counter with `khz` ticks a millisecond; `None` if that is zero.
    pub fn new(khz: u64) -> Option<Self> {
        (khz != 0).then_some(Self { khz })
    }
}

impl Clock for Tsc {
    fn now_us(&self) -> u64 {
        // SAFETY: `rdtsc` reads a counter and touches nothing; every x86-64 CPU has it, and it is
        // not disabled for user mode where we run.
        let ticks = unsafe { core::arch::x86_64::_rdtsc() };
        (u128::from(ticks) * 1_000 / u128::from(self.khz)) as u64
    }
}

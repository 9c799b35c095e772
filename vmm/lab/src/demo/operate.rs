//! Planned operations under traffic: they may cost nothing, or the demo has failed.

use std::time::Duration;

use super::error::DemoError;
use super::outcome::{Outcome, Recovery};
use super::plan::{Injection, Operation};
use super::session::Demo;
use platform::clock::monotonic_ns;
use supervisor::Event;

/// How long a new driver is on probation in a demo: long enough for some hundred datagrams.
const PROBATION: Duration = Duration::from_millis(100);
/// From the end of an operation until its event arrives.
const EVENT_DEADLINE: Duration = Duration::from_secs(1);

impl Demo<'_> {
    /// Carries out an operation, the `n`th of the demo.
    pub(super) fn operate(&mut self, operation: Operation, n: u32) -> Result<Outcome, DemoError> {
        self.drain_events();
        let operator = self.system.operator();
        let injected_ns = monotonic_ns();
        match operation {
            Operation::Switch => {
                operator.switch_to(None)?;
            }
            Operation::Upgrade => {
                let images = [guest_images::SPARE_DOMAIN, guest_images::DRIVER_DOMAIN];
                operator.upgrade(images[n as usize % 2], PROBATION)?;
            }
        }
        let redundant_ns = monotonic_ns();
        let what = "the event of a switch did not arrive";
        let report = self.wait_event(EVENT_DEADLINE, what, |event| match event {
            Event::Switched(report) => Some(report),
            _ => None,
        })?;
        Ok(Outcome {
            injected: Injection::Operation(operation),
            site: "plan",
            injected_ns,
            struck_ns: 0,
            recovery: Recovery::Planned(report),
            redundant_ns,
        })
    }
}

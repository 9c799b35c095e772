//! Planned operations under traffic: what they cost is nothing, or the demo has failed.

use std::time::Duration;

use super::report::{Injection, Outcome, Recovery};
use super::run::{Demo, DemoError};
use platform::clock::monotonic_ns;
use supervisor::Event;

/// How long a new driver is on probation in a demo: long enough for some hundred datagrams.
const PROBATION: Duration = Duration::from_millis(100);
/// Until the news of an operation that has ended is there.
const NEWS_DEADLINE: Duration = Duration::from_secs(1);

/// Something that an operator does to a running service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// Hands over to the spare.
    Switch,
    /// Replaces the driver by another image: the driver's and the spare's in turn.
    Upgrade,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Switch, Self::Upgrade];

    /// As in reports and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Switch => "switch",
            Self::Upgrade => "upgrade",
        }
    }
}

impl Demo<'_> {
    /// Carries out an operation, the `n`th of the demo.
    pub(super) fn operate(&mut self, operation: Operation, n: u32) -> Result<Outcome, DemoError> {
        self.system.events().try_iter().for_each(|event| self.plane.record(&event));
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
        let report = self.next(NEWS_DEADLINE, "a switch was not told of", |event| match event {
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

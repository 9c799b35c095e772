//! What a demo does to the service: faults, or planned operations.

use crate::fault::Cause;

/// Which faults a demo injects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Always the same cause, each time in another way.
    Only(Cause),
    /// All causes, at random.
    Mixed,
    /// No fault: planned operations, which may lose nothing.
    Planned(Operation),
}

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
    /// All operations.
    pub const ALL: [Self; 2] = [Self::Switch, Self::Upgrade];

    /// The name in reports and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Switch => "switch",
            Self::Upgrade => "upgrade",
        }
    }
}

/// One thing that is done to the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(untagged)]
pub enum Injection {
    /// A fault.
    Fault(Cause),
    /// No fault: something that an operator does.
    Operation(Operation),
}

impl Injection {
    /// All injections.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let faults = Cause::ALL.into_iter().map(Self::Fault);
        faults.chain(Operation::ALL.into_iter().map(Self::Operation))
    }

    /// The name in reports.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Fault(cause) => cause.name(),
            Self::Operation(operation) => operation.name(),
        }
    }
}

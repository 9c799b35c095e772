//! One injection: a fault, carried out in a fresh system under traffic and judged from outside.
//!
//! ```text
//!                     judge ─▶ record ─▶ outcome, kinds     (plain data)
//!                       │
//!  trial ─▶ observation ┘
//!    ├────▶ injector ─▶ target, registers
//!    └────▶ system ─▶ testbed                              (one system under traffic)
//! ```
//! Arrows point at what a file uses. [`Testbed`] is what another kind of domain or NIC brings along;
//! the judge sees an [`observation`] only.

mod injector;
mod judge;
mod kinds;
mod mutate;
mod observation;
mod order;
mod outcome;
mod record;
mod registers;
mod system;
mod target;
mod testbed;
mod trial;

pub use kinds::{Configuration, FaultKind, FaultSegment};
pub use outcome::InjectionOutcome;
pub use record::InjectionRecord;
pub use target::Target;
pub use testbed::{Emulated, Testbed};

pub(crate) use judge::judge;
pub(crate) use kinds::Mutation;
pub(crate) use order::TrialOrder;
#[cfg(test)]
pub(crate) use order::testing;
#[cfg(test)]
pub(crate) use record::VerdictRecord;
pub(crate) use record::{FaultRecord, FrameCounts, INJECTION_SCHEMA};
pub(crate) use registers::{GENERAL_REGISTERS, NicRegister};
pub(crate) use system::{Serving, Setup, SetupError, SystemUnderTest};
pub(crate) use target::{Code, Function, MemoryRange, TargetError, hex};
pub(crate) use trial::{ATTEMPTS, TrialError, carry_out};

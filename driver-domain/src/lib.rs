//! The igb driver, its data path and its loop: all that runs in a driver domain.
//!
//! ```text
//!   TX_POST ──► tx_provide ──► NIC transmit ring ──► tx_return ──► TX_DONE
//!   RX_PROVIDE ─► rx_provide ─► NIC receive ring ──► rx_return ──► RX_DONE
//!                      └──────────── one turn of the loop ────────┘
//! ```
//!
//! - [`igb`]: the NIC: bring-up, the two queues, descriptors;
//! - [`domain`]: shared rings on one side, NIC on the other, and the park protocol;
//! - [`serve`]: the loop, and the standby's hold; `drill`: how a standby proves its NIC;
//! - [`symbols`]: the loop's parts under the names that fault injection knows;
//! - [`runtime`]: entry point, stack, memory functions, panics: what an image needs and tests do
//!   not.
//!
//! Everything takes its registers and hypercalls through small traits, so the whole runs in unit
//! tests against a model NIC.

#![cfg_attr(not(any(test, feature = "testing")), no_std)]

pub mod bar;
pub mod budget;
pub mod clock;
pub mod domain;
mod drill;
pub mod error;
pub mod hypercalls;
pub mod igb;
pub mod log;
pub mod memory;
pub mod runtime;
pub mod serve;
pub mod symbols;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use bar::Registers;
pub use clock::Clock;
pub use domain::Domain;
pub use error::DomainError;
pub use hypercalls::Hypercalls;

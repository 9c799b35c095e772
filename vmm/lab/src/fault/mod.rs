//! Real faults: the driver, or something that it relies on, is corrupted while it runs. Nothing here
//! tells the VMM that anything failed.
//!
//! | cause | what is corrupted |
//! |---|---|
//! | crash | an instruction of the driver becomes one that always faults |
//! | hang | an instruction becomes a jump to itself |
//! | stall | the loop becomes one that beats, and parks or not, and serves nothing |
//! | lost-wakeup | the NIC's interrupt is masked behind the driver's back, the parked flag cleared |
//! | silent-tx | one bit of a constant in the transmit path: the NIC drops what the driver claims |
//! | silent-rx | the receive path takes the NIC's frames and delivers none |
//! | nic-register | one register of the NIC: a unit, a filter or a tail |
//! | link | the cable is pulled |

mod cause;
mod code;
mod error;
mod registers;
mod victim;

pub use cause::{Cause, Injected, Site};
pub use code::corrupt_code;
pub use error::FaultError;
pub use registers::REGISTER_VARIANTS;
pub use victim::Victim;

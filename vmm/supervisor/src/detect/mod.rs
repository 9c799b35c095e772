//! The detectors: how the supervisor learns that a domain has failed without saying so.
//!
//! ```text
//!   vCPU thread, rings, NIC, switchboard ── Sample ──► Judge ──► Order: wake, kick, verdict
//!                                                       │
//!                      one stretch of time for everything that may stand still
//! ```
//! A [`Judge`] is pure: it sees [`Sample`]s and nothing else, and it never touches the domain. Each
//! sample holds everything that is known of a domain at one moment:
//!
//! | detector | sees | by |
//! |---|---|---|
//! | device | all ones, or a register that is not as it was set up (`registers`) | two samples |
//! | hang | no heartbeat in the guest | CPU time, then a few kicks |
//! | spin | turns without a cursor moved and without parking | CPU time |
//! | blocked | neither parked nor run; or it does not wake | wall-clock cap |
//! | ring stall | pending work that stays undone | wall time, and proof that it could have acted |
//! | silent transmit | claims that the NIC does not confirm | wall time, the switchboard ran |
//! | silent receive | the NIC's head moves unseen, no buffers, interrupt masked | as the stall |
//!
//! Samples are frequent while a domain works and rare while it sleeps; a domain that leaves its
//! sleep notifies the supervisor. A lost wakeup of an idle domain, which is what can go wrong while
//! everything sleeps, is found at the next proof of life at the latest.

mod device;
mod finding;
mod judge;
mod lost_notification;
mod opinion;
mod registers;
mod running;
mod sample;
mod sampler;
mod silent;
mod speed;
mod time;
mod work;

#[cfg(test)]
mod tests;

pub use finding::{Detector, Finding, Symptom};
pub use judge::{Assessment, Duty, Judge, Order};
pub use sample::{Confirmations, Cursors, Mismatch, NicView, Sample};
pub use sampler::Sampler;
pub use speed::LinkSpeed;

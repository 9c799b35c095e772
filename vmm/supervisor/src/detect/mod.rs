//! The detectors: how the supervisor learns that a domain has failed without saying so.
//!
//! ```text
//!   vCPU thread, rings, NIC, switchboard ── Sample ──► Judge ──► Order: wake, second look, verdict
//!                                                       │
//!                      one stretch of time for each thing that may stand still
//! ```
//! A [`Judge`] is pure: it sees [`Sample`]s and nothing else, and it never touches the domain. One
//! look judges a domain by everything that is known of it at that moment:
//!
//! | detector | sees | by |
//! |---|---|---|
//! | device | all ones, or a register that is not as it was set up | two looks |
//! | hang | no heartbeat in the guest | CPU time, then a second look |
//! | spin | turns without a cursor moved and without parking | CPU time |
//! | blocked | neither parked nor run; or parked, signalled, and it does not wake | wall-clock cap |
//! | ring stall | work that is there and stays undone | wall time, and proof of its chance |
//! | silent transmit | claims that the NIC's counter does not confirm | wall time, the switchboard ran |
//! | silent receive | the NIC's head moves unseen, or it is starved, or cannot interrupt | as the stall |
//!
//! Sampling are frequent while a domain works and rare while it sleeps; leaving sleep rings the
//! supervisor ([`super::event_sink`]). What can fail while everything sleeps, a lost wakeup of a domain
//! that was idle, is found at the next proof of life at the latest.

mod device;
mod finding;
mod judge;
mod lost_notification;
mod opinion;
mod running;
mod sample;
mod sampler;
mod silent;
mod time;
mod work;

#[cfg(test)]
mod tests;

pub use finding::{Detector, Finding, Symptom};
pub use judge::{Duty, Judge, Look, Order};
pub use sample::{Confirmations, Cursors, Mismatch, NicView, Sample};
pub use sampler::Sampler;

//! Operating a running system: observing it, controlling it, and debugging its domains.
//!
//! Arrows point one way: `control` uses `observe` and `debugger`, which do not know of it or of each
//! other.

#![forbid(unsafe_code)]

pub mod control;
mod debugger;
pub mod observe;
pub mod service;

//! Operating a running system: what it shows, and what one can ask of it.
//!
//! Arrows point one way: `control` serves what `observe` knows, and `debugger` a domain's registers and memory.

pub mod control;
pub mod debugger;
pub mod observe;
pub mod service;

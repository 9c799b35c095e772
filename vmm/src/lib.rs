//! The host program of warmspare: a network interface that outlives its driver.
//!
//! Arrows point one way: `supervisor` drives `domain`, `nic` and `switchboard`; these know nothing
//! of it and report through the small traits they define. `cli` and `demo` build the whole.

pub mod budget;
pub mod clock;
pub mod domain;
pub mod kvm;
pub mod memory;
pub mod nic;
pub mod realtime;
pub mod switchboard;
pub mod vhost_user;
pub mod wire;

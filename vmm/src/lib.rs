//! The host program of warmspare: a network interface that outlives its driver.
//!
//! Arrows point one way: `supervisor` drives `domain`, `nic` and `switchboard`; these know nothing
//! of it and report through the small traits they define. `cli` and `demo` build the whole.

pub mod app;
pub mod budget;
pub mod campaign;
pub mod checksum;
pub mod cli;
pub mod clock;
pub mod control;
pub mod coredump;
pub mod debugger;
pub mod demo;
pub mod domain;
pub mod fault;
pub mod kvm;
pub mod logs;
pub mod memory;
pub mod nic;
pub mod observe;
mod one_line;
mod priority_mutex;
pub mod realtime;
pub mod report;
pub mod service;
pub mod signals;
pub mod supervisor;
pub mod switchboard;
pub mod topology;
pub mod traffic;
pub mod vhost_user;
pub mod wire;

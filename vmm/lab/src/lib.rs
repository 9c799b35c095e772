//! Everything that breaks things on purpose, and the world outside of the system that tells what a
//! user feels of it. Nothing of the product depends on this crate.
//!
//! ```text
//!  report ─▶ campaign ─▶ injection ─▶ app, traffic      demo ─▶ fault, traffic
//! ```

pub mod app;
pub mod campaign;
pub mod demo;
pub mod fault;
mod injection;
mod poll;
pub mod report;
pub mod traffic;

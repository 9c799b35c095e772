//! Everything that breaks things on purpose, and the world outside that tells whether it was felt.
//! Nothing of the product depends on it.

pub mod app;
pub mod campaign;
pub mod demo;
pub mod fault;
mod injection;
pub mod report;
pub mod traffic;

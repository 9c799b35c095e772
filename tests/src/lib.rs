//! Integration tests of warmspare, and the runner behind `cargo xtask`.

pub mod nested;
pub mod runner;

//! The host program of warmspare: a network interface that outlives its driver.

pub mod cli;
mod logs;

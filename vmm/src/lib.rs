//! The host program of warmspare: a network interface that outlives its driver.

#![forbid(unsafe_code)]

pub mod cli;
mod logs;

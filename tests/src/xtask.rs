//! The runner behind `cargo xtask`.
fn main() {}

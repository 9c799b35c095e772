//! `warmspare`.
fn main() {}

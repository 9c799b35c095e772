//! Integration tests of warmspare, and the runner behind `cargo xtask`.

pub mod nested;
pub mod rig;
pub mod runner;

use std::path::PathBuf;

/// The `warmspare` program of the profile that the running test was built with.
///
/// # Panics
/// It has not been built: `cargo test --workspace` builds it, `cargo test -p warmspare-tests` alone
/// does not.
pub fn program() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    let profile = own.ancestors().nth(2).map(PathBuf::from).unwrap_or_default();
    let program = profile.join("warmspare");
    assert!(
        program.is_file(),
        "{} is missing: run `cargo build -p warmspare` with the same profile first",
        program.display()
    );
    program
}

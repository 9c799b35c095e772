//! Integration tests of warmspare, and the runner behind `cargo xtask`.

pub mod bad_day;
pub mod bench;
pub mod browser;
pub mod campaign;
pub mod emulation;
pub mod frontend;
pub mod gates;
pub mod man;
pub mod nested;
pub mod realguest;
pub mod rig;
pub mod runner;
pub mod running;
pub mod scene;
pub mod structure;

use std::path::PathBuf;

/// The workspace's root folder.
pub fn workspace() -> PathBuf {
    let tests = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    tests.parent().map_or(tests.clone(), PathBuf::from)
}

/// The `warmspare` program, in the build profile of the running test or `xtask`.
///
/// # Panics
/// Panics if it has not been built: `cargo test --workspace` builds it,
/// `cargo test -p warmspare-tests` alone does not.
pub fn program() -> PathBuf {
    built("warmspare")
}

/// A program of the workspace, in the same build profile.
fn built(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    // Test programs are one folder further down than others.
    let folders = own.ancestors().skip(1).take(2);
    let mut programs = folders.map(|folder| folder.join(name));
    programs.find(|program| program.is_file()).unwrap_or_else(|| {
        panic!(
            "no `{name}` beside {}: run `cargo build --workspace` with the same profile first",
            own.display()
        )
    })
}

//! Builds the guests with a cargo of its own: another profile, other features, bare metal.
//!
//! The guests are workspace members, so their dependencies stand in the workspace's lock file and
//! are there when this runs. The nested cargo has a target folder of its own inside OUT_DIR, since
//! the outer one holds the lock of the common one while it waits for us.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const TARGET: &str = "x86_64-unknown-linux-gnu";
const GUESTS: [&str; 3] = ["driver-domain", "spare-domain", "app-guest"];

/// What a change in must rebuild the guests, from the workspace's top.
const INPUTS: [&str; 13] = [
    "Cargo.toml",
    "Cargo.lock",
    "shared-ring/Cargo.toml",
    "shared-ring/src",
    "driver-domain/Cargo.toml",
    "driver-domain/build.rs",
    "driver-domain/image.ld",
    "driver-domain/src",
    "spare-domain/Cargo.toml",
    "spare-domain/build.rs",
    "spare-domain/src",
    "guest-images/app-guest",
    "guest-images/build.rs",
];

/// Flags of every guest: backtraces by frame pointers, and addresses fixed at link time.
const RUSTFLAGS: [&str; 2] = ["-Cforce-frame-pointers=yes", "-Crelocation-model=static"];

/// Set by the outer cargo, rustc wrapper or clippy, and wrong for guests.
const FOREIGN: [&str; 10] = [
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "CARGO_BUILD_RUSTC_WRAPPER",
    "CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER",
    "CLIPPY_ARGS",
    "CLIPPY_CONF_DIR",
    "RUSTFLAGS",
    "CARGO_TARGET_DIR",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_BUILD_TARGET",
];

fn main() -> ExitCode {
    let here = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let Some(top) = here.parent() else {
        return complain("guest-images lies at the root of the file system");
    };
    for input in INPUTS {
        println!("cargo::rerun-if-changed={}", top.join(input).display());
    }
    let target_dir = PathBuf::from(variable("OUT_DIR")).join("guests");
    if let Err(why) = build(top, &target_dir) {
        return complain(&why);
    }
    for guest in GUESTS {
        let image = target_dir.join(TARGET).join("guest").join(guest);
        let name = guest.to_uppercase().replace('-', "_");
        println!("cargo::rustc-env={name}_IMAGE={}", image.display());
    }
    ExitCode::SUCCESS
}

fn build(top: &Path, target_dir: &Path) -> Result<(), String> {
    let mut cargo = Command::new(variable("CARGO"));
    cargo.current_dir(top).args(["build", "--locked", "--profile", "guest"]);
    cargo.args(["--target", TARGET]).arg("--target-dir").arg(target_dir);
    for guest in GUESTS {
        cargo.args(["--package", guest, "--features", &format!("{guest}/image")]);
    }
    for name in FOREIGN {
        cargo.env_remove(name);
    }
    cargo.env("CARGO_ENCODED_RUSTFLAGS", RUSTFLAGS.join("\x1f"));
    let output = cargo.output().map_err(|error| format!("cannot run cargo: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(format!("the guests do not build ({}); the nested cargo says:\n{said}", output.status))
}

/// Cargo shows `cargo::error` lines as errors; one for each line of text.
fn complain(text: &str) -> ExitCode {
    for line in text.lines() {
        println!("cargo::error={line}");
    }
    ExitCode::FAILURE
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

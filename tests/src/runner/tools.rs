//! Programs that some tests run: a browser, a debugger, and the parsers of Prometheus and systemd.

use std::process::Command;

use anyhow::{Context, Result, bail};

/// Each program, and the Debian packages that provide it.
const TOOLS: [(&str, &[&str]); 4] = [
    ("chromedriver", &["chromium", "chromium-driver"]),
    ("gdb", &["gdb"]),
    ("promtool", &["prometheus"]),
    ("systemd-analyze", &["systemd"]),
];

/// Installs the programs that are missing.
///
/// # Errors
/// A program is missing and cannot be installed.
pub(super) fn install() -> Result<()> {
    let missing: Vec<_> = TOOLS.iter().filter(|(program, _)| !is_there(program)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<_> = missing.iter().flat_map(|(_, packages)| *packages).copied().collect();
    let command = format!("apt-get install --no-install-recommends {}", packages.join(" "));
    println!("=== tools: {command}");
    apt(&["update"]).and_then(|()| apt_install(&packages)).with_context(|| {
        let names: Vec<_> = missing.iter().map(|(program, _)| *program).collect();
        format!("{} missing: run `{command}` as root", names.join(" and "))
    })
}

fn is_there(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

fn apt_install(packages: &[&str]) -> Result<()> {
    let arguments = ["install", "--yes", "--no-install-recommends"];
    apt(&[&arguments[..], packages].concat())
}

fn apt(arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command.arg("--quiet").args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    let output = command.output().context("apt-get cannot be started")?;
    if !output.status.success() {
        bail!("apt-get {}: {}", arguments[0], String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

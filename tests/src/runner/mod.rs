//! Runs every test in parts, each with a time budget, and says loudly what failed or was left out.

mod part;
mod tools;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use part::Part;

/// The workspace's top folder.
pub fn workspace() -> PathBuf {
    let tests = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    tests.parent().map_or(tests.clone(), PathBuf::from)
}

fn minutes(n: u64) -> Duration {
    Duration::from_secs(60 * n)
}

/// All parts, cheap ones first. Budgets are for two slow cores from a clean clone.
fn parts() -> Vec<Part> {
    let warnings = ["-D", "warnings"];
    vec![
        Part::cargo("format", minutes(1), &["fmt", "--all", "--check"]),
        Part::cargo("lints", minutes(8), &["clippy", "--workspace", "--all-targets", "--"])
            .with(&warnings),
        Part::cargo("build", minutes(10), &["build", "--workspace", "--release"]),
        Part::cargo("tests", minutes(10), &["test", "--workspace", "--release"]),
        Part::cargo("ring-model", minutes(4), &["test", "--release", "-p", "shared-ring", "loom"])
            .env("RUSTFLAGS", "--cfg loom")
            .env("CARGO_TARGET_DIR", "target/loom"),
        Part::cargo("demo", minutes(3), &["run", "--release", "--quiet", "--", "demo"])
            .with(&["--faults", "30"]),
        Part::cargo("campaign", minutes(3), &["run", "--release", "--quiet"]).with(&[
            "--package",
            "warmspare-tests",
            "--bin",
            "xtask",
            "--",
            "campaign",
        ]),
        Part::cargo("linux-guest", minutes(5), &["run", "--release", "--quiet"]).with(&[
            "--package",
            "warmspare-tests",
            "--bin",
            "xtask",
            "--",
            "linux-guest",
        ]),
    ]
}

/// Runs the parts named, or all.
///
/// # Errors
/// A part fails, is over its budget, or cannot run on this machine.
pub fn run(only: &[String]) -> Result<()> {
    let all = parts();
    if let Some(unknown) = only.iter().find(|name| !all.iter().any(|part| part.name == **name)) {
        let names: Vec<_> = all.iter().map(|part| part.name).collect();
        bail!("no part `{unknown}`: choose from {}", names.join(", "));
    }
    check_machine()?;
    let chosen = |part: &&Part| only.is_empty() || only.iter().any(|name| name == part.name);
    if all.iter().filter(chosen).any(|part| part.name == "tests") {
        tools::install()?;
    }
    let mut lines = Vec::new();
    let mut failed = 0;
    for part in all.iter().filter(chosen) {
        println!("\n=== {} (budget {} s)", part.name, part.budget.as_secs());
        let start = Instant::now();
        let verdict = part.run();
        let took = start.elapsed().as_secs_f64();
        let text = match &verdict {
            Ok(()) => "ok".to_owned(),
            Err(error) => format!("FAILED: {error:#}"),
        };
        failed += usize::from(verdict.is_err());
        lines.push(format!("{:<12} {took:>7.1} s  {text}", part.name));
    }
    println!("\n=== summary");
    for line in &lines {
        println!("{line}");
    }
    if failed > 0 {
        bail!("{failed} of {} parts failed", lines.len());
    }
    Ok(())
}

/// Without hardware access there is nothing to test: better to say so than to skip.
fn check_machine() -> Result<()> {
    let opened = std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm");
    if let Err(error) = opened {
        bail!(
            "/dev/kvm cannot be opened ({error}): the tests run real micro-VMs; use a machine with \
             KVM and join the group kvm, or run as root"
        );
    }
    Ok(())
}

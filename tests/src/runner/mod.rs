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
///
/// Without KVM, what needs it runs inside the nested machine, which has its own.
fn parts(kvm: bool) -> Vec<Part> {
    let mut parts = common_parts();
    let model = parts.pop();
    if kvm {
        parts.push(Part::cargo("tests", minutes(10), &["test", "--workspace", "--release"]));
        parts.extend(model);
        parts.extend(kvm_parts());
        parts.push(xtask("nested", minutes(14), &["nested"]));
    } else {
        let host = ["test", "--workspace", "--release", "--exclude", "warmspare-tests", "--"];
        let skipped = NEED_KVM.iter().flat_map(|module| ["--skip", module]);
        let skipped: Vec<_> = skipped.collect();
        parts.push(Part::cargo("tests", minutes(10), &host).with(&skipped));
        parts.extend(model);
        parts.push(xtask("nested", minutes(18), &["nested", "--tests"]));
    }
    parts
}

/// Unit tests that run micro-VMs.
const NEED_KVM: [&str; 4] =
    ["kvm::tests::", "domain::tests::", "app::tests::", "supervisor::tests::"];

/// A part that is a command of this program.
fn xtask(name: &'static str, budget: Duration, arguments: &[&'static str]) -> Part {
    let package = ["--package", "warmspare-tests", "--bin", "xtask", "--"];
    Part::cargo(name, budget, &["run", "--release", "--quiet"]).with(&package).with(arguments)
}

/// What needs no KVM; the ring's model last.
fn common_parts() -> Vec<Part> {
    let warnings = ["-D", "warnings"];
    vec![
        Part::cargo("format", minutes(1), &["fmt", "--all", "--check"]),
        Part::cargo("lints", minutes(8), &["clippy", "--workspace", "--all-targets", "--"])
            .with(&warnings),
        Part::cargo("build", minutes(10), &["build", "--workspace", "--release"]),
        Part::cargo("ring-model", minutes(4), &["test", "--release", "-p", "shared-ring", "loom"])
            .env("RUSTFLAGS", "--cfg loom")
            .env("CARGO_TARGET_DIR", "target/loom"),
    ]
}

/// What needs KVM and no machine of its own.
fn kvm_parts() -> Vec<Part> {
    vec![
        Part::cargo("demo", minutes(3), &["run", "--release", "--quiet", "--", "demo"])
            .with(&["--faults", "30"]),
        xtask("campaign", minutes(3), &["campaign"]),
        xtask("bench", minutes(3), &["bench"])
            .with(&["--runs", "1", "--millis", "100", "--faults", "1"])
            .with(&["--group", "data-path", "--group", "cost", "--group", "interruption"]),
        xtask("linux-guest", minutes(5), &["linux-guest"]),
    ]
}

/// Runs the parts named, or all.
///
/// # Errors
/// A part fails, is over its budget, or cannot run on this machine.
pub fn run(only: &[String]) -> Result<()> {
    let kvm = kvm();
    let all = parts(kvm.is_ok());
    if let Some(unknown) = only.iter().find(|name| !all.iter().any(|part| part.name == **name)) {
        let names: Vec<_> = all.iter().map(|part| part.name).collect();
        bail!("no part `{unknown}`: choose from {}", names.join(", "));
    }
    if let Err(why) = &kvm {
        println!("=== {why}");
    }
    let chosen = |part: &&Part| only.is_empty() || only.iter().any(|name| name == part.name);
    if kvm.is_ok() && all.iter().filter(chosen).any(|part| part.name == "tests") {
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

/// Whether micro-VMs can run here.
///
/// # Errors
/// They cannot: why, and what is done instead.
fn kvm() -> Result<()> {
    let opened = std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm");
    let Err(error) = opened else { return Ok(()) };
    bail!(
        "/dev/kvm cannot be opened ({error}): the tests that run micro-VMs run inside the nested \
         machine instead, slowly; LEFT OUT: the demo and the Linux guest, which need KVM here (join \
         the group kvm, or run as root)"
    )
}

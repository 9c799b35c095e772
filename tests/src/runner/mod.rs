//! Runs all tests in parts, each with a time budget, and reports which parts failed and what was
//! left out.

mod part;
mod tools;

use std::iter;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::gates::{DEMO_MEDIAN_MS, DEMO_WORST_MS};
use crate::nested::left_out::{self, PACKAGES};
use part::Part;

fn minutes(n: u64) -> Duration {
    Duration::from_secs(60 * n)
}

/// All parts, cheap ones first. The budgets allow for two slow cores and a clean clone.
///
/// Without KVM on this machine, the tests that need it run inside the nested machine, which has its
/// own.
fn parts(kvm: bool) -> Vec<Part> {
    let mut parts = common_parts();
    let model = parts.pop();
    if kvm {
        parts.push(tests());
        parts.extend(model);
        parts.extend(kvm_parts());
        parts.push(xtask("nested", minutes(14), &["nested"]));
    } else {
        parts.extend(tests_without_kvm());
        parts.extend(model);
        parts.push(xtask("nested", minutes(18), &["nested", "--tests"]));
    }
    parts
}

/// All tests; the workspace has no examples in its documentation that would have to run.
fn tests() -> Part {
    let arguments = ["test", "--workspace", "--release", "--all-targets"];
    Part::cargo("tests", minutes(10), &arguments)
}

/// The tests that run no micro-VM. Packages without micro-VM tests share one part. Each package
/// that also has micro-VM tests gets its own part, since cargo applies one test filter to all
/// packages.
fn tests_without_kvm() -> Vec<Part> {
    let excluded: Vec<_> =
        PACKAGES.iter().flat_map(|package| ["--exclude", package.name]).collect();
    let whole = tests();
    let filtered = PACKAGES.iter().map(|package| {
        let skipped: Vec<_> = package.need_kvm.iter().flat_map(|name| ["--skip", name]).collect();
        let name = format!("tests of {}", package.name);
        Part::cargo(&name, minutes(10), &["test", "--release", "--package", package.name])
            .with(package.targets)
            .with(&["--"])
            .with(&skipped)
    });
    iter::once(whole.with(&excluded)).chain(filtered).collect()
}

/// Lists what is not run on this machine, one line each.
fn left_out(kvm: bool) -> Vec<String> {
    let by_name = [
        "linux-guest step pulls: takes 100 s; `cargo xtask linux-guest --step pulls`".to_owned(),
        "linux-guest step libvirt: downloads libvirt; `cargo xtask linux-guest --step libvirt`"
            .to_owned(),
        "bench groups peers, peers-path, peers-loss: `cargo xtask bench`".to_owned(),
        "bad-day: ten minutes of it, and the incident that sets the clock; `cargo xtask bad-day`"
            .to_owned(),
        "ignored tests, which print what a VM exit and a signal cost: `cargo test -- --ignored`"
            .to_owned(),
        "the unit under systemd, which needs cgroups that can be written: `cargo test --release -p \
         warmspare-tests --test service_manager -- --ignored`"
            .to_owned(),
    ];
    let parts = kvm_parts().into_iter().map(|part| format!("part {}: KVM", part.name));
    let without_kvm = parts.chain(left_out::lines());
    let without_kvm = without_kvm.filter(|_| !kvm);
    without_kvm.chain(by_name).collect()
}

/// A part that runs a command of this program.
fn xtask(name: &str, budget: Duration, arguments: &[&'static str]) -> Part {
    let package = ["--package", "warmspare-tests", "--bin", "xtask", "--"];
    Part::cargo(name, budget, &["run", "--release", "--quiet"]).with(&package).with(arguments)
}

/// The parts that need no KVM; the model of the ring is the last one.
fn common_parts() -> Vec<Part> {
    let warnings = ["-D", "warnings"];
    vec![
        Part::cargo("format", minutes(1), &["fmt", "--all", "--check"]),
        Part::cargo(
            "lints",
            minutes(8),
            &["clippy", "--workspace", "--release", "--all-targets", "--"],
        )
        .with(&warnings),
        Part::cargo("build", minutes(10), &["build", "--workspace", "--release"]),
        xtask("structure", minutes(1), &["structure"]),
        Part::cargo("ring-model", minutes(4), &["test", "--release", "-p", "shared-ring", "loom"])
            .env("RUSTFLAGS", "--cfg loom")
            .env("CARGO_TARGET_DIR", "target/loom"),
    ]
}

/// The parts that need KVM, apart from the tests and the nested machine.
fn kvm_parts() -> Vec<Part> {
    vec![
        Part::cargo("demo", minutes(3), &["run", "--release", "--quiet", "--", "demo"])
            .with(&["--faults", "30"])
            .with(&["--max-interruption-ms", DEMO_WORST_MS])
            .with(&["--max-median-interruption-ms", DEMO_MEDIAN_MS]),
        xtask("campaign", minutes(3), &["campaign"]),
        xtask("bench", minutes(3), &["bench"])
            .with(&["--runs", "1", "--millis", "100", "--faults", "1"])
            .with(&["--group", "data-path", "--group", "cost", "--group", "interruption"]),
        xtask("bad-day", minutes(3), &["bad-day", "--short"]),
        xtask("linux-guest", minutes(5), &["linux-guest"]),
    ]
}

/// Runs the named parts, or all if none is named.
///
/// # Errors
/// A part fails, is over its budget, or cannot run on this machine.
pub fn run(only: &[String]) -> Result<()> {
    let kvm = kvm();
    let all = parts(kvm.is_ok());
    if let Some(unknown) = only.iter().find(|name| !all.iter().any(|part| part.name == **name)) {
        let names: Vec<_> = all.iter().map(|part| part.name.as_str()).collect();
        bail!("no part `{unknown}`: choose from {}", names.join(", "));
    }
    if let Err(why) = &kvm {
        println!("=== {why}");
    }
    let chosen = |part: &&Part| only.is_empty() || only.iter().any(|name| name == &part.name);
    if kvm.is_ok() && all.iter().filter(chosen).any(|part| part.name == "tests") {
        tools::install()?;
    }
    let start = Instant::now();
    let results: Vec<_> = all.iter().filter(chosen).map(run_part).collect();
    println!("\n=== summary");
    for result in &results {
        println!("{}", result.line());
    }
    println!("{:<24} {:>7.1} s", "total", start.elapsed().as_secs_f64());
    if only.is_empty() {
        left_out(kvm.is_ok()).iter().for_each(|what| println!("LEFT OUT: {what}"));
    }
    let failed = results.iter().filter(|result| result.verdict.is_err()).count();
    if failed > 0 {
        bail!("{failed} of {} parts failed", results.len());
    }
    Ok(())
}

/// Result of a part.
struct PartResult<'a> {
    name: &'a str,
    took: Duration,
    verdict: Result<()>,
}

impl PartResult<'_> {
    /// Its line in the summary.
    fn line(&self) -> String {
        let text = match &self.verdict {
            Ok(()) => "ok".to_owned(),
            Err(error) => format!("FAILED: {error:#}"),
        };
        format!("{:<24} {:>7.1} s  {text}", self.name, self.took.as_secs_f64())
    }
}

fn run_part(part: &Part) -> PartResult<'_> {
    println!("\n=== {} (budget {} s)", part.name, part.budget.as_secs());
    let start = Instant::now();
    let verdict = part.run();
    PartResult { name: &part.name, took: start.elapsed(), verdict }
}

/// Returns `Ok` if micro-VMs can run on this machine.
///
/// # Errors
/// `/dev/kvm` cannot be opened; the message says why, and what is done instead.
fn kvm() -> Result<()> {
    let opened = std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm");
    let Err(error) = opened else { return Ok(()) };
    bail!(
        "/dev/kvm cannot be opened ({error}): the tests that run micro-VMs run inside the nested \
         machine instead, slowly, and some are left out: see the end of the summary (join the group \
         kvm, or run as root)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_kvm_each_package_has_its_own_filter() {
        let parts = tests_without_kvm();
        assert_eq!(parts.len(), 1 + PACKAGES.len());
        let whole = parts[0].command_line();
        assert!(!whole.contains("--skip"), "all tests of the other packages: {whole}");
        for (part, package) in parts[1..].iter().zip(PACKAGES) {
            assert!(whole.contains(&format!("--exclude {}", package.name)), "{whole}");
            let line = part.command_line();
            assert!(line.contains(&format!("--package {} ", package.name)), "{line}");
            assert!(package.need_kvm.iter().all(|name| line.contains(&format!("--skip {name}"))));
        }
    }

    #[test]
    fn parts_that_need_kvm_are_left_out_by_name_without_it() {
        let lines = left_out(false).join("\n");
        for part in kvm_parts() {
            assert!(lines.contains(&format!("part {}:", part.name)), "{lines}");
            assert!(!left_out(true).join("\n").contains(&format!("part {}:", part.name)));
        }
    }
}

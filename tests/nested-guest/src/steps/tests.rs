//! The integration tests, as on a machine with `/dev/kvm`.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use warmspare_tests::nested::protocol::TESTS_FOLDER;

use crate::report::Report;

/// Most that one test program may take; here everything is emulated.
const PROGRAM_DEADLINE: Duration = Duration::from_secs(180);
/// Unit tests that use KVM: the others tell nothing new here.
const FILTERS: [&str; 4] = ["kvm::tests::", "domain::", "app::tests::", "supervisor::tests::"];
/// Tests that cannot hold where processors are emulated, and why. Said in every report.
const CANNOT_HOLD: [(&str, &str); 1] = [(
    "a_paused_spare_uses_no_cpu",
    "an emulated processor charges a sleeping thread for what the machine under it did",
)];
/// Programs without any that do.
const LEFT_OUT: [&str; 2] = ["warmspare_tests-", "xtask-"];
/// Lines of a failed program that tell why.
const LAST_LINES: usize = 12;

/// Whether the tests are on board.
pub(super) fn are_here() -> bool {
    Path::new(TESTS_FOLDER).exists()
}

/// Runs every test program.
pub(super) fn run(_: &Report) -> Result<Value> {
    let folder = format!("{TESTS_FOLDER}/deps");
    let programs =
        fs::read_dir(&folder).context("no tests are on board: cargo xtask nested --tests")?;
    let (mut results, mut failed) = (Vec::new(), Vec::new());
    for program in programs.flatten() {
        let start = Instant::now();
        let name = program.file_name().to_string_lossy().into_owned();
        if LEFT_OUT.iter().any(|left_out| name.starts_with(left_out)) {
            continue;
        }
        let filters = if name.starts_with("warmspare-") { &FILTERS[..] } else { &[] };
        match run_one(&program.path(), filters) {
            Ok(summary) => {
                let ms = super::ms(start.elapsed());
                results.push(json!({ "program": name, "ms": ms, "result": summary }));
            }
            Err(error) => failed.push(format!("{name}: {error:#}")),
        }
    }
    ensure!(failed.is_empty(), "{}", failed.join("; "));
    ensure!(!results.is_empty(), "no tests are on board");
    Ok(json!({ "left_out": CANNOT_HOLD, "programs": results }))
}

/// The summary line of a program, or the end of what it said.
fn run_one(program: &Path, filters: &[&str]) -> Result<String> {
    let log = Path::new("/tmp/tests.log");
    let file = fs::File::create(log)?;
    let mut child = Command::new(program)
        .arg("--test-threads=1")
        .args(filters)
        .args(CANNOT_HOLD.iter().flat_map(|(name, _)| ["--skip", name]))
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()?;
    let end = Instant::now() + PROGRAM_DEADLINE;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if Instant::now() > end {
            child.kill()?;
            child.wait()?;
            break None;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let text = String::from_utf8_lossy(&fs::read(log)?).into_owned();
    let lines: Vec<_> = text.lines().filter(|line| !line.is_empty()).collect();
    if status.is_some_and(|status| status.success()) {
        let summary = lines.iter().find_map(|line| line.strip_prefix("test result: "));
        return Ok(summary.unwrap_or_default().to_owned());
    }
    let why = status.map_or_else(|| "not done in time".to_owned(), |status| status.to_string());
    let failed: Vec<_> = lines.iter().filter(|line| line.ends_with("... FAILED")).collect();
    let last = lines[lines.len().saturating_sub(LAST_LINES)..].join("; ");
    bail!("{why}; {failed:?}; {last}")
}

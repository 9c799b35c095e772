//! The integration tests, run as on a machine with `/dev/kvm`: each test program is a step.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use warmspare_tests::emulation::VARIABLE;
use warmspare_tests::nested::left_out::{self, Package};
use warmspare_tests::nested::protocol::TESTS_FOLDER;

/// Prefix of a program's name in the name of its step.
const PREFIX: &str = "tests/";
/// How long one test program may take: here everything is emulated.
pub(super) const PROGRAM_DEADLINE: Duration = Duration::from_secs(240);
/// Number of last lines of a failed program that its error quotes.
const LAST_LINES: usize = 12;

/// Returns the steps for the test programs in the initramfs, if there are any.
pub(super) fn steps() -> Vec<String> {
    let programs = fs::read_dir(folder()).into_iter().flatten().flatten();
    let names = programs.map(|program| program.file_name().to_string_lossy().into_owned());
    let mut steps: Vec<_> = names.map(|name| format!("{PREFIX}{name}")).collect();
    steps.sort();
    steps
}

/// Returns the program of a step, if the step is a test program.
pub(super) fn program_of(step: &str) -> Option<PathBuf> {
    let program = folder().join(step.strip_prefix(PREFIX)?);
    program.exists().then_some(program)
}

fn folder() -> PathBuf {
    Path::new(TESTS_FOLDER).join("deps")
}

/// Runs a test program to its end.
pub(super) fn run(program: &Path) -> Result<Value> {
    let log = Path::new("/tmp/tests.log");
    let status = run_logged(program, log)?;
    let text = String::from_utf8_lossy(&fs::read(log)?).into_owned();
    let lines: Vec<_> = text.lines().filter(|line| !line.is_empty()).collect();
    if status.is_some_and(|status| status.success()) {
        let result = lines.iter().find_map(|line| line.strip_prefix("test result: "));
        let result = result.context("the program does not say what came of its tests")?;
        ensure!(!result.starts_with("ok. 0 passed"), "no test was run: {result}");
        return Ok(json!({ "result": result, "left_out": left_out::TESTS }));
    }
    let why = status.map_or_else(|| "not done in time".to_owned(), |status| status.to_string());
    let failed: Vec<_> = lines.iter().filter(|line| line.ends_with("... FAILED")).collect();
    let last = lines[lines.len().saturating_sub(LAST_LINES)..].join("; ");
    bail!("{why}; {failed:?}; {last}")
}

/// Runs the program and returns how it ended, or `None` if it had to be killed.
fn run_logged(program: &Path, log: &Path) -> Result<Option<ExitStatus>> {
    let file = fs::File::create(log)?;
    // Of the unit tests only those that use KVM are run: the others would show nothing new here.
    let package = program.file_name().and_then(|name| Package::of_program(name.to_str()?));
    let mut child = Command::new(program)
        .arg("--test-threads=1")
        .args(package.map_or(&[][..], |package| package.need_kvm))
        .args(left_out::TESTS.iter().flat_map(|(name, _)| ["--skip", name]))
        .env(VARIABLE, "1")
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()?;
    let end = Instant::now() + PROGRAM_DEADLINE;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() > end {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

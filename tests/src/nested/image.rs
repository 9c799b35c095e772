//! The initramfs: static programs, modules, and nothing else.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::cpio::Archive;
use super::kernel::Kernel;
use super::protocol::TESTS_FOLDER;
use crate::runner::workspace;

const TARGET: &str = "x86_64-unknown-linux-gnu";
/// Programs of the machine: package, binary, path inside.
const PROGRAMS: [(&str, &str, &str); 2] =
    [("warmspare-nested", "nested-init", "init"), ("warmspare", "warmspare", "bin/warmspare")];
/// Packages whose tests run inside: those with tests on real KVM.
const TESTED: [&str; 2] = ["warmspare", "warmspare-tests"];

/// Builds the programs and writes the initramfs; says where it is.
pub(super) fn build(kernel: &Kernel, cache: &Path, with_tests: bool) -> Result<PathBuf> {
    let binaries = build_programs(&PROGRAMS.map(|(package, binary, _)| (package, binary)))?;
    let path = cache.join("initramfs.cpio");
    let mut archive = Archive::new(BufWriter::new(File::create(&path)?));
    for folder in ["bin", "dev", "modules", "proc", "run", "sys", "tmp"] {
        archive.folder(folder)?;
    }
    // The kernel opens it for init before anything is mounted.
    archive.char_device("dev/console", 5, 1)?;
    for (_, binary, inside) in PROGRAMS {
        archive.program(inside, &read(&binaries.join(binary))?)?;
    }
    for (number, module) in kernel.modules.iter().enumerate() {
        archive.file(&format!("modules/{number:02}-{}.ko", module.name), &module.bytes)?;
    }
    if with_tests {
        add_tests(&mut archive, &binaries)?;
    }
    archive.finish()?;
    Ok(path)
}

/// Static programs by cargo (package, binary), and the folder they are in.
pub(crate) fn build_programs(programs: &[(&str, &str)]) -> Result<PathBuf> {
    println!("building programs for the machine");
    let mut command = cargo("build");
    for (package, binary) in programs {
        command.args(["-p", package, "--bin", binary]);
    }
    if !command.status().context("cargo cannot be started")?.success() {
        bail!("the machine's programs cannot be built");
    }
    Ok(target_folder().join(TARGET).join("release"))
}

/// Test programs, laid out as cargo lays them out: they look for `warmspare` one folder up.
fn add_tests(archive: &mut Archive<BufWriter<File>>, binaries: &Path) -> Result<()> {
    println!("nested: building the tests for it");
    let mut command = cargo("test");
    command.args(["--no-run", "--message-format", "json", "--lib", "--tests"]);
    for package in TESTED {
        command.args(["-p", package]);
    }
    let output = command.stderr(Stdio::inherit()).output().context("cargo cannot be started")?;
    if !output.status.success() {
        bail!("the tests cannot be built");
    }
    let folder = TESTS_FOLDER.trim_start_matches('/');
    add_folders(archive, &format!("{folder}/deps"))?;
    archive.program(&format!("{folder}/warmspare"), &read(&binaries.join("warmspare"))?)?;
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        if let Some((name, program)) = test_program(line) {
            archive.program(&format!("{folder}/deps/{name}"), &read(&program)?)?;
        }
    }
    // What tests read of the source tree, at the place where they were told it is.
    let tree = workspace().display().to_string();
    let tree = tree.trim_start_matches('/');
    add_folders(archive, &format!("{tree}/tests"))?;
    archive.folder(&format!("{tree}/examples"))?;
    for example in fs::read_dir(workspace().join("examples"))?.flatten() {
        let name = example.file_name();
        let inside = format!("{tree}/examples/{}", name.to_string_lossy());
        archive.file(&inside, &read(&example.path())?)?;
    }
    Ok(())
}

/// A folder and all that it lies in.
fn add_folders(archive: &mut Archive<BufWriter<File>>, path: &str) -> Result<()> {
    let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
    for end in ends {
        archive.folder(&path[..end])?;
    }
    Ok(())
}

/// Name and place of a test program, from a line of cargo's messages.
fn test_program(line: &str) -> Option<(String, PathBuf)> {
    let message: Value = serde_json::from_str(line).ok()?;
    let is_test = message["profile"]["test"].as_bool()?;
    let program = PathBuf::from(message["executable"].as_str()?);
    let name = program.file_name()?.to_str()?.to_owned();
    is_test.then_some((name, program))
}

/// A cargo command that builds static programs.
///
/// `--target` keeps the flags from build scripts and procedural macros, which must stay dynamic,
/// and which the ordinary build has made already.
fn cargo(verb: &str) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command.args([verb, "--quiet", "--release", "--target", TARGET]);
    // On the command line and not in the environment: build scripts that run cargo themselves
    // must not inherit it.
    command.args(["--config", "profile.release.strip=\"debuginfo\""]);
    command.env("RUSTFLAGS", "-C target-feature=+crt-static").current_dir(workspace());
    command
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("{} is missing", path.display()))
}

fn target_folder() -> PathBuf {
    let own = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    workspace().join(own.unwrap_or_else(|| "target".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_test_programs_are_taken_from_cargos_messages() {
        let line = r#"{"executable":"/t/deps/cli-1","profile":{"test":true}}"#;
        assert_eq!(test_program(line), Some(("cli-1".into(), "/t/deps/cli-1".into())));
        let line = r#"{"executable":"/t/warmspare","profile":{"test":false}}"#;
        assert_eq!(test_program(line), None);
        assert_eq!(test_program(r#"{"executable":null,"profile":{"test":true}}"#), None);
    }
}

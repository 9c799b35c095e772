//! Builds the initramfs: programs with their libraries, and kernel modules, and nothing else.
//!
//! The programs are those of the ordinary build, the same files that run on this machine, so
//! nothing is compiled a second time. Their three or four shared libraries are added with them.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::cpio::Archive;
use super::kernel::Kernel;
use super::left_out::{self, PACKAGES};
use super::modules::BONDING;
use super::protocol::TESTS_FOLDER;
use crate::workspace;

const TARGET: &str = "x86_64-unknown-linux-gnu";
/// Programs that are always in the machine: name of the binary, path inside the machine.
const PROGRAMS: [(&str, &str); 2] = [("nested-init", "init"), ("warmspare", "bin/warmspare")];
/// Part of the package ID, as cargo prints it, of the package whose test programs are included.
const TESTS_PACKAGE: &str = "#warmspare-tests@";
/// Programs of this machine that the tests call.
const TOOLS: [&str; 6] = ["kill", "mkfifo", "mount", "prlimit", "touch", "umount"];

/// Builds the programs, writes the initramfs and returns its path.
pub(super) fn build(kernel: &Kernel, cache: &Path, with_tests: bool) -> Result<PathBuf> {
    println!("nested: building the programs");
    // The same command as the ordinary build, so that an up-to-date tree needs no rebuild.
    run_cargo(cargo().args(["build", "--quiet", "--workspace", "--release"]))?;
    let binaries = target_folder().join("release");
    let path = cache.join("initramfs.cpio");
    let mut image = Image {
        archive: Archive::new(BufWriter::new(File::create(&path)?)),
        libraries: BTreeSet::new(),
        scratch: cache.join("stripped"),
    };
    for folder in ["bin", "dev", "modules", "proc", "run", "sys", "tmp"] {
        image.archive.folder(folder)?;
    }
    // The kernel opens /dev/console for init before anything is mounted.
    image.archive.char_device("dev/console", 5, 1)?;
    for (binary, inside) in PROGRAMS {
        image.add_program(inside, &binaries.join(binary))?;
    }
    let own = kernel.modules.iter().filter(|module| !BONDING.contains(&module.name.as_str()));
    for (number, module) in own.enumerate() {
        let inside = format!("modules/{number:02}-{}.ko", module.name);
        image.archive.file(&inside, &module.bytes)?;
    }
    if with_tests {
        image.add_tests(&binaries)?;
    }
    image.finish()?;
    Ok(path)
}

/// Builds static programs (package, binary) with cargo, for a guest that has no libraries. Returns
/// the folder that holds them.
pub(crate) fn build_programs(programs: &[(&str, &str)]) -> Result<PathBuf> {
    eprintln!("building programs for the machine");
    let mut command = cargo();
    // `--target` keeps the flags from build scripts and procedural macros, which must stay dynamic.
    command.args(["build", "--quiet", "--release", "--target", TARGET]);
    // This is set on the command line and not in the environment, because build scripts that run
    // cargo themselves must not inherit it.
    command.args(["--config", "profile.release.strip=\"debuginfo\""]);
    command.env("RUSTFLAGS", "-C target-feature=+crt-static");
    for (package, binary) in programs {
        command.args(["-p", package, "--bin", binary]);
    }
    run_cargo(&mut command)?;
    Ok(target_folder().join(TARGET).join("release"))
}

/// The archive, and the libraries that are still to be added to it.
struct Image {
    archive: Archive<BufWriter<File>>,
    /// Shared libraries that the programs added so far need.
    libraries: BTreeSet<PathBuf>,
    /// Path of the temporary copy of a program without its debug information.
    scratch: PathBuf,
}

impl Image {
    /// Adds a program without its debug information, since the emulated machine, which is slow, has
    /// to unpack everything in the archive.
    fn add_program(&mut self, inside: &str, program: &Path) -> Result<()> {
        self.libraries.extend(libraries_of(program)?);
        let strip = Command::new("strip")
            .args(["--strip-debug", "-o"])
            .args([&self.scratch, program])
            .status();
        let stripped = strip.is_ok_and(|status| status.success());
        let program = if stripped { &self.scratch } else { program };
        Ok(self.archive.program(inside, &read(program)?)?)
    }

    /// Adds the test programs in the layout that cargo uses: they look for `warmspare` one folder
    /// up.
    fn add_tests(&mut self, binaries: &Path) -> Result<()> {
        println!("nested: building the tests");
        let mut command = cargo();
        command.args(["test", "--quiet", "--workspace", "--release", "--no-run"]);
        command.args(["--message-format", "json"]);
        let output = command.stderr(Stdio::inherit()).output().context("cargo does not start")?;
        if !output.status.success() {
            bail!("the tests cannot be built");
        }
        let folder = TESTS_FOLDER.trim_start_matches('/');
        add_folders(&mut self.archive, &format!("{folder}/deps"))?;
        self.add_program(&format!("{folder}/warmspare"), &binaries.join("warmspare"))?;
        let lines = String::from_utf8_lossy(&output.stdout);
        let programs: Vec<_> = lines.lines().filter_map(test_program).collect();
        ensure!(!programs.is_empty(), "cargo names no test program");
        for (name, program) in programs {
            if let Some((_, why)) = left_out::PROGRAMS.iter().find(|(program, _)| *program == name)
            {
                println!("nested: LEFT OUT: the tests in {name}: {why}");
            } else {
                self.add_program(&format!("{folder}/deps/{name}"), &program)?;
            }
        }
        self.add_tools()?;
        self.add_sources()
    }

    /// Adds the files and tools that the tests expect on any Linux system.
    fn add_tools(&mut self) -> Result<()> {
        add_folders(&mut self.archive, "usr/bin")?;
        for tool in TOOLS {
            let program = find_program(tool).with_context(|| format!("{tool} is missing"))?;
            self.add_program(&format!("usr/bin/{tool}"), &program)?;
        }
        self.archive.folder("etc")?;
        Ok(self.archive.file("etc/passwd", b"root:x:0:0::/:/bin/sh\n")?)
    }

    /// Adds the parts of the source tree that tests read, at the path that was compiled into them.
    fn add_sources(&mut self) -> Result<()> {
        let tree = workspace().display().to_string();
        let tree = tree.trim_start_matches('/');
        add_folders(&mut self.archive, &format!("{tree}/tests"))?;
        self.archive.folder(&format!("{tree}/examples"))?;
        let examples = fs::read_dir(workspace().join("examples"))?.flatten();
        for example in examples.filter(|example| example.path().is_file()) {
            let name = example.file_name();
            let inside = format!("{tree}/examples/{}", name.to_string_lossy());
            self.archive.file(&inside, &read(&example.path())?)?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        for library in &self.libraries {
            let inside = library.display().to_string();
            let inside = inside.trim_start_matches('/');
            if let Some((folder, _)) = inside.rsplit_once('/') {
                add_folders(&mut self.archive, folder)?;
            }
            self.archive.program(inside, &read(library)?)?;
        }
        let _ = fs::remove_file(&self.scratch);
        self.archive.finish()?;
        Ok(())
    }
}

/// The paths on this machine of a program's shared libraries, including the dynamic loader.
fn libraries_of(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().context("ldd cannot be started")?;
    if !output.status.success() {
        bail!("ldd does not know {}", program.display());
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if text.contains("not found") {
        bail!("{} lacks libraries: {}", program.display(), text.trim());
    }
    Ok(text.lines().filter_map(library).collect())
}

/// The path in a line of ldd's: `libc.so.6 => /lib/libc.so.6 (0x…)` or `/lib64/ld.so (0x…)`.
fn library(line: &str) -> Option<PathBuf> {
    let (path, _) = line.trim().rsplit_once(" (")?;
    let path = path.rsplit_once("=> ").map_or(path, |(_, path)| path).trim();
    path.starts_with('/').then(|| path.into())
}

/// Where the shell would find a program.
fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|program| program.is_file())
}

/// Adds a folder and all its parents.
fn add_folders(archive: &mut Archive<BufWriter<File>>, path: &str) -> Result<()> {
    let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
    for end in ends {
        archive.folder(&path[..end])?;
    }
    Ok(())
}

/// Parses a line of cargo's messages. Returns name and path of a test program that needs KVM: one
/// of the integration tests, or the unit tests of a package.
fn test_program(line: &str) -> Option<(String, PathBuf)> {
    let message: Value = serde_json::from_str(line).ok()?;
    let target = &message["target"];
    let (kind, name) = (target["kind"][0].as_str()?, target["name"].as_str()?);
    let package = message["package_id"].as_str()?;
    let name = match kind {
        "test" if package.contains(TESTS_PACKAGE) => name.to_owned(),
        // The name of a library is that of its package, as an identifier.
        "lib" => PACKAGES
            .iter()
            .find(|package| package.nested && package.name.replace('-', "_") == name)?
            .program(),
        _ => return None,
    };
    let program = PathBuf::from(message["executable"].as_str()?);
    message["profile"]["test"].as_bool()?.then_some((name, program))
}

fn cargo() -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command.current_dir(workspace());
    command
}

fn run_cargo(command: &mut Command) -> Result<()> {
    if !command.status().context("cargo cannot be started")?.success() {
        bail!("the machine's programs cannot be built");
    }
    Ok(())
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
        let line = r##"{"package_id":"path+file:///t/tests#warmspare-tests@0.1.0",
            "target":{"kind":["test"],"name":"cli"},"executable":"/t/deps/cli-1",
            "profile":{"test":true}}"##;
        assert_eq!(test_program(line), Some(("cli".into(), "/t/deps/cli-1".into())));
        let other = line.replace("#warmspare-tests@0.1.0", "/shared-ring#0.1.0");
        assert_eq!(test_program(&other), None);
        let units = line.replace(r#"["test"]"#, r#"["lib"]"#);
        assert_eq!(test_program(&units), None, "not one of those");
        let (name, _) = test_program(&units.replace(r#""cli""#, r#""microvm""#)).unwrap();
        assert_eq!(name, "units-microvm");
        assert_eq!(test_program(&line.replace(r#"["test"]"#, r#"["bin"]"#)), None);
        assert_eq!(test_program(&line.replace("true", "false")), None);
        assert_eq!(test_program(&line.replace(r#""/t/deps/cli-1""#, "null")), None);
    }

    #[test]
    fn libraries_are_where_ldd_finds_them() {
        let paths = [
            ("\tlinux-vdso.so.1 (0x00007f44c6a26000)", None),
            ("\tlibc.so.6 => /lib/libc.so.6 (0x00007f44c5e1e000)", Some("/lib/libc.so.6")),
            ("\t/lib64/ld-linux-x86-64.so.2 (0x0)", Some("/lib64/ld-linux-x86-64.so.2")),
            ("\tstatically linked", None),
        ];
        for (line, path) in paths {
            assert_eq!(library(line), path.map(PathBuf::from), "{line}");
        }
    }
}

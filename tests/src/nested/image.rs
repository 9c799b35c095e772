//! The initramfs: static programs, modules, and nothing else.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::cpio::Archive;
use super::kernel::Kernel;
use crate::runner::workspace;

const TARGET: &str = "x86_64-unknown-linux-gnu";
/// Programs of the machine: package, binary, path inside.
const PROGRAMS: [(&str, &str, &str); 2] =
    [("warmspare-nested", "nested-init", "init"), ("warmspare", "warmspare", "bin/warmspare")];

/// Builds the programs and writes the initramfs; says where it is.
pub(super) fn build(kernel: &Kernel, cache: &Path) -> Result<PathBuf> {
    let binaries = build_programs()?;
    let path = cache.join("initramfs.cpio");
    let mut archive = Archive::new(BufWriter::new(File::create(&path)?));
    for folder in ["bin", "dev", "modules", "proc", "run", "sys", "tmp"] {
        archive.folder(folder)?;
    }
    // The kernel opens it for init before anything is mounted.
    archive.char_device("dev/console", 5, 1)?;
    for (_, binary, inside) in PROGRAMS {
        let file = binaries.join(binary);
        let bytes = fs::read(&file).with_context(|| format!("{} is missing", file.display()))?;
        archive.program(inside, &bytes)?;
    }
    for (number, module) in kernel.modules.iter().enumerate() {
        archive.file(&format!("modules/{number:02}-{}.ko", module.name), &module.bytes)?;
    }
    archive.finish()?;
    Ok(path)
}

/// Static programs by cargo, and the folder they are in.
///
/// `--target` keeps the flags from build scripts and procedural macros, which must stay dynamic,
/// and which the ordinary build has made already.
fn build_programs() -> Result<PathBuf> {
    println!("nested: building the machine's programs");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--release", "--target", TARGET]);
    // On the command line and not in the environment: build scripts that run cargo themselves
    // must not inherit it.
    command.args(["--config", "profile.release.strip=\"debuginfo\""]);
    for (package, binary, _) in PROGRAMS {
        command.args(["-p", package, "--bin", binary]);
    }
    command.env("RUSTFLAGS", "-C target-feature=+crt-static").current_dir(workspace());
    let status = command.status().context("cargo cannot be started")?;
    if !status.success() {
        bail!("the machine's programs cannot be built");
    }
    Ok(target_folder().join(TARGET).join("release"))
}

fn target_folder() -> PathBuf {
    let own = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    workspace().join(own.unwrap_or_else(|| "target".into()))
}

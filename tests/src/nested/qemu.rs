//! Finds or installs QEMU; version 8 or later is needed for its igb NIC.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::apt::Apt;

const PROGRAM: &str = "qemu-system-x86_64";
const PACKAGE: &str = "qemu-system-x86";
/// The first major version with an igb NIC.
const OLDEST_MAJOR: u32 = 8;

/// Returns the program's path, and installs it if it is missing and this process is root.
pub(crate) fn find_or_install(cache: &Path) -> Result<PathBuf> {
    if is_new_enough() {
        return Ok(PROGRAM.into());
    }
    let missing = "QEMU 8 or later is needed (its igb NIC)";
    let apt = Apt::prepare(cache).with_context(|| format!("{missing}: install {PROGRAM}"))?;
    if !is_root() {
        bail!("{missing}: {}", apt.line_to_type(PACKAGE));
    }
    apt.install(PACKAGE).with_context(|| format!("{missing}: {}", apt.line_to_type(PACKAGE)))?;
    if !is_new_enough() {
        bail!("{missing}, and this distribution's package {PACKAGE} has an older one");
    }
    Ok(PROGRAM.into())
}

fn is_new_enough() -> bool {
    let output = Command::new(PROGRAM).arg("--version").output();
    let text = output.map(|out| String::from_utf8_lossy(&out.stdout).into_owned());
    text.ok().and_then(|text| major(&text)).is_some_and(|major| major >= OLDEST_MAJOR)
}

/// Parses the major version from `QEMU emulator version 10.0.2 (...)`.
fn major(text: &str) -> Option<u32> {
    let version = text.split("version ").nth(1)?;
    version.split('.').next()?.parse().ok()
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output();
    output.is_ok_and(|out| out.stdout.trim_ascii() == b"0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read() {
        assert_eq!(major("QEMU emulator version 10.0.2 (Debian 1:10.0.2)\nCopyright"), Some(10));
        assert_eq!(major("QEMU emulator version 7.2.19"), Some(7));
        assert_eq!(major(""), None);
    }
}

//! Finds kernel modules, unpacks them, and puts them in the order of their dependencies.

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The modules that the machines need. The modules that these depend on are added to them.
pub(crate) const WANTED: [&str; 7] =
    ["kvm-amd", "vfio-pci", "vfio_iommu_type1", "virtio_net", "igb", "tun", "bonding"];

/// The modules that only a Linux guest with two NICs needs.
pub(crate) const BONDING: [&str; 2] = ["tls", "bonding"];

/// A module, unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Module {
    /// Its name, with `_` for `-`.
    pub(crate) name: String,
    /// Its object file.
    pub(crate) bytes: Vec<u8>,
}

/// Returns the needed modules, each after those it depends on. A module that is not in the folder
/// is assumed to be built into the kernel.
pub(crate) fn collect(folder: &Path) -> Result<Vec<Module>> {
    let mut files = Vec::new();
    walk(folder, &mut files).with_context(|| format!("{} cannot be read", folder.display()))?;
    let mut modules = Vec::new();
    for name in WANTED {
        add(name, &files, &mut modules)?;
    }
    if modules.is_empty() {
        bail!("{} holds none of the modules {}", folder.display(), WANTED.join(", "));
    }
    Ok(modules)
}

fn add(name: &str, files: &[PathBuf], modules: &mut Vec<Module>) -> Result<()> {
    let name = name.replace('-', "_");
    if modules.iter().any(|module| module.name == name) {
        return Ok(());
    }
    let Some(path) = files.iter().find(|path| module_name(path).as_deref() == Some(&name)) else {
        return Ok(());
    };
    let bytes = unpack(path).with_context(|| format!("{} cannot be unpacked", path.display()))?;
    for dependency in dependencies(&bytes) {
        add(&dependency, files, modules)?;
    }
    modules.push(Module { name, bytes });
    Ok(())
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // Symbolic links are not followed: links such as `build` lead out of the folder.
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), files)?;
        } else if module_name(&entry.path()).is_some() {
            files.push(entry.path());
        }
    }
    Ok(())
}

fn module_name(path: &Path) -> Option<String> {
    let (name, end) = path.file_name()?.to_str()?.split_once(".ko")?;
    ["", ".xz"].contains(&end).then(|| name.replace('-', "_"))
}

fn unpack(path: &Path) -> Result<Vec<u8>> {
    let bytes = fs::read(path)?;
    if path.extension().is_some_and(|end| end == "ko") {
        return Ok(bytes);
    }
    let mut plain = Vec::with_capacity(4 * bytes.len());
    lzma_rs::xz_decompress(&mut Cursor::new(bytes), &mut plain)
        .map_err(|error| anyhow::anyhow!("{error:?}"))?;
    Ok(plain)
}

/// The modules that an object file lists as its dependencies (`depends=` in `.modinfo`).
fn dependencies(object: &[u8]) -> Vec<String> {
    let Some(at) = object.windows(9).position(|window| window == b"\0depends=") else {
        return Vec::new();
    };
    let list = object[at + 9..].split(|byte| *byte == 0).next().unwrap_or_default();
    let names = String::from_utf8_lossy(list).into_owned();
    names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_come_after_what_they_depend_on() {
        let folder = std::env::temp_dir().join(format!("warmspare-modules-{}", std::process::id()));
        fs::create_dir_all(folder.join("kernel/net")).unwrap();
        fs::write(folder.join("kernel/net/igb.ko"), b"x\0depends=dca,i2c-algo-bit\0y").unwrap();
        fs::write(folder.join("kernel/dca.ko"), b"x\0depends=\0").unwrap();
        fs::write(folder.join("kernel/other.ko"), b"x\0depends=\0").unwrap();

        let modules = collect(&folder).unwrap();

        fs::remove_dir_all(&folder).unwrap();
        let names: Vec<_> = modules.iter().map(|module| module.name.as_str()).collect();
        assert_eq!(names, ["dca", "igb"]);
    }

    #[test]
    fn names_of_packed_and_plain_modules_are_known() {
        let name = |path: &str| module_name(Path::new(path));
        assert_eq!(name("a/kvm-amd.ko.xz").as_deref(), Some("kvm_amd"));
        assert_eq!(name("a/igb.ko").as_deref(), Some("igb"));
        assert_eq!(name("a/modules.dep"), None);
    }
}

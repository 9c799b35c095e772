//! The kernel that the nested machine boots.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::apt::Apt;
use super::modules::{self, Module};

/// The package that points to the newest kernel. (Its "cloud" sister lacks igb.)
const PACKAGE: &str = "linux-image-amd64";
/// Name of the file that marks the folder it lies in as complete. It lists the modules that were
/// wanted.
const STAMP: &str = "complete";

/// A kernel and its modules.
pub(crate) struct Kernel {
    /// Image to boot.
    pub(crate) image: PathBuf,
    /// Unpacked modules, in the order to load them.
    pub(crate) modules: Vec<Module>,
}

/// Uses a kernel that the user has named.
pub(crate) fn given(image: &Path, folder: &Path) -> Result<Kernel> {
    if !image.is_file() {
        bail!("{}: there is no kernel here", image.display());
    }
    Ok(Kernel { image: image.to_owned(), modules: modules::collect(folder)? })
}

/// Returns the distribution's kernel, kept from an earlier run or downloaded as a package. Needs no
/// root.
pub(crate) fn fetch(cache: &Path) -> Result<Kernel> {
    let folder = cache.join("kernel");
    let wanted = modules::WANTED.join(" ");
    if fs::read_to_string(folder.join(STAMP)).ok() != Some(wanted) {
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder)?;
        download(cache, &folder).context(
            "Debian's kernel cannot be fetched: give one with --kernel VMLINUZ --modules DIR",
        )?;
    }
    load(&folder)
}

fn download(cache: &Path, folder: &Path) -> Result<()> {
    let apt = Apt::prepare(cache)?;
    let package = apt.dependency(PACKAGE)?;
    let deb = apt.download(&package, folder)?;
    let root = folder.join("unpacked");
    let status = Command::new("dpkg-deb").arg("-x").arg(&deb).arg(&root).status()?;
    if !status.success() {
        bail!("dpkg-deb cannot unpack {}", deb.display());
    }
    let image = newest(&root.join("boot"), "vmlinuz").context("the package holds no kernel")?;
    fs::copy(image, folder.join("vmlinuz"))?;
    // Debian 12 keeps modules under /lib, later releases under /usr/lib.
    let parents = ["usr/lib/modules", "lib/modules"].map(|path| root.join(path));
    let parent = parents.into_iter().find(|path| path.is_dir());
    let parent = parent.context("the package holds no modules")?;
    let release = newest(&parent, "").context("the package holds no modules")?;
    for (number, module) in modules::collect(&release)?.iter().enumerate() {
        fs::write(folder.join(format!("{number:02}-{}.ko", module.name)), &module.bytes)?;
    }
    fs::remove_dir_all(&root)?;
    fs::remove_file(&deb)?;
    Ok(fs::write(folder.join(STAMP), modules::WANTED.join(" "))?)
}

/// Reads back what [`download`] kept.
fn load(folder: &Path) -> Result<Kernel> {
    let mut modules = Vec::new();
    let mut files: Vec<_> = fs::read_dir(folder)?.flatten().map(|entry| entry.path()).collect();
    files.sort();
    for path in files {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let name = name.strip_suffix(".ko").and_then(|name| name.split_once('-'));
        if let Some((_, name)) = name {
            modules.push(Module { name: name.to_owned(), bytes: fs::read(&path)? });
        }
    }
    Ok(Kernel { image: folder.join("vmlinuz"), modules })
}

fn newest(folder: &Path, prefix: &str) -> Option<PathBuf> {
    let names = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    let fits = |path: &PathBuf| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|n| n.starts_with(prefix))
    };
    names.filter(fits).max()
}

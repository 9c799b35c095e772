//! The guest's initramfs: its init, and the modules of its NICs.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::nested::cpio::Archive;
use crate::nested::image::build_programs;
use crate::nested::kernel::Kernel;

use super::network::Driver;

/// Kernel modules that virtio NICs need.
const VIRTIO: [&str; 3] = ["failover", "net_failover", "virtio_net"];
/// Kernel modules that bonding and igb NICs need.
const IGB: [&str; 5] = ["tls", "bonding", "i2c_algo_bit", "dca", "igb"];

/// Builds the init, writes the initramfs and returns its path.
pub(crate) fn build(kernel: &Kernel, cache: &Path, driver: Driver) -> Result<PathBuf> {
    let folder = build_programs(&[("warmspare-linux-guest", "linux-init")])?;
    let init = folder.join("linux-init");
    let init = fs::read(&init).with_context(|| format!("{} is missing", init.display()))?;
    let (name, modules): (_, &[&str]) = match driver {
        Driver::Virtio => ("linux-guest.cpio", &VIRTIO),
        Driver::Igb => ("linux-guest-igb.cpio", &IGB),
    };
    let path = cache.join(name);
    let mut archive = Archive::new(BufWriter::new(File::create(&path)?));
    for name in ["dev", "modules", "proc", "sys"] {
        archive.folder(name)?;
    }
    // The kernel opens /dev/console for init before anything is mounted.
    archive.char_device("dev/console", 5, 1)?;
    archive.program("init", &init)?;
    let wanted = kernel.modules.iter().filter(|module| modules.contains(&module.name.as_str()));
    for (number, module) in wanted.enumerate() {
        archive.file(&format!("modules/{number:02}-{}.ko", module.name), &module.bytes)?;
    }
    archive.finish()?;
    Ok(path)
}

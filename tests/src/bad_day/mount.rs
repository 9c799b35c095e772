//! A small file system of its own, which a test can fill up.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// A tmpfs of some pages, unmounted when dropped.
pub(super) struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    /// Mounts one of this size, bytes, at a new folder.
    ///
    /// # Errors
    /// This process may not mount.
    pub(super) fn mount(folder: &Path, bytes: u64) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let size = format!("size={bytes}");
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "warmspare-bad-day"])
            .arg(folder)
            .status()
            .context("`mount` is missing")?;
        ensure!(status.success(), "no file system can be mounted: this test needs root");
        Ok(Self { folder: folder.to_owned() })
    }

    /// A path on it.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Fills it until nothing more can be written.
    ///
    /// # Errors
    /// The filler cannot be created.
    pub(super) fn fill(&self) -> Result<()> {
        let mut filler = File::create(self.path("filler"))?;
        // Whole pages first, then single bytes of the last one.
        for piece in [&[0_u8; 4096][..], &[0]] {
            while filler.write_all(piece).is_ok() {}
        }
        Ok(())
    }

    /// Makes room again.
    ///
    /// # Errors
    /// It was not filled.
    pub(super) fn empty(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.path("filler"))?)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.folder).status();
        let _ = std::fs::remove_dir(&self.folder);
    }
}

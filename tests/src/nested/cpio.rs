//! Writes an initramfs without root, in the "newc" format of cpio
//! (the kernel's Documentation/driver-api/early-userspace/buffer-format.rst).

use std::io::{self, Write};

const S_IFDIR: u32 = 0o040_000;
const S_IFREG: u32 = 0o100_000;
const S_IFCHR: u32 = 0o020_000;

/// Writes an archive entry by entry.
pub(crate) struct Archive<W: Write> {
    out: W,
    inode: u32,
}

/// The header fields that differ between entries, besides the name and the size.
#[derive(Clone, Copy)]
struct Header {
    mode: u32,
    links: u32,
    device: (u32, u32),
}

impl<W: Write> Archive<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out, inode: 0 }
    }

    pub(crate) fn folder(&mut self, path: &str) -> io::Result<()> {
        self.entry(path, Header { mode: S_IFDIR | 0o755, links: 2, device: (0, 0) }, &[])
    }

    pub(crate) fn program(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.entry(path, Header { mode: S_IFREG | 0o755, links: 1, device: (0, 0) }, bytes)
    }

    pub(crate) fn file(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.entry(path, Header { mode: S_IFREG | 0o644, links: 1, device: (0, 0) }, bytes)
    }

    pub(crate) fn char_device(&mut self, path: &str, major: u32, minor: u32) -> io::Result<()> {
        self.entry(path, Header { mode: S_IFCHR | 0o600, links: 1, device: (major, minor) }, &[])
    }

    /// Writes the trailer entry and returns the writer.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.inode = u32::MAX;
        self.entry("TRAILER!!!", Header { mode: 0, links: 1, device: (0, 0) }, &[])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn entry(&mut self, path: &str, header: Header, bytes: &[u8]) -> io::Result<()> {
        self.inode = self.inode.wrapping_add(1);
        let size = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        let name_size = path.len() as u32 + 1;
        let (major, minor) = header.device;
        let fields = [
            self.inode,
            header.mode,
            0,
            0,
            header.links,
            0,
            size,
            0,
            0,
            major,
            minor,
            name_size,
            0,
        ];
        write!(self.out, "070701")?;
        for field in fields {
            write!(self.out, "{field:08x}")?;
        }
        self.out.write_all(path.as_bytes())?;
        self.out.write_all(&[0])?;
        // The header has 110 bytes; the name and the content are each padded to a multiple of four.
        self.pad(110 + path.len() + 1)?;
        self.out.write_all(bytes)?;
        self.pad(bytes.len())
    }

    fn pad(&mut self, written: usize) -> io::Result<()> {
        self.out.write_all(&[0; 3][..written.wrapping_neg() % 4])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_aligned_and_end_with_the_trailer() {
        let mut archive = Archive::new(Vec::new());
        archive.folder("dev").unwrap();
        archive.char_device("dev/console", 5, 1).unwrap();
        archive.program("init", b"12345").unwrap();
        let bytes = archive.finish().unwrap();

        assert_eq!(bytes.len() % 4, 0);
        let headers: Vec<usize> =
            (0..bytes.len()).step_by(4).filter(|at| bytes[*at..].starts_with(b"070701")).collect();
        assert_eq!(headers.len(), 4);
        let init = &bytes[headers[2]..headers[3]];
        assert_eq!(&init[54..62], b"00000005");
        assert!(init.ends_with(b"12345\0\0\0"));
        assert_eq!(&bytes[headers[1] + 78..headers[1] + 94], b"0000000500000001");
        assert!(bytes[headers[3]..].windows(10).any(|name| name == b"TRAILER!!!"));
    }
}

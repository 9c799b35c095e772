//! Memory that the VMM shares with domains and NICs.

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd};

use vm_memory::{Bytes, FileOffset, MmapRegion, VolatileMemory, VolatileSlice};

/// Why shared memory could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// `memfd_create` or `ftruncate` failed.
    #[error("cannot create {bytes} bytes of shared memory")]
    Create {
        /// How much was asked for.
        bytes: u64,
        /// Why not.
        source: std::io::Error,
    },
    /// `mmap` failed.
    #[error("cannot map {bytes} bytes of shared memory")]
    Map {
        /// How much was asked for.
        bytes: u64,
        /// Why not.
        source: vm_memory::mmap::MmapRegionError,
    },
    /// Bytes outside the area were asked for.
    #[error("{len} bytes at offset {offset:#x} lie outside shared memory")]
    OutOfRange {
        /// Offset in bytes.
        offset: u64,
        /// Length in bytes.
        len: usize,
    },
}

/// Plain shapes of atomics, valid for every bit pattern, so that a reference into memory that
/// others write is sound.
///
/// # Safety
/// Every field must be an atomic integer or such a shape, at most 64-byte aligned.
pub unsafe trait SharedShape {}
// SAFETY: all fields are atomics.
unsafe impl SharedShape for shared_ring::ControlPage {}
// SAFETY: all fields are atomics.
unsafe impl SharedShape for shared_ring::StatusPage {}
// SAFETY: all fields are atomics.
unsafe impl SharedShape for shared_ring::entry::Slot {}
// SAFETY: an atomic.
unsafe impl SharedShape for std::sync::atomic::AtomicU16 {}
// SAFETY: an atomic.
unsafe impl SharedShape for std::sync::atomic::AtomicU8 {}
// SAFETY: an atomic.
unsafe impl SharedShape for std::sync::atomic::AtomicU32 {}
// SAFETY: an atomic.
unsafe impl SharedShape for std::sync::atomic::AtomicU64 {}

/// An area of shared memory on a memfd of its own, sealed against shrinking.
#[derive(Debug)]
pub struct SharedMemory {
    region: MmapRegion,
}

impl SharedMemory {
    /// A zeroed area.
    ///
    /// # Errors
    /// The operating system has no memory or descriptors left.
    pub fn new(name: &std::ffi::CStr, bytes: u64) -> Result<Self, MemoryError> {
        let file =
            sealed_memfd(name, bytes).map_err(|source| MemoryError::Create { bytes, source })?;
        let region = MmapRegion::from_file(FileOffset::new(file, 0), bytes as usize)
            .map_err(|source| MemoryError::Map { bytes, source })?;
        Ok(Self { region })
    }

    /// Length in bytes.
    #[inline]
    pub fn len(&self) -> u64 {
        self.region.size() as u64
    }

    /// Whether the area has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Address in the VMM, for memslots and DMA mappings.
    pub fn host_address(&self) -> u64 {
        self.region.as_ptr() as u64
    }

    /// The file behind the area, for others to map.
    pub fn file(&self) -> &File {
        match self.region.file_offset() {
            Some(file) => file.file(),
            None => unreachable!("every area is made from a file"),
        }
    }

    /// Part of the area, for volatile copies.
    ///
    /// # Errors
    /// Out of range.
    #[inline]
    pub fn slice(&self, offset: u64, len: usize) -> Result<VolatileSlice<'_>, MemoryError> {
        self.region
            .get_slice(offset as usize, len)
            .map_err(|_| MemoryError::OutOfRange { offset, len })
    }

    /// Copies bytes out.
    ///
    /// # Errors
    /// Out of range.
    pub fn read(&self, offset: u64, to: &mut [u8]) -> Result<(), MemoryError> {
        self.slice(offset, to.len())?.copy_to(to);
        Ok(())
    }

    /// Copies bytes in.
    ///
    /// # Errors
    /// Out of range.
    pub fn write(&self, offset: u64, from: &[u8]) -> Result<(), MemoryError> {
        self.slice(offset, from.len())?.copy_from(from);
        Ok(())
    }

    /// Zeroes a part.
    ///
    /// # Errors
    /// Out of range.
    pub fn clear(&self, offset: u64, len: usize) -> Result<(), MemoryError> {
        const ZEROES: [u8; 4096] = [0; 4096];
        let slice = self.slice(offset, len)?;
        for start in (0..len).step_by(ZEROES.len()) {
            let part = &ZEROES[..ZEROES.len().min(len - start)];
            slice.write_slice(part, start).map_err(|_| MemoryError::OutOfRange { offset, len })?;
        }
        Ok(())
    }

    /// A shape of atomics at `offset`.
    ///
    /// # Errors
    /// Out of range or misaligned.
    #[inline]
    pub fn shape<T: SharedShape>(&self, offset: u64) -> Result<&T, MemoryError> {
        let len = size_of::<T>();
        let slice = self.slice(offset, len)?;
        let pointer = slice.ptr_guard().as_ptr().cast::<T>();
        if !pointer.is_aligned() {
            return Err(MemoryError::OutOfRange { offset, len });
        }
        // SAFETY: in range and aligned as checked, mapped as long as `self`; every bit pattern is a
        // valid `T`, and `T` is made of atomics, so writes by others are no data race.
        Ok(unsafe { &*pointer })
    }
}

fn sealed_memfd(name: &std::ffi::CStr, bytes: u64) -> std::io::Result<File> {
    // SAFETY: `name` is a C string; the result is checked.
    let fd =
        unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: a fresh descriptor that nothing else owns.
    let file = unsafe { File::from_raw_fd(fd) };
    file.set_len(bytes)?;
    let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW;
    // SAFETY: plain integers.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_outside_are_refused() {
        let memory = SharedMemory::new(c"test", 8192).unwrap();
        memory.write(8190, &[1, 2]).unwrap();
        assert!(memory.write(8191, &[1, 2]).is_err());
        assert!(memory.read(u64::MAX, &mut [0]).is_err());
        assert!(memory.shape::<shared_ring::StatusPage>(4096 + 1).is_err());
        memory.clear(0, 8192).unwrap();
        let mut last = [9; 2];
        memory.read(8190, &mut last).unwrap();
        assert_eq!(last, [0, 0]);
    }
}

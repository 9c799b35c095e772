//! A guest's memory: what a front-end shares, mapped once and checked against its file.
//!
//! For each frame an address is looked up six times, and it nearly always lies in one region. So
//! the table is our own, and [`vm_memory::GuestMemory`] is implemented on it for callers that know
//! only that: the general way through `GuestMemoryMmap` takes as long as everything else that a
//! short frame needs.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;

use vm_memory::{
    GuestAddress, GuestMemoryError as AccessError, GuestMemoryMmap, Permissions, VolatileSlice,
    guest_memory::GuestMemorySliceIterator,
};

use super::foreign::{Foreign, Kind};
use super::guard::Registration;

/// Where mappings begin.
const PAGE_BYTES: usize = 4096;

/// Most regions of one guest.
pub(crate) const MAX_REGIONS: usize = 32;

/// Most bytes of memory and log that are mapped for one guest. Eight guests have that twice while
/// they change their memory, and half of a process's addresses is left.
pub(crate) const MAX_MAPPED_BYTES: u64 = 4 << 40;

/// Why memory that a front-end offers is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GuestMemoryError {
    /// The region has zero bytes, or addresses that wrap around.
    #[error("impossible region: {0:?}")]
    Impossible(RegionSpec),
    /// The file's pages are not memory of this machine: an access could wait for a disk, for a
    /// server, or for a FUSE daemon of the front-end's own, and the whole VMM with it.
    #[error("guest memory must be a memfd, or a file on tmpfs or hugetlbfs")]
    NotMemory,
    /// The file ends before the region does.
    #[error("region of {bytes:#x} bytes at offset {offset:#x} is larger than its file ({file:#x})")]
    LargerThanFile {
        /// Bytes of the region.
        bytes: u64,
        /// Offset in the file.
        offset: u64,
        /// Bytes of the file.
        file: u64,
    },
    /// An operating system call failed.
    #[error("cannot map guest memory")]
    Map(#[source] std::io::Error),
    /// More than [`MAX_MAPPED_BYTES`].
    #[error("more than 4 TiB of memory and log for one guest")]
    TooMuch,
    /// The regions of one guest overlap, or are too many.
    #[error("guest memory regions overlap or are too many")]
    Table,
}

/// Where a region lies, as a front-end says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RegionSpec {
    /// Guest-physical address.
    pub(crate) guest_address: u64,
    /// Length in bytes.
    pub(crate) bytes: u64,
    /// Address in the front-end's own address space, in which it gives ring addresses.
    pub(crate) user_address: u64,
    /// Offset in the file, bytes.
    pub(crate) file_offset: u64,
}

impl RegionSpec {
    fn is_possible(&self) -> bool {
        let ends = [self.guest_address, self.user_address, self.file_offset];
        self.bytes != 0 && ends.iter().all(|start| start.checked_add(self.bytes).is_some())
    }
}

/// A mapped region. The file's descriptor is not kept.
#[derive(Debug)]
pub(crate) struct MappedRegion {
    spec: RegionSpec,
    /// First byte of the mapping, which may begin before the region (huge pages).
    mapping: NonNull<libc::c_void>,
    mapping_bytes: usize,
    /// Bytes of the mapping before the region.
    lead: usize,
    guard: Option<Registration>,
}

// SAFETY: the pointer is only a mapping's address; all accesses go through volatile slices.
unsafe impl Send for MappedRegion {}
// SAFETY: as above; `&self` gives out no references into the mapping.
unsafe impl Sync for MappedRegion {}

impl MappedRegion {
    /// Maps a region of `file`.
    ///
    /// # Errors
    /// See [`GuestMemoryError`].
    pub(crate) fn map(spec: RegionSpec, foreign: &Foreign) -> Result<Self, GuestMemoryError> {
        if !spec.is_possible() {
            return Err(GuestMemoryError::Impossible(spec));
        }
        // Nothing of another kind is asked anything: its file system might never answer.
        let Some(file) = foreign.file().filter(|_| foreign.kind() == Kind::Memory) else {
            return Err(GuestMemoryError::NotMemory);
        };
        let metadata = file.metadata().map_err(GuestMemoryError::Map)?;
        if spec.file_offset + spec.bytes > metadata.len() {
            return Err(GuestMemoryError::LargerThanFile {
                bytes: spec.bytes,
                offset: spec.file_offset,
                file: metadata.len(),
            });
        }
        // The offset of a mapping must be a multiple of the file's page, which on hugetlbfs is
        // its block size; elsewhere a block size beyond a page means nothing.
        let is_huge = file_system_of(file) == libc::HUGETLBFS_MAGIC;
        let page_bytes = if is_huge { metadata.blksize() } else { 4096 };
        let lead = spec.file_offset % page_bytes;
        let mapping_bytes = (lead + spec.bytes).next_multiple_of(page_bytes) as usize;
        let mapping = map_shared(file, spec.file_offset - lead, mapping_bytes)
            .map_err(GuestMemoryError::Map)?;
        let mut region = Self { spec, mapping, mapping_bytes, lead: lead as usize, guard: None };
        let start = mapping.as_ptr() as usize;
        region.guard = Registration::new(start, mapping_bytes, page_bytes as usize);
        if region.guard.is_none() {
            return Err(GuestMemoryError::Table);
        }
        Ok(region)
    }

    /// What the front-end said of it.
    pub(crate) fn spec(&self) -> &RegionSpec {
        &self.spec
    }

    /// Returns true if the file has become shorter than the region, as far as accesses have shown.
    pub(crate) fn is_truncated(&self) -> bool {
        self.guard.as_ref().is_some_and(Registration::faulted)
    }

    /// The region's bytes, one by one, for what is written by others at the same time.
    pub(super) fn bytes(&self) -> &[AtomicU8] {
        // SAFETY: `lead` and the region's bytes lie within the mapping, which `self` keeps and
        // which can be written to; atomics may change under their references. A file holds no more
        // than `i64::MAX` bytes, and a byte is aligned anywhere.
        unsafe {
            let first = self.mapping.as_ptr().cast::<AtomicU8>().add(self.lead);
            std::slice::from_raw_parts(first, self.spec.bytes as usize)
        }
    }

    /// Bytes from an offset on, at most so many; `None` if there is not even one.
    #[inline]
    fn slice(&self, offset: u64, most: usize) -> Option<VolatileSlice<'_>> {
        let room = self.spec.bytes.checked_sub(offset).filter(|room| *room > 0)? as usize;
        // SAFETY: `lead` and the region's bytes lie within the mapping, which `self` keeps and
        // which can be written to; `offset` and the length were just found to lie within the
        // region.
        Some(unsafe {
            let first = self.mapping.as_ptr().cast::<u8>().add(self.lead + offset as usize);
            VolatileSlice::new(first, most.min(room))
        })
    }

    /// First address behind the region; that it is none beyond all was checked.
    fn guest_end(&self) -> u64 {
        self.spec.guest_address + self.spec.bytes
    }
}

impl Drop for MappedRegion {
    fn drop(&mut self) {
        // The registration ends first: the address may belong to another mapping right after.
        self.guard = None;
        // SAFETY: mapped by `map`, and nothing made from it lives longer than `self`.
        unsafe { libc::munmap(self.mapping.as_ptr(), self.mapping_bytes) };
    }
}

/// Magic number of the file system that a file lies on; 0 if that cannot be said.
fn file_system_of(file: &File) -> libc::__fsword_t {
    let mut info = std::mem::MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: the descriptor is open, `info` is a place to write to.
    let ok = unsafe { libc::fstatfs(file.as_raw_fd(), info.as_mut_ptr()) } == 0;
    // SAFETY: zeroed, which is a valid value, and filled in by the call if it succeeded.
    if ok { unsafe { info.assume_init() }.f_type } else { 0 }
}

fn map_shared(file: &File, offset: u64, bytes: usize) -> std::io::Result<NonNull<libc::c_void>> {
    let offset = i64::try_from(offset).map_err(|_| std::io::ErrorKind::InvalidInput)?;
    // SAFETY: a new mapping at an address of the kernel's choice; the result is checked.
    let address = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_NORESERVE,
            file.as_raw_fd(),
            offset,
        )
    };
    if address == libc::MAP_FAILED {
        return Err(std::io::Error::last_os_error());
    }
    NonNull::new(address).ok_or_else(|| std::io::ErrorKind::InvalidInput.into())
}

/// All memory of a guest, immutable: a change makes a new one, swapped at a loop boundary.
#[derive(Debug)]
pub(crate) struct GuestMemory {
    /// By address; none overlaps the next.
    regions: Vec<Arc<MappedRegion>>,
}

impl GuestMemory {
    /// Puts regions together.
    ///
    /// # Errors
    /// None, too many, overlapping ones, or one that begins within a page.
    pub(crate) fn new(regions: &[Arc<MappedRegion>]) -> Result<Self, GuestMemoryError> {
        if regions.is_empty() || regions.len() > MAX_REGIONS {
            return Err(GuestMemoryError::Table);
        }
        if let Some(askew) = regions.iter().find(|region| region.lead % PAGE_BYTES != 0) {
            return Err(GuestMemoryError::Impossible(askew.spec));
        }
        let mut regions = regions.to_vec();
        regions.sort_by_key(|region| region.spec.guest_address);
        let overlap = |pair: &[Arc<MappedRegion>]| pair[0].guest_end() > pair[1].spec.guest_address;
        if regions.windows(2).any(overlap) {
            return Err(GuestMemoryError::Table);
        }
        Ok(Self { regions })
    }

    /// Bytes from a guest-physical address on that lie together, at most so many; `None` if not
    /// even the first is memory.
    #[inline]
    pub(super) fn piece(&self, address: u64, most: usize) -> Option<VolatileSlice<'_>> {
        let after = self.regions.partition_point(|region| region.spec.guest_address <= address);
        let region = self.regions.get(after.checked_sub(1)?)?;
        region.slice(address - region.spec.guest_address, most)
    }

    /// Returns true if all of a range is memory.
    #[inline]
    pub(super) fn holds(&self, address: u64, bytes: usize) -> bool {
        // It nearly always lies in one region.
        self.piece(address, bytes).is_some_and(|piece| piece.len() == bytes)
            || self.pieces(address, bytes).all(|piece| piece.is_ok())
    }

    #[inline]
    fn pieces(&self, address: u64, bytes: usize) -> Pieces<'_> {
        Pieces { memory: self, address, left: bytes }
    }

    /// Returns true if a file was truncated under a region.
    pub(crate) fn is_truncated(&self) -> bool {
        self.regions.iter().any(|region| region.is_truncated())
    }

    /// Guest-physical address of an address in the front-end's own space; `None` if that is no
    /// memory.
    pub(crate) fn guest_address(&self, user_address: u64) -> Option<u64> {
        let within = |r: &&Arc<MappedRegion>| {
            user_address.checked_sub(r.spec.user_address).is_some_and(|off| off < r.spec.bytes)
        };
        let region = self.regions.iter().find(within)?;
        Some(region.spec.guest_address + (user_address - region.spec.user_address))
    }
}

impl vm_memory::GuestMemory for GuestMemory {
    /// Never handed out: callers need not know what this is made of.
    type PhysicalMemory = GuestMemoryMmap<()>;
    type Bitmap = ();

    #[inline]
    fn check_range(&self, address: GuestAddress, count: usize, _access: Permissions) -> bool {
        self.holds(address.0, count)
    }

    #[inline]
    fn get_slices<'a>(
        &'a self,
        address: GuestAddress,
        count: usize,
        _access: Permissions,
    ) -> Result<impl GuestMemorySliceIterator<'a, ()>, AccessError> {
        Ok(self.pieces(address.0, count))
    }
}

/// A range of guest memory, piece by piece; ends behind the first that is not memory.
struct Pieces<'a> {
    memory: &'a GuestMemory,
    address: u64,
    left: usize,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Result<VolatileSlice<'a>, AccessError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let Some(piece) = self.memory.piece(self.address, self.left) else {
            self.left = 0;
            return Some(Err(AccessError::InvalidGuestAddress(GuestAddress(self.address))));
        };
        self.left -= piece.len();
        // No region reaches beyond the last address.
        self.address += piece.len() as u64;
        Some(Ok(piece))
    }
}

impl std::iter::FusedIterator for Pieces<'_> {}

impl<'a> GuestMemorySliceIterator<'a, ()> for Pieces<'a> {}

#[cfg(test)]
mod tests;

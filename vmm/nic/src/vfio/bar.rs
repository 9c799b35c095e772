//! BAR 0: all of it for the VMM, and for the domain what [`shared_ring::bar_map`] grants.
//!
//! Its addresses in the VMM are the same for the whole life of the program. What is behind them
//! comes and goes with the device: without one they read as all ones, as an empty slot of the bus
//! does, so that nobody who reads a register needs to ask first.

use std::ops::Range;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;

use shared_ring::bar_map::DOMAIN_RANGES;
use shared_ring::layout::BAR_BYTES;
use vfio_bindings::bindings::vfio::{VFIO_PCI_BAR0_REGION_INDEX, VFIO_REGION_INFO_FLAG_MMAP};
use vfio_ioctls::VfioDevice;

use super::error::VfioError;
use crate::interface::{BarPages, BarRegisters};

/// The place of BAR 0, of [`BAR_BYTES`].
pub(super) struct Bar {
    base: NonNull<u8>,
}

// SAFETY: device registers; every access is one aligned volatile load or store, and the NIC orders
// what arrives from several threads.
unsafe impl Send for Bar {}
// SAFETY: as above.
unsafe impl Sync for Bar {}

impl Bar {
    /// A place without a device.
    pub(super) fn empty(name: &str) -> Result<Self, VfioError> {
        Ok(Self { base: map_all_ones(name)? })
    }

    /// Puts BAR 0 of a device in its place.
    pub(super) fn attach(&self, name: &str, device: &VfioDevice) -> Result<(), VfioError> {
        let bytes = device.get_region_size(VFIO_PCI_BAR0_REGION_INDEX);
        let flags = device.get_region_flags(VFIO_PCI_BAR0_REGION_INDEX);
        let mappable = flags & VFIO_REGION_INFO_FLAG_MMAP != 0;
        if !mappable || bytes < BAR_BYTES {
            return Err(VfioError::Bar { name: name.to_owned(), bytes, mappable });
        }
        let offset = device.get_region_offset(VFIO_PCI_BAR0_REGION_INDEX) as libc::off_t;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let fd = device.as_raw_fd();
        // SAFETY: a fresh mapping at an address of the kernel's choice; the result is checked.
        let fresh = unsafe {
            libc::mmap(std::ptr::null_mut(), LEN, protection, libc::MAP_SHARED, fd, offset)
        };
        self.put(mapped(name, fresh)?, name)
    }

    /// Takes the device away; all ones are left.
    pub(super) fn detach(&self, name: &str) -> Result<(), VfioError> {
        self.put(map_all_ones(name)?, name)
    }

    /// Moves a mapping to the place of this one, which ends. Whoever reads or writes meanwhile meets
    /// the one or the other.
    fn put(&self, fresh: NonNull<u8>, name: &str) -> Result<(), VfioError> {
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        // SAFETY: both are mappings of this length; `fresh` is nobody else's, and what was at the
        // other's address is only ever accessed there.
        let moved =
            unsafe { libc::mremap(fresh.as_ptr().cast(), LEN, LEN, flags, self.base.as_ptr()) };
        mapped(name, moved).map(|_| ())
    }

    /// The parts that a domain may touch.
    pub(super) fn domain_pages(&self) -> Vec<BarPages> {
        domain_pages(self.base.as_ptr() as u64)
    }

    #[inline]
    fn register(&self, offset: u32) -> *mut u32 {
        let offset = offset as usize;
        assert!(offset.is_multiple_of(4) && offset < LEN, "no register {offset:#x}");
        // SAFETY: within the mapping, as just checked.
        unsafe { self.base.as_ptr().add(offset).cast() }
    }
}

const LEN: usize = BAR_BYTES as usize;

/// Memory that reads as all ones, at an address of the kernel's choice.
fn map_all_ones(name: &str) -> Result<NonNull<u8>, VfioError> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a fresh mapping at an address of the kernel's choice; the result is checked.
    let fresh = unsafe { libc::mmap(std::ptr::null_mut(), LEN, protection, flags, -1, 0) };
    let fresh = mapped(name, fresh)?;
    // SAFETY: fresh memory of this length, which nobody else knows yet.
    unsafe { fresh.as_ptr().write_bytes(0xff, LEN) };
    Ok(fresh)
}

/// Checks what mmap or mremap returned.
fn mapped(name: &str, base: *mut libc::c_void) -> Result<NonNull<u8>, VfioError> {
    match NonNull::new(base.cast()) {
        Some(base) if base.as_ptr() != libc::MAP_FAILED.cast() => Ok(base),
        _ => Err(VfioError::System {
            name: name.to_owned(),
            what: "map its BAR 0",
            source: std::io::Error::last_os_error(),
        }),
    }
}

/// What a domain may touch of a BAR that is mapped whole at `host_base`.
fn domain_pages(host_base: u64) -> Vec<BarPages> {
    let pages = |range: Range<u64>| BarPages {
        offset: range.start,
        host_address: host_base + range.start,
        len: range.end - range.start,
    };
    DOMAIN_RANGES.map(pages).into()
}

impl BarRegisters for Bar {
    fn read(&self, offset: u32) -> u32 {
        // SAFETY: an aligned register within the mapping, which lives as long as `self`.
        u32::from_le(unsafe { self.register(offset).read_volatile() })
    }

    fn write(&self, offset: u32, value: u32) {
        // SAFETY: as above.
        unsafe { self.register(offset).write_volatile(value.to_le()) }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        // SAFETY: the mapping at this place, which nothing uses any more. (A domain's memslot on it
        // is the domain's to remove first; KVM drops one whose memory is gone.)
        unsafe { libc::munmap(self.base.as_ptr().cast(), LEN) };
    }
}

#[cfg(test)]
mod tests {
    use shared_ring::bar_map::is_domains;
    use shared_ring::layout::PAGE_BYTES;

    use super::*;

    #[test]
    fn an_empty_place_reads_as_all_ones_again_and_again() {
        let bar = Bar::empty("test").unwrap();
        for _ in 0..3 {
            assert_eq!((bar.read(8), bar.read(BAR_BYTES as u32 - 4)), (u32::MAX, u32::MAX));
            let before = bar.domain_pages()[0].host_address;
            bar.write(8, 0);
            bar.detach("test").unwrap();
            assert_eq!(bar.domain_pages()[0].host_address, before, "the place stays");
        }
    }

    #[test]
    fn a_domain_gets_the_pages_that_are_its_own_and_no_others() {
        const HOST_BASE: u64 = 0x7f00_0000_0000;
        let parts = domain_pages(HOST_BASE);
        for page in (0..BAR_BYTES).step_by(PAGE_BYTES as usize) {
            let part =
                parts.iter().find(|part| (part.offset..part.offset + part.len).contains(&page));
            assert_eq!(part.is_some(), is_domains(page), "page {page:#x}");
            assert!(part.is_none_or(|part| part.host_address == HOST_BASE + part.offset));
        }
        assert!(parts.iter().all(|part| (part.offset | part.len) % PAGE_BYTES == 0));
    }
}

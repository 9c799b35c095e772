//! BAR 0: all of it for the VMM, and for the domain what [`shared_ring::bar_map`] grants.

use std::ops::Range;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;

use shared_ring::bar_map::DOMAIN_RANGES;
use shared_ring::layout::BAR_BYTES;
use vfio_bindings::bindings::vfio::{VFIO_PCI_BAR0_REGION_INDEX, VFIO_REGION_INFO_FLAG_MMAP};
use vfio_ioctls::VfioDevice;

use super::error::VfioError;
use crate::interface::{BarPages, BarRegisters};

/// A mapping of BAR 0, of [`BAR_BYTES`].
pub(super) struct Bar {
    base: NonNull<u8>,
}

// SAFETY: device registers; every access is one aligned volatile load or store, and the NIC orders
// what arrives from several threads.
unsafe impl Send for Bar {}
// SAFETY: as above.
unsafe impl Sync for Bar {}

impl Bar {
    /// Maps BAR 0 of a device.
    pub(super) fn map(name: &str, device: &VfioDevice) -> Result<Self, VfioError> {
        let bytes = device.get_region_size(VFIO_PCI_BAR0_REGION_INDEX);
        let flags = device.get_region_flags(VFIO_PCI_BAR0_REGION_INDEX);
        let mappable = flags & VFIO_REGION_INFO_FLAG_MMAP != 0;
        if !mappable || bytes < BAR_BYTES {
            return Err(VfioError::Bar { name: name.to_owned(), bytes, mappable });
        }
        let offset = device.get_region_offset(VFIO_PCI_BAR0_REGION_INDEX) as libc::off_t;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let (len, fd) = (BAR_BYTES as usize, device.as_raw_fd());
        // SAFETY: a fresh mapping at an address of the kernel's choice; the result is checked.
        let base = unsafe {
            libc::mmap(std::ptr::null_mut(), len, protection, libc::MAP_SHARED, fd, offset)
        };
        match NonNull::new(base.cast()) {
            Some(base) if base.as_ptr() != libc::MAP_FAILED.cast() => Ok(Self { base }),
            _ => Err(VfioError::System {
                name: name.to_owned(),
                what: "map its BAR 0",
                source: std::io::Error::last_os_error(),
            }),
        }
    }

    /// The parts that a domain may touch.
    pub(super) fn domain_pages(&self) -> Vec<BarPages> {
        domain_pages(self.base.as_ptr() as u64)
    }

    #[inline]
    fn register(&self, offset: u32) -> *mut u32 {
        let offset = offset as usize;
        assert!(offset.is_multiple_of(4) && offset < BAR_BYTES as usize, "no register {offset:#x}");
        // SAFETY: within the mapping, as just checked.
        unsafe { self.base.as_ptr().add(offset).cast() }
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
        // SAFETY: the mapping made in `map`, which nothing uses any more. (A domain's memslot on it
        // is the domain's to remove first; KVM drops one whose memory is gone.)
        unsafe { libc::munmap(self.base.as_ptr().cast(), BAR_BYTES as usize) };
    }
}

#[cfg(test)]
mod tests {
    use shared_ring::bar_map::is_domains;
    use shared_ring::layout::PAGE_BYTES;

    use super::*;

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

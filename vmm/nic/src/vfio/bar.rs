//! BAR 0: all of it for the VMM, most of it for the domain.

use std::os::fd::AsRawFd;
use std::ptr::NonNull;

use shared_ring::layout::{BAR_BYTES, PAGE_BYTES};
use vfio_bindings::bindings::vfio::{VFIO_PCI_BAR0_REGION_INDEX, VFIO_REGION_INFO_FLAG_MMAP};
use vfio_ioctls::VfioDevice;

use super::error::VfioError;
use crate::{BarPages, BarRegisters};

/// The page of the statistics, which clear on read: the VMM's alone.
const STATISTICS_PAGE: u64 = 0x4000;
/// From here on flash and iNVM: no domain rewrites a NIC's firmware.
const FLASH_BASE: u64 = 0x1_2000;

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
        let host = self.base.as_ptr() as u64;
        domain_ranges()
            .map(|(offset, len)| BarPages { offset, host_address: host + offset, len })
            .into()
    }

    fn register(&self, offset: u32) -> *mut u32 {
        let offset = offset as usize;
        assert!(offset.is_multiple_of(4) && offset < BAR_BYTES as usize, "no register {offset:#x}");
        // SAFETY: within the mapping, as just checked.
        unsafe { self.base.as_ptr().add(offset).cast() }
    }
}

/// Offset and length of what a domain may touch.
fn domain_ranges() -> [(u64, u64); 2] {
    let above = STATISTICS_PAGE + PAGE_BYTES;
    [(0, STATISTICS_PAGE), (above, FLASH_BASE - above)]
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
    use super::*;

    #[test]
    fn a_domain_reaches_neither_statistics_nor_flash() {
        let reaches = |page: u64| {
            domain_ranges().iter().any(|(offset, len)| (*offset..offset + len).contains(&page))
        };
        for page in (0..BAR_BYTES).step_by(PAGE_BYTES as usize) {
            let forbidden = page == 0x4000 || page >= 0x1_2000;
            assert_eq!(reaches(page), !forbidden, "page {page:#x}");
        }
        assert!(domain_ranges().iter().all(|(offset, len)| (offset | len) % PAGE_BYTES == 0));
    }
}

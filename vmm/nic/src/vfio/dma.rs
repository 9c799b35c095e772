//! What the NIC may reach: entries of its IOMMU page table.

use std::sync::{Arc, Mutex, PoisonError};

use vfio_bindings::bindings::vfio::{
    VFIO_BASE, VFIO_DMA_MAP_FLAG_READ, VFIO_DMA_MAP_FLAG_WRITE, VFIO_TYPE, vfio_iommu_type1_dma_map,
};
use vfio_ioctls::VfioContainer;
use vmm_sys_util::ioctl::ioctl_with_ref;
use vmm_sys_util::ioctl_io_nr;

use super::error::VfioError;
use crate::discovery::PINNED_KIB;
use crate::interface::{DmaAccess, DmaArea};
use crate::obstacle::Obstacle;

ioctl_io_nr!(VFIO_IOMMU_MAP_DMA, VFIO_TYPE as u32, VFIO_BASE + 13);

/// The mappings of one container. They go when it goes, and their memory not before.
pub(super) struct DmaMappings {
    name: String,
    container: Arc<VfioContainer>,
    memlock_limit_kib: Option<u64>,
    areas: Mutex<Vec<DmaArea>>,
}

impl DmaMappings {
    pub(super) fn new(
        name: &str,
        container: Arc<VfioContainer>,
        memlock_limit_kib: Option<u64>,
    ) -> Self {
        let areas = Mutex::new(Vec::new());
        Self { name: name.to_owned(), container, memlock_limit_kib, areas }
    }

    /// Maps an area. The same area again is fine: domains that share a NIC share the transmit pool.
    pub(super) fn add(&self, area: &DmaArea) -> Result<(), VfioError> {
        let mut areas = self.areas.lock().unwrap_or_else(PoisonError::into_inner);
        let inside = area.offset.checked_add(area.len).is_some_and(|end| end <= area.memory.len());
        if !inside || area.iova.checked_add(area.len).is_none() {
            return Err(VfioError::Area { name: self.name.clone(), iova: area.iova });
        }
        match areas.iter().find(|mapped| overlap(mapped, area)) {
            Some(mapped) if mapped.is_same(area) => return Ok(()),
            Some(_) => {
                let (iova, len) = (area.iova, area.len);
                return Err(VfioError::Overlap { name: self.name.clone(), iova, len });
            }
            None => {}
        }
        self.map(area)?;
        areas.push(area.clone());
        Ok(())
    }

    /// The raw call: `vfio-ioctls` 0.10 maps everything writable.
    fn map(&self, area: &DmaArea) -> Result<(), VfioError> {
        let flags = match area.access {
            DmaAccess::Read => VFIO_DMA_MAP_FLAG_READ,
            DmaAccess::ReadWrite => VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
        };
        let request = vfio_iommu_type1_dma_map {
            argsz: size_of::<vfio_iommu_type1_dma_map>() as u32,
            flags,
            vaddr: area.memory.host_address() + area.offset,
            iova: area.iova,
            size: area.len,
        };
        // SAFETY: the request is whole; the memory is shared memory, touched by volatile and atomic
        // accesses only, and kept mapped by `areas` until the container is gone.
        if unsafe { ioctl_with_ref(&*self.container, VFIO_IOMMU_MAP_DMA(), &request) } == 0 {
            return Ok(());
        }
        let source = std::io::Error::last_os_error();
        Err(match (source.raw_os_error(), self.memlock_limit_kib) {
            (Some(libc::ENOMEM), Some(limit_kib)) => {
                VfioError::Obstacle(Obstacle::Memlock { need_kib: PINNED_KIB, limit_kib })
            }
            _ => VfioError::System { name: self.name.clone(), what: "map memory for DMA", source },
        })
    }
}

impl Drop for DmaMappings {
    fn drop(&mut self) {
        debug_assert_eq!(Arc::strong_count(&self.container), 1, "the device goes first");
    }
}

fn overlap(a: &DmaArea, b: &DmaArea) -> bool {
    a.iova < b.iova + b.len && b.iova < a.iova + a.len
}

#[cfg(test)]
mod tests {
    use super::*;
    use platform::memory::SharedMemory;

    fn area(iova: u64, memory: &Arc<SharedMemory>) -> DmaArea {
        let memory = memory.clone();
        DmaArea { iova, memory, offset: 0, len: 0x2000, access: DmaAccess::Read }
    }

    #[test]
    fn areas_overlap_where_they_share_an_address() {
        let memory = Arc::new(SharedMemory::new(c"test", 0x4000).unwrap());
        let first = area(0x1000, &memory);
        for (iova, expected) in [(0, true), (0x1000, true), (0x2000, true), (0x3000, false)] {
            assert_eq!(overlap(&first, &area(iova, &memory)), expected, "{iova:#x}");
        }
    }

    #[test]
    fn only_the_same_memory_and_access_is_the_same_area() {
        let memory = Arc::new(SharedMemory::new(c"test", 0x4000).unwrap());
        let other = Arc::new(SharedMemory::new(c"test", 0x4000).unwrap());
        let first = area(0x1000, &memory);
        assert!(first.is_same(&first.clone()));
        assert!(!first.is_same(&area(0x1000, &other)));
        let writable = DmaArea { access: DmaAccess::ReadWrite, ..first.clone() };
        assert!(!first.is_same(&writable));
    }
}

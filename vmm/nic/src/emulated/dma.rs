//! The NIC's way to memory: exactly the areas that the VMM mapped, as behind an IOMMU.

use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use shared_ring::layout::PAGE_BYTES;

use crate::interface::{DmaAccess, DmaArea};
use platform::memory::SharedShape;

/// An access outside the mapped areas, or a write to one that is read only. Memory is untouched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DmaFault;

/// A descriptor: two little-endian words.
pub(super) type Descriptor = [u64; 2];

/// The areas that the NIC reaches, and how often it reached for anything else.
pub(super) struct DmaWindow {
    areas: RwLock<Vec<DmaArea>>,
    faults: AtomicU64,
}

impl DmaWindow {
    pub(super) fn new() -> Self {
        Self { areas: RwLock::new(Vec::new()), faults: AtomicU64::new(0) }
    }

    /// Adds areas, all or none. The same area again is fine: domains that share a NIC share the
    /// transmit pool.
    ///
    /// # Errors
    /// An area is not made of whole pages, lies outside its memory, or overlaps another.
    pub(super) fn add(&self, areas: &[DmaArea]) -> io::Result<()> {
        let wrong = |what| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        let mut mapped = self.areas.write().unwrap_or_else(PoisonError::into_inner);
        let mut all = mapped.clone();
        for area in areas {
            let whole_pages = [area.iova, area.offset, area.len].map(|n| n % PAGE_BYTES) == [0; 3];
            if !whole_pages || area.len == 0 {
                return wrong("a DMA area that is not made of whole pages");
            }
            let memory_end = area.offset.checked_add(area.len);
            if area.iova.checked_add(area.len).is_none()
                || memory_end.is_none_or(|end| end > area.memory.len())
            {
                return wrong("a DMA area that lies outside its memory");
            }
            let overlaps = |other: &DmaArea| {
                area.iova < other.iova + other.len && other.iova < area.iova + area.len
            };
            if all.iter().any(|other| other.is_same(area)) {
                continue;
            }
            if all.iter().any(overlaps) {
                return wrong("DMA areas that overlap");
            }
            all.push(area.clone());
        }
        *mapped = all;
        Ok(())
    }

    /// The window as it is now, for one turn of the engine.
    pub(super) fn view(&self) -> DmaView<'_> {
        let areas = self.areas.read().unwrap_or_else(PoisonError::into_inner);
        DmaView { areas, faults: &self.faults }
    }

    /// Accesses that hit nothing.
    pub(super) fn faults(&self) -> u64 {
        self.faults.load(Ordering::Relaxed)
    }
}

/// Access to the mapped areas. While it lives, they do not change.
pub(super) struct DmaView<'a> {
    areas: RwLockReadGuard<'a, Vec<DmaArea>>,
    faults: &'a AtomicU64,
}

impl DmaView<'_> {
    /// Copies from memory to the chip.
    pub(super) fn read(&self, iova: u64, to: &mut [u8]) -> Result<(), DmaFault> {
        self.check(iova, to.len(), DmaAccess::Read)?;
        let mut done = 0;
        while done < to.len() {
            let (area, offset, run) = self.locate(iova + done as u64, DmaAccess::Read)?;
            let part = run.min(to.len() - done);
            area.memory.read(offset, &mut to[done..done + part]).map_err(|_| DmaFault)?;
            done += part;
        }
        Ok(())
    }

    /// Copies from the chip to memory.
    pub(super) fn write(&self, iova: u64, from: &[u8]) -> Result<(), DmaFault> {
        self.check(iova, from.len(), DmaAccess::ReadWrite)?;
        let mut done = 0;
        while done < from.len() {
            let (area, offset, run) = self.locate(iova + done as u64, DmaAccess::ReadWrite)?;
            let part = run.min(from.len() - done);
            area.memory.write(offset, &from[done..done + part]).map_err(|_| DmaFault)?;
            done += part;
        }
        Ok(())
    }

    /// Reads a descriptor, which is aligned.
    pub(super) fn read_descriptor(&self, iova: u64) -> Result<Descriptor, DmaFault> {
        let word = |at| self.shape::<AtomicU64>(at, DmaAccess::Read);
        let low = word(Some(iova))?.load(Ordering::Acquire);
        let high = word(iova.checked_add(8))?.load(Ordering::Acquire);
        Ok([u64::from_le(low), u64::from_le(high)])
    }

    /// Writes a descriptor back. The second word, with the done bit, is seen last.
    pub(super) fn write_descriptor(&self, iova: u64, to: Descriptor) -> Result<(), DmaFault> {
        let low = self.shape::<AtomicU64>(Some(iova), DmaAccess::ReadWrite)?;
        low.store(to[0].to_le(), Ordering::Relaxed);
        self.write_descriptor_status(iova, to[1])
    }

    /// Writes the second word of a descriptor back.
    pub(super) fn write_descriptor_status(&self, iova: u64, to: u64) -> Result<(), DmaFault> {
        let high = self.shape::<AtomicU64>(iova.checked_add(8), DmaAccess::ReadWrite)?;
        high.store(to.to_le(), Ordering::Release);
        Ok(())
    }

    /// Writes an aligned word of 32 bits: the head that is written back.
    pub(super) fn write_u32(&self, iova: u64, to: u32) -> Result<(), DmaFault> {
        let word = self.shape::<AtomicU32>(Some(iova), DmaAccess::ReadWrite)?;
        word.store(to.to_le(), Ordering::Release);
        Ok(())
    }

    fn shape<T: SharedShape>(&self, iova: Option<u64>, access: DmaAccess) -> Result<&T, DmaFault> {
        let found = iova.and_then(|iova| {
            let (area, offset, run) = self.find(iova, access)?;
            if run < size_of::<T>() { None } else { area.memory.shape(offset).ok() }
        });
        found.ok_or_else(|| self.fault())
    }

    /// Checks a whole access before any of it happens.
    fn check(&self, iova: u64, len: usize, access: DmaAccess) -> Result<(), DmaFault> {
        let mut checked = 0;
        while checked < len {
            let at = iova.checked_add(checked as u64).ok_or_else(|| self.fault())?;
            let (_, _, run) = self.locate(at, access)?;
            checked += run.min(len - checked);
        }
        Ok(())
    }

    fn locate(&self, iova: u64, access: DmaAccess) -> Result<(&DmaArea, u64, usize), DmaFault> {
        self.find(iova, access).ok_or_else(|| self.fault())
    }

    /// The area at `iova`, the offset in its memory, and how many bytes follow in it.
    fn find(&self, iova: u64, access: DmaAccess) -> Option<(&DmaArea, u64, usize)> {
        let area =
            self.areas.iter().find(|area| (area.iova..area.iova + area.len).contains(&iova))?;
        if access == DmaAccess::ReadWrite && area.access == DmaAccess::Read {
            return None;
        }
        let into = iova - area.iova;
        Some((area, area.offset + into, (area.len - into) as usize))
    }

    fn fault(&self) -> DmaFault {
        self.faults.fetch_add(1, Ordering::Relaxed);
        DmaFault
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use platform::memory::SharedMemory;

    const PAGE: u64 = PAGE_BYTES;

    fn area(memory: &Arc<SharedMemory>, iova: u64, page: u64, access: DmaAccess) -> DmaArea {
        DmaArea { iova, memory: memory.clone(), offset: page * PAGE, len: PAGE, access }
    }

    /// Page 1 of the memory at 0x10000, page 3 right behind it, page 2 read only at 0x20000.
    fn window() -> (Arc<SharedMemory>, DmaWindow) {
        let memory = Arc::new(SharedMemory::new(c"dma", 4 * PAGE).unwrap());
        let window = DmaWindow::new();
        let areas = [
            area(&memory, 0x1_0000, 1, DmaAccess::ReadWrite),
            area(&memory, 0x1_1000, 3, DmaAccess::ReadWrite),
            area(&memory, 0x2_0000, 2, DmaAccess::Read),
        ];
        window.add(&areas).unwrap();
        (memory, window)
    }

    #[test]
    fn accesses_go_where_the_areas_point_also_across_their_border() {
        let (memory, window) = window();
        window.view().write(0x1_0ffe, &[1, 2, 3, 4]).unwrap();
        let (mut before, mut behind) = ([0; 2], [0; 2]);
        memory.read(2 * PAGE - 2, &mut before).unwrap();
        memory.read(3 * PAGE, &mut behind).unwrap();
        assert_eq!((before, behind), ([1, 2], [3, 4]));
        let mut back = [0; 4];
        window.view().read(0x1_0ffe, &mut back).unwrap();
        assert_eq!(back, [1, 2, 3, 4]);
    }

    #[test]
    fn nothing_outside_is_touched() {
        let (memory, window) = window();
        let view = window.view();
        assert_eq!(view.write(0x1_1fff, &[1, 1]), Err(DmaFault), "beyond the end");
        assert_eq!(view.write(0xffff, &[1, 1]), Err(DmaFault), "before the start");
        assert_eq!(view.write(0x2_0000, &[1]), Err(DmaFault), "read only");
        assert_eq!(view.write(u64::MAX, &[1, 1]), Err(DmaFault));
        assert_eq!(view.read(u64::MAX, &mut [0; 9]), Err(DmaFault));
        assert_eq!(view.read_descriptor(u64::MAX - 7), Err(DmaFault));
        assert_eq!(view.read_descriptor(0x1_0004), Err(DmaFault), "not aligned");
        assert_eq!(view.write_u32(0x2_0000, 1), Err(DmaFault));
        assert_eq!(window.faults(), 8);
        let mut all = vec![0; 4 * PAGE as usize];
        memory.read(0, &mut all).unwrap();
        assert!(all.iter().all(|&byte| byte == 0));
    }

    #[test]
    fn impossible_areas_are_refused() {
        let (memory, window) = window();
        let good = area(&memory, 0x5000, 0, DmaAccess::Read);
        for wrong in [
            DmaArea { iova: 0x5001, ..good.clone() },
            DmaArea { len: 5 * PAGE, ..good.clone() },
            DmaArea { len: 0, ..good.clone() },
            DmaArea { offset: u64::MAX - PAGE + 1, ..good.clone() },
            DmaArea { iova: u64::MAX - PAGE + 1, ..good.clone() },
        ] {
            assert!(window.add(&[wrong]).is_err());
        }
        // The same again is fine, other memory at the same place is not.
        assert!(window.add(&[good.clone(), good.clone()]).is_ok());
        let access = match good.access {
            DmaAccess::Read => DmaAccess::ReadWrite,
            DmaAccess::ReadWrite => DmaAccess::Read,
        };
        assert!(window.add(&[DmaArea { access, ..good }]).is_err());
        assert!(window.view().read(0x1_0000, &mut [0]).is_ok(), "a refusal changes nothing");
    }
}

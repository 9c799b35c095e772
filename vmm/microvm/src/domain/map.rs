//! What a domain's program may see, as the memory map of [`shared_ring::layout`] promises.

use std::ops::Range;

use shared_ring::ABI_VERSION;
use shared_ring::bar_map;
use shared_ring::layout::{self, BAR_BASE, PAGE_BYTES};

use super::error::LifeError;
use super::slot::DomainSlot;
use crate::kvm::{Image, Mapping, MemSlot, Protection, SegmentProtection};
use nic::{BarAccess, BarPages};

/// Checks that an image is a domain's, of this program's ABI version, and fits the memory map.
///
/// # Errors
/// It is not; the message names what it is instead.
pub fn check_image(image: &Image) -> Result<(), LifeError> {
    let note = image.note().ok_or(LifeError::NoNote)?;
    if note.abi_version != ABI_VERSION {
        return Err(LifeError::AbiVersion { image: note.abi_version });
    }
    let area = layout::IMAGE_BASE..layout::IMAGE_BASE + layout::IMAGE_BYTES;
    for segment in image.segments() {
        let end = segment.address.saturating_add(segment.len);
        if segment.address < area.start || end > area.end {
            return Err(LifeError::Layout { address: segment.address, len: segment.len });
        }
    }
    Ok(())
}

/// Everything of RAM that a domain sees beside its image.
const RAM_MAPPINGS: [Mapping; 6] = {
    const fn span(address: u64, end: u64, protection: Protection) -> Mapping {
        Mapping { address, len: end - address, protection, uncached: false }
    }
    use Protection::{ReadOnly, ReadWrite};
    [
        span(layout::STACK_BASE, layout::STACK_TOP, ReadWrite),
        span(layout::CONTROL_BASE, layout::CONTROL_BASE + PAGE_BYTES, ReadOnly),
        // Status, receive slots, log.
        span(layout::STATUS_BASE, layout::LOG_BASE + layout::LOG_BYTES, ReadWrite),
        span(layout::TX_POST_BASE, layout::TX_DONE_BASE, ReadOnly),
        span(layout::TX_DONE_BASE, layout::DMA_BASE + layout::DMA_BYTES, ReadWrite),
        span(layout::RX_POOL_BASE, layout::RAM_BYTES, ReadWrite),
    ]
};

/// A piece of a domain's RAM, and what its program may do there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryArea {
    /// Guest address of its first byte.
    pub address: u64,
    /// Bytes, whole pages.
    pub len: u64,
    /// Loads.
    pub read: bool,
    /// Stores.
    pub write: bool,
    /// Instruction fetches.
    pub execute: bool,
}

/// All of RAM that a domain with this image uses, in order of address: what its program sees, and
/// the system area, which it does not.
pub fn memory_areas(image: &Image) -> Vec<MemoryArea> {
    let area = |address, len: u64, [read, write, execute]: [bool; 3]| {
        let len = len.next_multiple_of(PAGE_BYTES);
        MemoryArea { address, len, read, write, execute }
    };
    let mut areas = vec![area(layout::SYSTEM_BASE, layout::SYSTEM_BYTES, [false; 3])];
    areas.extend(image.segments().iter().map(|segment| {
        let rights = match segment.protection {
            SegmentProtection::ReadExecute => [true, false, true],
            SegmentProtection::ReadOnly => [true, false, false],
            SegmentProtection::ReadWrite => [true, true, false],
        };
        area(segment.address, segment.len, rights)
    }));
    areas.extend(RAM_MAPPINGS.iter().map(|mapping| {
        let write = mapping.protection == Protection::ReadWrite;
        area(mapping.address, mapping.len, [true, write, false])
    }));
    areas
}

/// All mappings of a domain with this NIC.
pub(super) fn mappings(slot: &DomainSlot) -> Vec<Mapping> {
    let mut mappings = RAM_MAPPINGS.to_vec();
    mappings.extend(bar_mappings(&slot.nic.bar()));
    mappings
}

/// The registers that a domain sees: of those that trap all that are a domain's, of real ones what
/// the NIC lets it have of these.
fn bar_mappings(bar: &BarAccess<'_>) -> Vec<Mapping> {
    let pages = |range: Range<u64>| range.step_by(PAGE_BYTES as usize);
    let offered: Vec<u64> = match bar {
        BarAccess::Trapped(_) => bar_map::DOMAIN_RANGES.into_iter().flat_map(pages).collect(),
        BarAccess::Mapped(parts) => {
            parts.iter().flat_map(|part| pages(part.offset..part.offset + part.len)).collect()
        }
    };
    let allowed = offered.into_iter().filter(|page| bar_map::is_domains(*page));
    allowed.map(register_page).collect()
}

fn register_page(offset: u64) -> Mapping {
    Mapping {
        address: BAR_BASE + offset,
        len: PAGE_BYTES,
        protection: Protection::ReadWrite,
        uncached: true,
    }
}

/// The memory behind a BAR that is mapped.
pub(super) fn slots(slot: &DomainSlot) -> Vec<MemSlot> {
    match slot.nic.bar() {
        BarAccess::Trapped(_) => Vec::new(),
        BarAccess::Mapped(parts) => parts.iter().map(bar_slot).collect(),
    }
}

fn bar_slot(part: &BarPages) -> MemSlot {
    // SAFETY: a NIC keeps its registers mapped as long as it lives and touches them by volatile
    // accesses only; a life holds its slot, and so the NIC, longer than its micro-VM.
    unsafe { MemSlot::new(BAR_BASE + part.offset, part.host_address, part.len) }
}

#[cfg(test)]
mod tests {
    use shared_ring::layout::BAR_BYTES;

    use super::*;
    use nic::BarRegisters;

    struct NoRegisters;

    impl BarRegisters for NoRegisters {
        fn read(&self, _offset: u32) -> u32 {
            0
        }
        fn write(&self, _offset: u32, _value: u32) {}
    }

    fn seen_pages(bar: &BarAccess<'_>) -> Vec<u64> {
        bar_mappings(bar).iter().map(|mapping| mapping.address - BAR_BASE).collect()
    }

    #[test]
    fn a_domain_sees_the_registers_that_are_its_own_whatever_the_nic_offers() {
        let all = (0..BAR_BYTES).step_by(PAGE_BYTES as usize);
        let own: Vec<u64> = all.filter(|page| bar_map::is_domains(*page)).collect();
        assert_eq!(seen_pages(&BarAccess::Trapped(&NoRegisters)), own);
        let whole_bar = [BarPages { offset: 0, host_address: 0x10_0000, len: BAR_BYTES }];
        assert_eq!(seen_pages(&BarAccess::Mapped(&whole_bar)), own);
    }

    #[test]
    fn registers_that_a_nic_keeps_back_are_not_seen() {
        let one_page = [BarPages { offset: 0x5000, host_address: 0x10_0000, len: PAGE_BYTES }];
        assert_eq!(seen_pages(&BarAccess::Mapped(&one_page)), [0x5000]);
    }
}

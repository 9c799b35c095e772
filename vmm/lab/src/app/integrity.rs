//! The parts of the guest's memory that nothing may write to while it runs, and whether something
//! did.

use app_guest::canary;
use app_guest::layout::{self, PAGE_BYTES};

use super::error::AppError;
use microvm::kvm::{Image, SegmentProtection};
use platform::memory::SharedMemory;

/// Fills the canary area.
pub(super) fn write_canary(ram: &SharedMemory) -> Result<(), AppError> {
    for index in 0..canary::WORDS {
        let address = layout::CANARY_BASE + 8 * index as u64;
        ram.write(address, &canary::word(index).to_ne_bytes())?;
    }
    Ok(())
}

/// The first word of the canary area that is not as it was written.
pub(super) fn damaged_canary(ram: &SharedMemory) -> Result<Option<usize>, AppError> {
    for index in 0..canary::WORDS {
        let mut word = [0; 8];
        ram.read(layout::CANARY_BASE + 8 * index as u64, &mut word)?;
        if u64::from_ne_bytes(word) != canary::word(index) {
            return Ok(Some(index));
        }
    }
    Ok(None)
}

/// The first address of the image's text or constants, or of unused memory, that is not as it was
/// when the guest started.
pub(super) fn damaged_memory(ram: &SharedMemory, image: &Image) -> Result<Option<u64>, AppError> {
    let mut end = layout::IMAGE_BASE;
    for segment in image.segments() {
        if segment.protection != SegmentProtection::ReadWrite
            && let Some(at) = differs(ram, segment.address, &segment.data)?
        {
            return Ok(Some(at));
        }
        end = end.max((segment.address + segment.len).next_multiple_of(PAGE_BYTES));
    }
    let canary_end = layout::CANARY_BASE + layout::CANARY_BYTES;
    let unused = [
        (0, layout::SYSTEM_BASE),
        (layout::STATUS_BASE + PAGE_BYTES, layout::CANARY_BASE),
        (canary_end, layout::STACK_BASE),
        (layout::STACK_TOP, layout::IMAGE_BASE),
        (end, layout::QUEUES_BASE),
    ];
    for (from, to) in unused {
        let zeros = vec![0; to.saturating_sub(from) as usize];
        if let Some(at) = differs(ram, from, &zeros)? {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

fn differs(ram: &SharedMemory, address: u64, expected: &[u8]) -> Result<Option<u64>, AppError> {
    let mut found = vec![0; expected.len()];
    ram.read(address, &mut found)?;
    let place = found.iter().zip(expected).position(|(found, expected)| found != expected);
    Ok(place.map(|place| address + place as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_canary_is_found() {
        let ram = SharedMemory::new(c"test", layout::RAM_BYTES).unwrap();
        write_canary(&ram).unwrap();
        assert_eq!(damaged_canary(&ram).unwrap(), None);
        ram.write(layout::CANARY_BASE + 803, &[0]).unwrap();
        assert_eq!(damaged_canary(&ram).unwrap(), Some(100));
    }

    #[test]
    fn a_store_to_text_or_unused_memory_is_found() {
        let ram = SharedMemory::new(c"test", layout::RAM_BYTES).unwrap();
        let image = Image::parse(guest_images::APP_GUEST).unwrap();
        for segment in image.segments() {
            ram.write(segment.address, &segment.data).unwrap();
        }
        assert_eq!(damaged_memory(&ram, &image).unwrap(), None);
        for address in [layout::IMAGE_BASE + 77, layout::STACK_TOP, layout::QUEUES_BASE - 1, 5] {
            let mut byte = [0];
            ram.read(address, &mut byte).unwrap();
            ram.write(address, &[byte[0] ^ 1]).unwrap();
            assert_eq!(damaged_memory(&ram, &image).unwrap(), Some(address));
            ram.write(address, &byte).unwrap();
        }
    }
}

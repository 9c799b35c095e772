//! Which registers of the NIC a domain may touch: the one list that the VFIO mapping, the page
//! tables of a domain, the trap of an emulated NIC and the driver's test model all follow.
//!
//! BAR 0 of an igb has [`BAR_BYTES`]. A domain has all of it but two parts (sections are those of the
//! i210 datasheet):
//!
//! ```text
//! 0x0_0000  general, interrupts, receive and transmit units         domain
//! 0x0_4000  statistics (§8.18): most clear on read, so a load by
//!           the domain would take counts that the VMM confirms
//!           frames by                                               VMM only
//! 0x0_5000  receive filters, semaphores, queues, per-queue counters  domain
//! 0x1_2000  flash and iNVM access (§8.4)                            VMM only
//! 0x2_0000  end
//! ```
//! Pages are what page tables and memslots can tell apart, so the borders are those of pages, and
//! registers that lead to flash and EEPROM and stand between others are the domain's too: at their
//! old places EEC (0x10), FLA (0x1c), EEMNGCTL (0x1010), EEARBC (0x1024), EEWR (0x102c), FLSWCTL
//! (0x1030), FLSWDATA (0x1034) and FLSWCNT (0x1038). Their pages hold what a driver needs all the
//! time, device control and the interrupt mask. So a driver gone wrong can spoil the NIC for good,
//! where the NIC itself does not protect its flash.

use core::ops::Range;

use crate::layout::{BAR_BYTES, PAGE_BYTES};

/// The statistics, §8.18.
const STATISTICS: Range<u64> = 0x0_4000..0x0_5000;
/// Flash and iNVM access, §8.4, and all that follows.
const FLASH_BASE: u64 = 0x1_2000;

/// What a domain may touch, as offsets in BAR 0, in order; each made of whole pages.
pub const DOMAIN_RANGES: [Range<u64>; 2] = [0..STATISTICS.start, STATISTICS.end..FLASH_BASE];

/// Returns true if a domain may touch the register at this offset in BAR 0.
#[inline]
pub const fn is_domains(offset: u64) -> bool {
    offset < STATISTICS.start || (offset >= STATISTICS.end && offset < FLASH_BASE)
}

const _: () = {
    let [below, above] = DOMAIN_RANGES;
    assert!(below.start == 0 && below.end < above.start && above.end <= BAR_BYTES);
    assert!((below.end | above.start | above.end).is_multiple_of(PAGE_BYTES));
};

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_ranges_hold_exactly_the_registers_that_are_the_domains() {
        for offset in (0..2 * BAR_BYTES).step_by(4) {
            let in_a_range = DOMAIN_RANGES.iter().any(|range| range.contains(&offset));
            assert_eq!(is_domains(offset), in_a_range, "register {offset:#x}");
        }
    }

    #[test]
    fn neither_statistics_nor_the_pages_of_the_flash_are_a_domains() {
        for forbidden in [0x4000, 0x4ffc, 0x1_2000, 0x1_2030, 0x1_fffc, u64::MAX] {
            assert!(!is_domains(forbidden), "register {forbidden:#x}");
        }
        for allowed in [0, 0x3ffc, 0x5000, 0x1_0010, 0x1_1ffc] {
            assert!(is_domains(allowed), "register {allowed:#x}");
        }
    }
}

//! What this driver programs, where a register takes a whole value. Sections are those of the i210
//! datasheet.

pub(crate) use shared_ring::igb_registers::attached::{
    IVAR_MISC, IVAR0, RCTL, RCTL_FILTERS, SRRCTL, TCTL,
};
use shared_ring::igb_registers::{gpie, phy, queue, rxcsum};

/// [`TIPG`](shared_ring::igb_registers::TIPG) for copper at any speed, §8.11.
pub(crate) const TIPG: u32 = 0x0060_1008;
/// [`RXCSUM`](shared_ring::igb_registers::RXCSUM): IP and TCP/UDP checksums are reported.
pub(crate) const RXCSUM: u32 = rxcsum::IPOFL | rxcsum::TUOFL;
/// [`RXDCTL`](shared_ring::igb_registers::RXDCTL): on, prefetch 8, host 8, write back each descriptor
/// at once.
pub(crate) const RXDCTL: u32 = queue::ENABLE | 8 << queue::HOST_THRESHOLD_SHIFT | 8;
/// [`TXDCTL`](shared_ring::igb_registers::TXDCTL): on, prefetch 8, host 1, write back each descriptor
/// at once.
pub(crate) const TXDCTL: u32 = queue::ENABLE | 1 << queue::HOST_THRESHOLD_SHIFT | 8;
/// [`GPIE`](shared_ring::igb_registers::GPIE): MSI-X, ICR cleared on read, PBA support; no auto mask.
pub(crate) const GPIE: u32 = gpie::PBA_SUPPORT | gpie::MULTIPLE_MSIX | gpie::NSICR;
/// [`BMCR`](phy::BMCR): negotiate, and start now. All else zero: not powered down, not isolated.
pub(crate) const BMCR: u16 = phy::BMCR_NEGOTIATE | phy::BMCR_RESTART;

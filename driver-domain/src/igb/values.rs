//! What this driver programs, where a register takes a whole value. Sections are those of the i210
//! datasheet.

use shared_ring::igb_registers::{IVAR_VALID, gpie, phy, queue, rxcsum, tctl};

/// [`TIPG`](shared_ring::igb_registers::TIPG) for copper at any speed, §8.11.
pub(crate) const TIPG: u32 = 0x0060_1008;
/// [`RXCSUM`](shared_ring::igb_registers::RXCSUM): IP and TCP/UDP checksums are reported.
pub(crate) const RXCSUM: u32 = rxcsum::IPOFL | rxcsum::TUOFL;
/// [`SRRCTL`](shared_ring::igb_registers::SRRCTL): advanced descriptors, one buffer, 2 KiB.
pub(crate) const SRRCTL: u32 = queue::TYPE_ADVANCED_ONE_BUFFER << queue::SRRCTL_TYPE_SHIFT | 2;
/// [`RXDCTL`](shared_ring::igb_registers::RXDCTL): on, prefetch 8, host 8, write back each descriptor
/// at once.
pub(crate) const RXDCTL: u32 = queue::ENABLE | 8 << queue::HOST_THRESHOLD_SHIFT | 8;
/// [`TXDCTL`](shared_ring::igb_registers::TXDCTL): on, prefetch 8, host 1, write back each descriptor
/// at once.
pub(crate) const TXDCTL: u32 = queue::ENABLE | 1 << queue::HOST_THRESHOLD_SHIFT | 8;
/// [`TCTL`](shared_ring::igb_registers::TCTL): collision threshold 15.
pub(crate) const COLLISION_THRESHOLD: u32 = 0xf << tctl::CT_SHIFT;
/// [`GPIE`](shared_ring::igb_registers::GPIE): MSI-X, ICR cleared on read, PBA support; no auto mask.
pub(crate) const GPIE: u32 = gpie::PBA_SUPPORT | gpie::MULTIPLE_MSIX | gpie::NSICR;
/// [`IVAR0`](shared_ring::igb_registers::IVAR0): receive and transmit of queue 0 on vector 0.
pub(crate) const IVAR0: u32 = IVAR_VALID << 8 | IVAR_VALID;
/// [`IVAR_MISC`](shared_ring::igb_registers::IVAR_MISC): link and the rest on vector 1.
pub(crate) const IVAR_MISC: u32 = (IVAR_VALID | 1) << 8;
/// [`BMCR`](phy::BMCR): negotiate, and start now. All else zero: not powered down, not isolated.
pub(crate) const BMCR: u16 = phy::BMCR_NEGOTIATE | phy::BMCR_RESTART;

//! Registers of the igb family that the driver uses: offsets in BAR 0 in bytes, and their bits.
//!
//! Sections are those of the i210 datasheet unless another source is named. Two pages are not ours
//! and not even mapped: 0x4000 (statistics, clear on read, the VMM's) and 0x12000 (flash, iNVM).

/// Device control, §8.2.
pub const CTRL: u32 = 0x0000;
/// Device status, §8.2.
pub const STATUS: u32 = 0x0008;
/// EEPROM/flash control, §8.4.
pub const EECD: u32 = 0x0010;
/// Extended device control, §8.2.
pub const CTRL_EXT: u32 = 0x0018;
/// MDI control: the way to the PHY, §8.2.
pub const MDIC: u32 = 0x0020;

/// Interrupt cause, legacy set, §8.8. The i210 documents another place; QEMU has only this one.
pub const ICR: u32 = 0x00c0;
/// Interrupt mask set.
pub const IMS: u32 = 0x00d0;
/// Interrupt mask clear.
pub const IMC: u32 = 0x00d8;
/// Interrupt acknowledge auto-mask.
pub const IAM: u32 = 0x00e0;

/// Receive control, §8.9.
pub const RCTL: u32 = 0x0100;
/// Transmit control, §8.11.
pub const TCTL: u32 = 0x0400;
/// Transmit inter-packet gap, §8.11.
pub const TIPG: u32 = 0x0410;

/// General purpose interrupt enable, §8.8.
pub const GPIE: u32 = 0x1514;
/// Extended interrupt mask set, §8.8.5.
pub const EIMS: u32 = 0x1524;
/// Extended interrupt mask clear, §8.8.6.
pub const EIMC: u32 = 0x1528;
/// Extended interrupt auto clear, §8.8.7.
pub const EIAC: u32 = 0x152c;
/// Extended interrupt auto mask, §8.8.8.
pub const EIAM: u32 = 0x1530;
/// Extended interrupt cause, §8.8.3. Write 1 to clear; a read clears on QEMU, so nobody reads.
pub const EICR: u32 = 0x1580;
/// Moderation of vector 0, §8.8.
pub const EITR0: u32 = 0x1680;
/// Moderation of vector 1.
pub const EITR1: u32 = 0x1684;
/// Vectors of queue 0 (and another), §8.8.
pub const IVAR0: u32 = 0x1700;
/// Vectors of other causes, §8.8.
pub const IVAR_MISC: u32 = 0x1740;

/// Receive checksum control, §8.9.
pub const RXCSUM: u32 = 0x5000;
/// Receive filter control, §8.9.
pub const RFCTL: u32 = 0x5008;
/// Multicast table array, 128 words, §8.9.
pub const MTA: u32 = 0x5200;
/// Receive address 0, low, §8.9; eight bytes an entry.
pub const RAL0: u32 = 0x5400;
/// Receive address 0, high, and its valid bit.
pub const RAH0: u32 = 0x5404;
/// Multiple receive queues command, §8.9.
pub const MRQC: u32 = 0x5818;
/// Next generation VMDq control (82576).
pub const VT_CTL: u32 = 0x581c;
/// Software semaphore, §8.5.
pub const SWSM: u32 = 0x5b50;
/// Software-firmware synchronisation, §8.5.
pub const SW_FW_SYNC: u32 = 0x5b5c;
/// Unicast table array, 128 words.
pub const UTA: u32 = 0xa000;

/// Words of [`MTA`] and of [`UTA`].
pub const HASH_TABLE_WORDS: u32 = 128;
/// Entries of the receive address table that all members of the family have.
pub const RECEIVE_ADDRESSES: u32 = 16;

/// Receive queue 0: descriptor base low, §8.10.4.
pub const RDBAL: u32 = 0xc000;
/// Descriptor base high.
pub const RDBAH: u32 = 0xc004;
/// Descriptor ring length, bytes.
pub const RDLEN: u32 = 0xc008;
/// Split and replication control, §8.10.
pub const SRRCTL: u32 = 0xc00c;
/// Receive head, §8.10.7.
pub const RDH: u32 = 0xc010;
/// Receive tail: the doorbell, §8.10.8. Ignored while the queue is disabled.
pub const RDT: u32 = 0xc018;
/// Receive descriptor control, §8.10.9.
pub const RXDCTL: u32 = 0xc028;
/// DMA offload of the receive queue (i210 only; reads 0 elsewhere).
pub const DVMOLR: u32 = 0xc038;

/// Transmit queue 0: descriptor base low, §8.12.
pub const TDBAL: u32 = 0xe000;
/// Descriptor base high.
pub const TDBAH: u32 = 0xe004;
/// Descriptor ring length, bytes.
pub const TDLEN: u32 = 0xe008;
/// Transmit head.
pub const TDH: u32 = 0xe010;
/// Transmit tail: the doorbell.
pub const TDT: u32 = 0xe018;
/// Transmit descriptor control, §8.12.
pub const TXDCTL: u32 = 0xe028;
/// Head write-back address low, with its enable bit, §8.12.
pub const TDWBAL: u32 = 0xe038;
/// Head write-back address high.
pub const TDWBAH: u32 = 0xe03c;

/// What a register of a device that is gone reads as.
pub const ALL_ONES: u32 = u32::MAX;

/// Bits of [`CTRL`].
pub mod ctrl {
    /// No new bus requests.
    pub const GIO_MASTER_DISABLE: u32 = 1 << 2;
    /// Set link up: let the PHY's link reach the MAC.
    pub const SLU: u32 = 1 << 6;
    /// Force speed.
    pub const FRCSPD: u32 = 1 << 11;
    /// Force duplex.
    pub const FRCDPLX: u32 = 1 << 12;
    /// Reset everything but the PHY.
    pub const RST: u32 = 1 << 26;
    /// Obey PAUSE.
    pub const RFCE: u32 = 1 << 27;
    /// Send PAUSE.
    pub const TFCE: u32 = 1 << 28;
    /// Strip VLAN tags.
    pub const VME: u32 = 1 << 30;
    /// Reset the PHY.
    pub const PHY_RST: u32 = 1 << 31;
}

/// Bits of [`STATUS`].
pub mod status {
    /// Link up.
    pub const LU: u32 = 1 << 1;
    /// Bus requests are allowed, or still outstanding.
    pub const GIO_MASTER: u32 = 1 << 19;
}

/// Bits of [`EECD`].
pub mod eecd {
    /// The NVM has been read after a reset.
    pub const AUTO_RD: u32 = 1 << 9;
}

/// Bits of [`CTRL_EXT`].
pub mod ctrl_ext {
    /// A driver owns the port. Any reset clears it.
    pub const DRV_LOAD: u32 = 1 << 28;
}

/// Fields of [`MDIC`] and registers of the PHY behind it.
pub mod mdic {
    /// PHY register number starts here.
    pub const REGISTER_SHIFT: u32 = 16;
    /// Address of the internal PHY.
    pub const PHY: u32 = 1 << 21;
    /// Operation: write.
    pub const WRITE: u32 = 1 << 26;
    /// Operation: read.
    pub const READ: u32 = 2 << 26;
    /// The access has ended.
    pub const READY: u32 = 1 << 28;
    /// The access failed.
    pub const ERROR: u32 = 1 << 30;

    /// Basic mode control register.
    pub const BMCR: u32 = 0;
    /// Negotiation advertisement register.
    pub const ANAR: u32 = 4;
    /// BMCR: negotiate, and start now. All else zero: not powered down, not isolated.
    pub const BMCR_RESTART: u16 = 0x1200;
    /// ANAR: both PAUSE abilities.
    pub const ANAR_PAUSE: u16 = 0x0c00;
}

/// Bits of [`SWSM`] and [`SW_FW_SYNC`].
pub mod semaphore {
    /// Between drivers: reading 0 sets it and means success.
    pub const SMBI: u32 = 1 << 0;
    /// Between driver and firmware: write, then look whether it stayed.
    pub const SWESMBI: u32 = 1 << 1;
    /// SW_FW_SYNC: the driver has the PHY.
    pub const SOFTWARE_PHY: u32 = 1 << 1;
    /// SW_FW_SYNC: the firmware has the PHY.
    pub const FIRMWARE_PHY: u32 = 1 << 17;
}

/// Bits of [`RCTL`].
pub mod rctl {
    /// Receive enable.
    pub const EN: u32 = 1 << 1;
    /// Accept all multicast.
    pub const MPE: u32 = 1 << 4;
    /// Accept broadcast.
    pub const BAM: u32 = 1 << 15;
    /// Strip the frame check sequence.
    pub const SECRC: u32 = 1 << 26;
}

/// Fields of [`TCTL`].
pub mod tctl {
    /// Transmit enable.
    pub const EN: u32 = 1 << 1;
    /// Pad short packets.
    pub const PSP: u32 = 1 << 3;
    /// Collision threshold, all of it.
    pub const CT_MASK: u32 = 0xff << 4;
    /// Collision threshold 15.
    pub const CT_15: u32 = 0xf << 4;
    /// XOFF by software.
    pub const SWXOFF: u32 = 1 << 22;
    /// Retransmit on late collision.
    pub const RTLC: u32 = 1 << 24;
}

/// Fixed values.
pub mod value {
    /// [`super::TIPG`] for copper at any speed.
    pub const TIPG: u32 = 0x0060_1008;
    /// [`super::RXCSUM`]: IP and TCP/UDP checksums reported.
    pub const RXCSUM: u32 = 0x0000_0300;
    /// [`super::RFCTL`] bit: IPv6 extension headers are not parsed.
    pub const RFCTL_IPV6_EX_DIS: u32 = 1 << 16;
    /// [`super::RAH0`] bit: address valid.
    pub const RAH_AV: u32 = 1 << 31;
    /// [`super::SRRCTL`]: advanced descriptors, one buffer, 2 KiB.
    pub const SRRCTL: u32 = 0x0200_0002;
    /// [`super::DVMOLR`] bit: strip the frame check sequence. Must agree with RCTL.SECRC.
    pub const DVMOLR_STRCRC: u32 = 1 << 31;
    /// xDCTL bit: queue enabled.
    pub const QUEUE_ENABLE: u32 = 1 << 25;
    /// [`super::RXDCTL`]: prefetch 8, host 8, write back each descriptor at once.
    pub const RXDCTL: u32 = QUEUE_ENABLE | 8 << 8 | 8;
    /// [`super::TXDCTL`]: prefetch 8, host 1, write back each descriptor at once.
    pub const TXDCTL: u32 = QUEUE_ENABLE | 1 << 8 | 8;
    /// [`super::GPIE`]: MSI-X, ICR cleared on read, PBA support; no auto-mask (bit 30 clear).
    pub const GPIE: u32 = 1 << 31 | 1 << 4 | 1;
    /// [`super::IVAR0`]: receive and transmit of queue 0 on vector 0.
    pub const IVAR0: u32 = 0x8080;
    /// [`super::IVAR_MISC`]: link and the rest on vector 1.
    pub const IVAR_MISC: u32 = 0x8100;
    /// EIMS, EIMC, EIAC, EICR: vector 0, the queues.
    pub const VECTOR_QUEUES: u32 = 1 << 0;
    /// EIMS, EIAC, EICR: vector 1, link and the rest: the VMM's once the driver is attached.
    pub const VECTOR_OTHER: u32 = 1 << 1;
    /// [`super::IMS`] bit: link state change.
    pub const LSC: u32 = 1 << 2;
}

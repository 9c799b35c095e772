//! Bits and fields of the registers, one module a register or a group of them.

/// Registers of one queue, as offsets in its block, and bits of them.
pub mod queue {
    /// Ring address, low half.
    pub const BASE_LOW: u32 = 0x00;
    /// Ring address, high half.
    pub const BASE_HIGH: u32 = 0x04;
    /// Ring length in bytes.
    pub const LENGTH: u32 = 0x08;
    /// Split and replication control (SRRCTL), receive queues only.
    pub const SRRCTL: u32 = 0x0c;
    /// Head, an index of descriptors.
    pub const HEAD: u32 = 0x10;
    /// Direct cache access (RXCTL, TXCTL).
    pub const CACHE_CONTROL: u32 = 0x14;
    /// Tail, an index of descriptors: the doorbell.
    pub const TAIL: u32 = 0x18;
    /// Descriptor control (RXDCTL, TXDCTL).
    pub const CONTROL: u32 = 0x28;
    /// Head write-back address, low half and enable bit; transmit queues only.
    pub const WRITE_BACK_LOW: u32 = 0x38;
    /// Head write-back address, high half; transmit queues only.
    pub const WRITE_BACK_HIGH: u32 = 0x3c;

    /// [`CONTROL`]: the queue is on.
    pub const ENABLE: u32 = 1 << 25;
    /// [`CONTROL`]: host threshold, in descriptors, starts here; prefetch threshold at bit 0.
    pub const HOST_THRESHOLD_SHIFT: u32 = 8;
    /// Bits of [`BASE_LOW`] that count: rings start at multiples of 128 bytes.
    pub const BASE_MASK: u32 = !0x7f;
    /// Bits of [`LENGTH`] that count: eight descriptors at a time, at most 32768.
    pub const LENGTH_MASK: u32 = 0x000f_ff80;
    /// [`WRITE_BACK_LOW`]: write the head back instead of descriptors.
    pub const WRITE_BACK_ENABLE: u32 = 1 << 0;
    /// [`SRRCTL`]: buffer size in KiB.
    pub const SRRCTL_BUFFER_KIB: u32 = 0x7f;
    /// [`SRRCTL`]: descriptor type starts here, three bits.
    pub const SRRCTL_TYPE_SHIFT: u32 = 25;
    /// Descriptor type: advanced, one buffer.
    pub const TYPE_ADVANCED_ONE_BUFFER: u32 = 1;
}

/// Bits of [`super::CTRL`].
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
    /// Reset the whole port.
    pub const DEV_RST: u32 = 1 << 29;
    /// Strip VLAN tags.
    pub const VME: u32 = 1 << 30;
    /// Reset the PHY.
    pub const PHY_RST: u32 = 1 << 31;
}

/// Bits of [`super::CTRL_EXT`].
pub mod ctrl_ext {
    /// Where the link is, two bits: zero for the copper PHY inside.
    pub const LINK_MODE: u32 = 3 << 22;
    /// A driver owns the port. Any reset clears it.
    pub const DRV_LOAD: u32 = 1 << 28;
}

/// Bits of [`super::STATUS`].
pub mod status {
    /// Full duplex.
    pub const FD: u32 = 1 << 0;
    /// Link up.
    pub const LU: u32 = 1 << 1;
    /// Speed starts here, two bits: 10, 100, 1000, 1000 Mb/s.
    pub const SPEED_SHIFT: u32 = 6;
    /// Speed: 1 Gb/s.
    pub const SPEED_1000: u32 = 2 << SPEED_SHIFT;
    /// The PHY was reset.
    pub const PHYRA: u32 = 1 << 10;
    /// Bus requests are allowed, or still outstanding.
    pub const GIO_MASTER: u32 = 1 << 19;
}

/// Bits of [`super::EECD`].
pub mod eecd {
    /// An NVM is there.
    pub const EE_PRES: u32 = 1 << 8;
    /// The NVM has been read after a reset.
    pub const AUTO_RD: u32 = 1 << 9;
}

/// Fields of [`super::EERD`].
pub mod eerd {
    /// Start the read.
    pub const START: u32 = 1 << 0;
    /// The read has ended.
    pub const DONE: u32 = 1 << 1;
    /// Number of the word starts here, 14 bits.
    pub const ADDRESS_SHIFT: u32 = 2;
    /// The word starts here, 16 bits.
    pub const DATA_SHIFT: u32 = 16;
}

/// Bits of [`super::EEMNGCTL`].
pub mod eemngctl {
    /// The configuration of port 0 has been loaded.
    pub const CFG_DONE_0: u32 = 1 << 18;
}

/// Fields of [`super::MDIC`].
pub mod mdic {
    /// What is read or written.
    pub const DATA: u32 = 0xffff;
    /// Number of the PHY's register starts here, five bits.
    pub const REGISTER_SHIFT: u32 = 16;
    /// Address of the PHY starts here, five bits.
    pub const PHY_SHIFT: u32 = 21;
    /// Address of the internal PHY.
    pub const INTERNAL_PHY: u32 = 1 << PHY_SHIFT;
    /// The operation, two bits.
    pub const OPERATION: u32 = 3 << 26;
    /// Operation: write.
    pub const WRITE: u32 = 1 << 26;
    /// Operation: read.
    pub const READ: u32 = 2 << 26;
    /// The access has ended.
    pub const READY: u32 = 1 << 28;
    /// The access failed.
    pub const ERROR: u32 = 1 << 30;
}

/// Registers of the PHY by number, and their bits (§8.25; IEEE 802.3 §22.2.4, §40.5).
pub mod phy {
    /// Basic mode control.
    pub const BMCR: u32 = 0;
    /// Basic mode status.
    pub const BMSR: u32 = 1;
    /// Identifier, first half.
    pub const ID_1: u32 = 2;
    /// Identifier, second half.
    pub const ID_2: u32 = 3;
    /// What this side advertises in a negotiation.
    pub const ANAR: u32 = 4;
    /// What the link partner advertises.
    pub const LINK_PARTNER: u32 = 5;
    /// 1000BASE-T control.
    pub const GIGABIT_CONTROL: u32 = 9;
    /// 1000BASE-T status.
    pub const GIGABIT_STATUS: u32 = 10;
    /// Extended status.
    pub const EXTENDED_STATUS: u32 = 15;
    /// Page select.
    pub const PAGE_SELECT: u32 = 22;

    /// [`BMCR`]: reset.
    pub const BMCR_RESET: u16 = 1 << 15;
    /// [`BMCR`]: what is sent comes back, and does not reach the cable.
    pub const BMCR_LOOPBACK: u16 = 1 << 14;
    /// [`BMCR`]: negotiate.
    pub const BMCR_NEGOTIATE: u16 = 1 << 12;
    /// [`BMCR`]: power down.
    pub const BMCR_POWER_DOWN: u16 = 1 << 11;
    /// [`BMCR`]: start a negotiation now.
    pub const BMCR_RESTART: u16 = 1 << 9;
    /// [`BMSR`]: link up; latched low.
    pub const BMSR_LINK: u16 = 1 << 2;
    /// [`BMSR`]: the negotiation has ended.
    pub const BMSR_NEGOTIATED: u16 = 1 << 5;
    /// [`ANAR`]: both PAUSE abilities.
    pub const ANAR_PAUSE: u16 = 0x0c00;
}

/// Bits of [`super::SWSM`] and [`super::SW_FW_SYNC`].
pub mod semaphore {
    /// SWSM, between drivers: reading 0 sets it and means success.
    pub const SMBI: u32 = 1 << 0;
    /// SWSM, between driver and firmware: write it, then read whether it stayed.
    pub const SWESMBI: u32 = 1 << 1;
    /// SW_FW_SYNC: the driver has the PHY.
    pub const SOFTWARE_PHY: u32 = 1 << 1;
    /// SW_FW_SYNC: the firmware has the PHY.
    pub const FIRMWARE_PHY: u32 = 1 << 17;
}

/// Bits of [`super::ICR`], [`super::ICS`], [`super::IMS`] and [`super::IMC`].
pub mod icr {
    /// Transmit descriptor written back.
    pub const TXDW: u32 = 1 << 0;
    /// Link status change.
    pub const LSC: u32 = 1 << 2;
    /// Receiver overrun.
    pub const RX_MISS: u32 = 1 << 6;
    /// Receive descriptor written back.
    pub const RXDW: u32 = 1 << 7;
    /// An interrupt was asserted.
    pub const INTA: u32 = 1 << 31;
}

/// Bits of [`super::GPIE`].
pub mod gpie {
    /// A read of ICR always clears it.
    pub const NSICR: u32 = 1 << 0;
    /// MSI-X mode.
    pub const MULTIPLE_MSIX: u32 = 1 << 4;
    /// EIAM takes effect in MSI-X mode too.
    pub const EIAME: u32 = 1 << 30;
    /// The pending bits of MSI-X are supported.
    pub const PBA_SUPPORT: u32 = 1 << 31;
}

/// Fields of [`super::EITR`].
pub mod eitr {
    /// The interval in microseconds starts here.
    pub const INTERVAL_SHIFT: u32 = 2;
    /// The interval, shifted down.
    pub const INTERVAL_MASK: u32 = 0x1fff;
}

/// Bits of [`super::RCTL`].
pub mod rctl {
    /// Receive enable.
    pub const EN: u32 = 1 << 1;
    /// Accept all unicast.
    pub const UPE: u32 = 1 << 3;
    /// Accept all multicast.
    pub const MPE: u32 = 1 << 4;
    /// Accept packets of more than 1522 bytes.
    pub const LPE: u32 = 1 << 5;
    /// Loopback mode starts here, two bits: zero for none.
    pub const LBM_SHIFT: u32 = 6;
    /// Loopback mode: in the MAC.
    pub const LBM_MAC: u32 = 1;
    /// Which bits of an address [`MTA`](super::super::MTA) is looked up by; two bits.
    pub const MO_SHIFT: u32 = 12;
    /// Accept broadcast.
    pub const BAM: u32 = 1 << 15;
    /// Buffer size where SRRCTL gives none: 2048 bytes, halved by each step; two bits.
    pub const BSIZE_SHIFT: u32 = 16;
    /// Strip the frame check sequence.
    pub const SECRC: u32 = 1 << 26;
}

/// Bits of [`super::RXCSUM`].
pub mod rxcsum {
    /// Report IP checksums.
    pub const IPOFL: u32 = 1 << 8;
    /// Report TCP and UDP checksums.
    pub const TUOFL: u32 = 1 << 9;
}

/// Bits of [`super::RFCTL`].
pub mod rfctl {
    /// IPv6 extension headers are not parsed.
    pub const IPV6_EX_DIS: u32 = 1 << 16;
}

/// Bits of [`super::DVMOLR`].
pub mod dvmolr {
    /// Strip the frame check sequence. Must agree with RCTL.SECRC.
    pub const STRCRC: u32 = 1 << 31;
}

/// Fields of [`super::TCTL`].
pub mod tctl {
    /// After a reset, §8.12.1: off, short packets padded, 16 attempts, the shortest backoff slot.
    /// The reserved bits above bit 25 are those that QEMU's model has.
    pub const RESET: u32 = 0xa404_00f8;
    /// Transmit enable.
    pub const EN: u32 = 1 << 1;
    /// Pad short packets.
    pub const PSP: u32 = 1 << 3;
    /// Collision threshold starts here, eight bits.
    pub const CT_SHIFT: u32 = 4;
    /// Collision threshold, all of it.
    pub const CT_MASK: u32 = 0xff << CT_SHIFT;
    /// Collision distance (82576), backoff slot time (i210): ten bits.
    pub const COLD_MASK: u32 = 0x3ff << 12;
    /// XOFF by software.
    pub const SWXOFF: u32 = 1 << 22;
    /// Retransmit on late collision.
    pub const RTLC: u32 = 1 << 24;
}

/// Fields of [`super::RXPBS`] and [`super::TXPBS`]: sizes in KiB, six bits each.
pub mod packet_buffer {
    /// One size.
    pub const KIB: u32 = 0x3f;
    /// [`RXPBS`](super::super::RXPBS): from the network to the host; then from the management
    /// controller to the host.
    pub const RECEIVE_SHIFTS: [u32; 2] = [0, 6];
    /// [`TXPBS`](super::super::TXPBS): four of the host's; then from the host to the management
    /// controller.
    pub const TRANSMIT_SHIFTS: [u32; 5] = [0, 6, 12, 18, 24];
    /// What all of them may come to.
    pub const ALL_KIB: u32 = 60;
}

/// Fields of [`super::DMACR`].
pub mod dmacr {
    /// How long a received packet may wait, in [`WATCHDOG_UNIT_NS`].
    pub const WATCHDOG: u32 = 0x3fff;
    /// Unit of [`WATCHDOG`].
    pub const WATCHDOG_UNIT_NS: u64 = 32_000;
    /// On.
    pub const EN: u32 = 1 << 31;
}

/// Fields of [`super::DTXMXPKTSZ`].
pub mod dtxmxpktsz {
    /// The length, in [`UNIT_BYTES`].
    pub const SIZE: u32 = 0x1ff;
    /// Unit of [`SIZE`].
    pub const UNIT_BYTES: u32 = 64;
}

/// Bits of [`super::PHPM`].
pub mod phpm {
    /// The PHY leaves the link.
    pub const GO_LINK_DISCONNECT: u32 = 1 << 5;
}

/// Fields of [`super::MRQC`].
pub mod mrqc {
    /// How packets are spread over queues: zero for not at all.
    pub const ENABLE: u32 = 7;
    /// The queue of packets that are not spread starts here, three bits.
    pub const DEFAULT_QUEUE_SHIFT: u32 = 3;
}

/// Fields of [`super::ETQF0`].
pub mod etqf {
    /// The EtherType.
    pub const ETHERTYPE: u32 = 0xffff;
    /// The queue starts here, three bits.
    pub const QUEUE_SHIFT: u32 = 16;
    /// The filter is on.
    pub const FILTER_ENABLE: u32 = 1 << 26;
    /// It chooses the queue.
    pub const QUEUE_ENABLE: u32 = 1 << 31;
}

/// Fields of [`super::TQAVCTRL`].
pub mod tqavctrl {
    /// Each queue has a packet buffer and a mode of its own.
    pub const TRANSMIT_MODE: u32 = 1 << 0;
    /// Queues in stream reservation mode are given credits.
    pub const CREDIT_SHAPER: u32 = 1 << 8;
}

/// Fields of [`super::TQAVCC0`].
pub mod tqavcc {
    /// Credits that the queue gains.
    pub const IDLE_SLOPE: u32 = 0xffff;
    /// Stream reservation, not strict priority.
    pub const STREAM_RESERVATION: u32 = 1 << 31;
}

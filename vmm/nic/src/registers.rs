//! Registers of the igb family that the VMM itself touches or models: offsets in BAR 0 in bytes,
//! and their bits. Sections are those of the i210 datasheet.
//!
//! The driver has a list of its own; the two sides share no code, only the datasheet.

/// Device control, §8.2.
pub const CTRL: u32 = 0x0000;
/// Another place of [`CTRL`].
pub const CTRL_ALIAS: u32 = 0x0004;
/// Device status, §8.2.
pub const STATUS: u32 = 0x0008;
/// EEPROM and flash control, §8.4.
pub const EECD: u32 = 0x0010;
/// EEPROM read, §8.4.
pub const EERD: u32 = 0x0014;
/// Extended device control, §8.2.
pub const CTRL_EXT: u32 = 0x0018;
/// The way to the PHY, §8.2.
pub const MDIC: u32 = 0x0020;

/// Interrupt cause, §8.8, at the place that the whole family has.
pub const ICR: u32 = 0x00c0;
/// Interrupt cause set.
pub const ICS: u32 = 0x00c8;
/// Interrupt mask set.
pub const IMS: u32 = 0x00d0;
/// Interrupt mask clear.
pub const IMC: u32 = 0x00d8;
/// The same registers where the i210 documents them, four bytes apart; first [`ICR`].
pub const ICR_I210: u32 = 0x1500;
/// Interrupt mask clear, where the i210 documents it.
pub const IMC_I210: u32 = 0x150c;
/// General purpose interrupt enable, §8.8.
pub const GPIE: u32 = 0x1514;
/// Extended interrupt cause set, §8.8.
pub const EICS: u32 = 0x1520;
/// Extended interrupt mask set, §8.8.5.
pub const EIMS: u32 = 0x1524;
/// Extended interrupt mask clear, §8.8.6.
pub const EIMC: u32 = 0x1528;
/// Extended interrupt auto clear, §8.8.7.
pub const EIAC: u32 = 0x152c;
/// Extended interrupt auto mask, §8.8.8.
pub const EIAM: u32 = 0x1530;
/// Extended interrupt cause, §8.8.3.
pub const EICR: u32 = 0x1580;
/// Moderation of vector 0, four bytes each, §8.8.
pub const EITR: u32 = 0x1680;
/// Vectors of queues 0 and 1, §8.8.
pub const IVAR0: u32 = 0x1700;
/// Vectors of other causes, §8.8.
pub const IVAR_MISC: u32 = 0x1740;

/// Receive control, §8.9.
pub const RCTL: u32 = 0x0100;
/// Transmit control, §8.11.
pub const TCTL: u32 = 0x0400;
/// Receive checksum control, §8.9.
pub const RXCSUM: u32 = 0x5000;
/// Longest packet that is received, §8.9.
pub const RLPML: u32 = 0x5004;
/// Multicast table array, 128 words, §8.9.
pub const MTA: u32 = 0x5200;
/// Words of [`MTA`].
pub const MTA_WORDS: usize = 128;
/// Receive address 0, low half, §8.9; eight bytes an entry.
pub const RAL0: u32 = 0x5400;
/// Receive address 0, high half and its valid bit.
pub const RAH0: u32 = 0x5404;
/// Entries of the receive address table.
pub const RECEIVE_ADDRESSES: usize = 16;
/// Software semaphore, §8.5.
pub const SWSM: u32 = 0x5b50;

/// First statistics register, §8.18; this page belongs to the VMM.
pub const STATISTICS: u32 = 0x4000;
/// Good packets received; clears on read.
pub const GPRC: u32 = 0x4074;
/// Good packets transmitted; clears on read.
pub const GPTC: u32 = 0x4080;
/// Per-queue counters of queue 0 (PQGPRC), §8.18; these wrap and are not cleared.
pub const QUEUE_STATISTICS: u32 = 0x1_0010;

/// First register of receive queue 0, §8.10.
pub const RX_QUEUE: u32 = 0xc000;
/// The same at its old place.
pub const RX_QUEUE_ALIAS: u32 = 0x2800;
/// First register of transmit queue 0, §8.12.
pub const TX_QUEUE: u32 = 0xe000;
/// The same at its old place.
pub const TX_QUEUE_ALIAS: u32 = 0x3800;
/// Bytes of the registers of one queue.
pub const QUEUE_BLOCK_BYTES: u32 = 0x40;
/// Receive tail: the doorbell, §8.10.8.
pub const RDT: u32 = RX_QUEUE + queue::TAIL;
/// Receive descriptor control, §8.10.9.
pub const RXDCTL: u32 = RX_QUEUE + queue::CONTROL;
/// Transmit tail: the doorbell, §8.12.
pub const TDT: u32 = TX_QUEUE + queue::TAIL;
/// Transmit descriptor control, §8.12.
pub const TXDCTL: u32 = TX_QUEUE + queue::CONTROL;

/// What a register of a device that is gone reads as.
pub const ALL_ONES: u32 = u32::MAX;

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
    /// Tail, an index of descriptors: the doorbell.
    pub const TAIL: u32 = 0x18;
    /// Descriptor control (RXDCTL, TXDCTL).
    pub const CONTROL: u32 = 0x28;
    /// Head write-back address, low half and enable bit; transmit queues only.
    pub const WRITE_BACK_LOW: u32 = 0x38;
    /// Head write-back address, high half; transmit queues only.
    pub const WRITE_BACK_HIGH: u32 = 0x3c;

    /// Bit of [`CONTROL`]: the queue is on.
    pub const ENABLE: u32 = 1 << 25;
    /// Bits of [`BASE_LOW`] that count: rings start at multiples of 128 bytes.
    pub const BASE_MASK: u32 = !0x7f;
    /// Bits of [`LENGTH`] that count: eight descriptors at a time, at most 32768.
    pub const LENGTH_MASK: u32 = 0x000f_ff80;
    /// Bit of [`WRITE_BACK_LOW`]: write the head back instead of descriptors.
    pub const WRITE_BACK_ENABLE: u32 = 1 << 0;
    /// [`SRRCTL`]: buffer size in KiB.
    pub const SRRCTL_BUFFER_KIB: u32 = 0x7f;
    /// [`SRRCTL`]: descriptor type starts here, three bits.
    pub const SRRCTL_TYPE_SHIFT: u32 = 25;
    /// Descriptor type: advanced, one buffer.
    pub const TYPE_ADVANCED_ONE_BUFFER: u32 = 1;
}

/// Bits of [`CTRL`].
pub mod ctrl {
    /// No new bus requests.
    pub const GIO_MASTER_DISABLE: u32 = 1 << 2;
    /// Reset everything but the PHY.
    pub const RST: u32 = 1 << 26;
    /// Reset the whole port.
    pub const DEV_RST: u32 = 1 << 29;
    /// Reset the PHY.
    pub const PHY_RST: u32 = 1 << 31;
}

/// Bits of [`STATUS`].
pub mod status {
    /// Full duplex.
    pub const FD: u32 = 1 << 0;
    /// Link up.
    pub const LU: u32 = 1 << 1;
    /// Speed: 1 Gb/s.
    pub const SPEED_1000: u32 = 2 << 6;
    /// The PHY was reset.
    pub const PHYRA: u32 = 1 << 10;
    /// Bus requests are allowed, or still outstanding.
    pub const GIO_MASTER: u32 = 1 << 19;
}

/// Bits of [`RCTL`].
pub mod rctl {
    /// Receive enable.
    pub const EN: u32 = 1 << 1;
    /// Accept all unicast.
    pub const UPE: u32 = 1 << 3;
    /// Accept all multicast.
    pub const MPE: u32 = 1 << 4;
    /// Accept packets of more than 1522 bytes.
    pub const LPE: u32 = 1 << 5;
    /// Which bits of an address [`super::MTA`](super::MTA) is looked up by; two bits.
    pub const MO_SHIFT: u32 = 12;
    /// Accept broadcast.
    pub const BAM: u32 = 1 << 15;
    /// Buffer size where SRRCTL gives none: 2048 bytes, halved by each step; two bits.
    pub const BSIZE_SHIFT: u32 = 16;
    /// Strip the frame check sequence.
    pub const SECRC: u32 = 1 << 26;
}

/// Bits of [`TCTL`].
pub mod tctl {
    /// Transmit enable.
    pub const EN: u32 = 1 << 1;
    /// Pad short packets.
    pub const PSP: u32 = 1 << 3;
}

/// Bits of [`ICR`].
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

/// Bits of [`GPIE`].
pub mod gpie {
    /// A read of ICR always clears it.
    pub const NSICR: u32 = 1 << 0;
    /// MSI-X mode.
    pub const MULTIPLE_MSIX: u32 = 1 << 4;
    /// EIAM takes effect in MSI-X mode too.
    pub const EIAME: u32 = 1 << 30;
}

/// Bit of an IVAR byte: the vector number in it is valid.
pub const IVAR_VALID: u32 = 1 << 7;
/// Bit of [`RAH0`]: the address is valid.
pub const RAH_AV: u32 = 1 << 31;
/// Vector of the queues, the domain's, as a bit of EIMS and EICR.
pub const VECTOR_QUEUES: u32 = 1 << 0;
/// Vector of link and other causes, the VMM's, as a bit of EIMS and EICR.
pub const VECTOR_OTHER: u32 = 1 << 1;

/// Receive addresses of guests: the first one's is entry 0, the others' follow the probes' entry.
pub fn guest_entries() -> impl Iterator<Item = usize> {
    std::iter::once(0).chain(2..).take(shared_ring::layout::MAX_GUESTS)
}

/// The halves of a receive address as [`RAL0`] and [`RAH0`] hold them, without the valid bit.
pub fn receive_address(mac: [u8; 6]) -> (u32, u32) {
    let [a, b, c, d, e, f] = mac;
    (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, 0, 0]))
}

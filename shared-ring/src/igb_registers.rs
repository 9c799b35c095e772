//! Registers of the Intel igb family, as offsets in BAR 0 in bytes, and in [`bits`] what they mean:
//! the one list for the driver, for the VMM's own accesses, and for the emulated NIC.
//!
//! Sections are those of the i210 datasheet unless another source is named. Which of these a domain
//! may touch, [`crate::bar_map`] says. Values that the VMM compares with stand in [`attached`], others
//! that the driver chooses in the driver.

pub mod attached;
mod bits;

pub use bits::{
    ctrl, ctrl_ext, dmacr, dtxmxpktsz, dvmolr, eecd, eemngctl, eerd, eitr, etqf, gpie, icr, mdic,
    mrqc, packet_buffer, phpm, phy, queue, rctl, rfctl, rxcsum, semaphore, status, tctl, tqavcc,
    tqavctrl,
};

use crate::layout::MAX_GUESTS;

// ---- General, NVM and PHY: §8.2, §8.4 ----

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
/// MDI control: the way to the PHY, §8.2.
pub const MDIC: u32 = 0x0020;
/// VLAN EtherType, §8.2.
pub const VET: u32 = 0x0038;
/// LED control, §8.2.
pub const LEDCTL: u32 = 0x0e00;
/// Configuration of the MDI interface, §8.2.
pub const MDICNFG: u32 = 0x0e04;
/// Power management of the PHY.
pub const PHPM: u32 = 0x0e14;
/// Energy efficient Ethernet: setup.
pub const EEE_SU: u32 = 0x0e24;
/// Energy efficient Ethernet: control.
pub const EEER: u32 = 0x0e30;
/// Management NVM control, at its old place.
pub const EEMNGCTL_ALIAS: u32 = 0x1010;
/// Management NVM control, §8.4.
pub const EEMNGCTL: u32 = 0x1_2030;
/// Software semaphore, §8.5.
pub const SWSM: u32 = 0x5b50;
/// Software-firmware synchronisation, §8.5.
pub const SW_FW_SYNC: u32 = 0x5b5c;
/// PCI Express control.
pub const GCR: u32 = 0x5b00;

// ---- Flow control and packet buffers ----

/// Flow control address, low half.
pub const FCAL: u32 = 0x0028;
/// Flow control address, high half.
pub const FCAH: u32 = 0x002c;
/// Flow control type.
pub const FCT: u32 = 0x0030;
/// Flow control timer.
pub const FCTTV: u32 = 0x0170;
/// Flow control receive threshold, low.
pub const FCRTL: u32 = 0x2160;
/// Flow control receive threshold, high.
pub const FCRTH: u32 = 0x2168;
/// Flow control refresh threshold, at its old place.
pub const FCRTV_ALIAS: u32 = 0x2170;
/// Flow control refresh threshold.
pub const FCRTV: u32 = 0x2460;
/// Packet buffer allocation, of older members of the family.
pub const PBA: u32 = 0x1000;
/// Packet buffer size, of older members of the family.
pub const PBS: u32 = 0x1008;
/// Sizes of the receive packet buffers, §8.3; fields in [`packet_buffer`].
pub const RXPBS: u32 = 0x2404;
/// Sizes of the transmit packet buffers, §8.3; fields in [`packet_buffer`].
pub const TXPBS: u32 = 0x3404;
/// DMA coalescing, §8.25.1. Absent on the 82576.
pub const DMACR: u32 = 0x2508;

// ---- Interrupts: §8.8 ----

/// Interrupt cause, at the place that the whole family has; QEMU has only this one.
pub const ICR: u32 = 0x00c0;
/// Interrupt cause set.
pub const ICS: u32 = 0x00c8;
/// Interrupt mask set.
pub const IMS: u32 = 0x00d0;
/// Interrupt mask clear.
pub const IMC: u32 = 0x00d8;
/// Interrupt acknowledge auto mask.
pub const IAM: u32 = 0x00e0;
/// [`ICR`] where the i210 documents it; [`ICS`] to [`IMC`] follow, four bytes apart.
pub const ICR_I210: u32 = 0x1500;
/// [`IMC`] where the i210 documents it.
pub const IMC_I210: u32 = 0x150c;
/// [`IAM`] where the i210 documents it.
pub const IAM_I210: u32 = 0x1510;
/// General purpose interrupt enable.
pub const GPIE: u32 = 0x1514;
/// Extended interrupt cause set.
pub const EICS: u32 = 0x1520;
/// Extended interrupt mask set, §8.8.5.
pub const EIMS: u32 = 0x1524;
/// Extended interrupt mask clear, §8.8.6.
pub const EIMC: u32 = 0x1528;
/// Extended interrupt auto clear, §8.8.7.
pub const EIAC: u32 = 0x152c;
/// Extended interrupt auto mask, §8.8.8.
pub const EIAM: u32 = 0x1530;
/// Extended interrupt cause, §8.8.3. Writing 1 clears; so does a read on QEMU, so the driver must
/// not read it.
pub const EICR: u32 = 0x1580;
/// Moderation of vector 0; four bytes a vector.
pub const EITR: u32 = 0x1680;
/// Vectors of queues 0 and 1.
pub const IVAR0: u32 = 0x1700;
/// Vectors of other causes.
pub const IVAR_MISC: u32 = 0x1740;

/// Bit of an IVAR byte: the vector number in it is valid.
pub const IVAR_VALID: u32 = 1 << 7;
/// Vector of the queues, the domain's, as a bit of EIMS, EIMC, EIAC and EICR.
pub const VECTOR_QUEUES: u32 = 1 << 0;
/// Vector of link and other causes, the VMM's once the driver is attached, as a bit of the same.
pub const VECTOR_OTHER: u32 = 1 << 1;

// ---- Receive: §8.9 ----

/// Receive control.
pub const RCTL: u32 = 0x0100;
/// Receive checksum control.
pub const RXCSUM: u32 = 0x5000;
/// Longest packet that is received.
pub const RLPML: u32 = 0x5004;
/// Receive filter control.
pub const RFCTL: u32 = 0x5008;
/// Multicast table array, [`HASH_TABLE_WORDS`] words.
pub const MTA: u32 = 0x5200;
/// Receive address 0, low half; eight bytes an entry.
pub const RAL0: u32 = 0x5400;
/// Receive address 0, high half and its valid bit.
pub const RAH0: u32 = 0x5404;
/// Wake-up control.
pub const WUC: u32 = 0x5800;
/// Wake-up filter control.
pub const WUFC: u32 = 0x5808;
/// Wake-up status.
pub const WUS: u32 = 0x5810;
/// Filter 0 by EtherType, which can choose a queue, §8.11; four bytes a filter.
pub const ETQF0: u32 = 0x5cb0;
/// Filters of [`ETQF0`].
pub const ETHERTYPE_FILTERS: u32 = 8;
/// Multiple receive queues command.
pub const MRQC: u32 = 0x5818;
/// Next generation VMDq control (82576).
pub const VT_CTL: u32 = 0x581c;
/// Management control.
pub const MANC: u32 = 0x5820;
/// Unicast table array, [`HASH_TABLE_WORDS`] words.
pub const UTA: u32 = 0xa000;

/// Words of [`MTA`] and of [`UTA`].
pub const HASH_TABLE_WORDS: u32 = 128;
/// Entries of the receive address table that all members of the family have.
pub const RECEIVE_ADDRESSES: u32 = 16;
/// Bit of [`RAH0`]: the address is valid.
pub const RAH_AV: u32 = 1 << 31;
/// The receive address that drills use; the driver leaves it to the VMM.
pub const PROBE_ENTRY: usize = 1;

/// Receive addresses of guests: the first one's is entry 0, the others' follow [`PROBE_ENTRY`]. The
/// driver programs them, and the VMM opens and shuts them.
#[inline]
pub fn guest_entries() -> impl Iterator<Item = usize> {
    core::iter::once(0).chain(PROBE_ENTRY + 1..).take(MAX_GUESTS)
}

/// Receive addresses that the VMM alone programs: further addresses of guests. The driver leaves them
/// as they are, or invalid on a port that nobody had before.
#[inline]
pub fn added_entries() -> impl Iterator<Item = usize> {
    PROBE_ENTRY + MAX_GUESTS..RECEIVE_ADDRESSES as usize
}

/// The halves of a receive address as [`RAL0`] and [`RAH0`] hold them, without the valid bit.
#[inline]
pub fn receive_address(mac: [u8; 6]) -> (u32, u32) {
    let [a, b, c, d, e, f] = mac;
    (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, 0, 0]))
}

// ---- Transmit: §8.11 ----

/// Transmit control.
pub const TCTL: u32 = 0x0400;
/// Transmit inter-packet gap.
pub const TIPG: u32 = 0x0410;
/// Largest request of the transmit DMA.
pub const DTXMXSZRQ: u32 = 0x3540;
/// Longest packet that the transmit DMA takes, §8.12.9.
pub const DTXMXPKTSZ: u32 = 0x355c;
/// Whose turn it is in the audio and video bridging mode: queue 0, §8.12.
pub const TQAVCC0: u32 = 0x3004;
/// Audio and video bridging control, §7.2.7.
pub const TQAVCTRL: u32 = 0x3570;
/// Transmit DMA control.
pub const DTXCTL: u32 = 0x3590;

// ---- Queues: §8.10, §8.12. Offsets in the block of one queue are in [`queue`] ----

/// First register of receive queue 0.
pub const RX_QUEUE: u32 = 0xc000;
/// The same at its old place.
pub const RX_QUEUE_ALIAS: u32 = 0x2800;
/// First register of transmit queue 0.
pub const TX_QUEUE: u32 = 0xe000;
/// The same at its old place.
pub const TX_QUEUE_ALIAS: u32 = 0x3800;
/// Bytes of the registers of one queue.
pub const QUEUE_BLOCK_BYTES: u32 = 0x40;

/// Receive descriptor ring, low half of its address, §8.10.4.
pub const RDBAL: u32 = RX_QUEUE + queue::BASE_LOW;
/// Receive descriptor ring, high half of its address.
pub const RDBAH: u32 = RX_QUEUE + queue::BASE_HIGH;
/// Receive descriptor ring, length.
pub const RDLEN: u32 = RX_QUEUE + queue::LENGTH;
/// Split and replication control, §8.10.
pub const SRRCTL: u32 = RX_QUEUE + queue::SRRCTL;
/// Receive head, §8.10.7.
pub const RDH: u32 = RX_QUEUE + queue::HEAD;
/// Direct cache access of receive queue 0.
pub const RXCTL: u32 = RX_QUEUE + queue::CACHE_CONTROL;
/// Receive tail: the doorbell, §8.10.8. Ignored while the queue is disabled.
pub const RDT: u32 = RX_QUEUE + queue::TAIL;
/// Receive descriptor control, §8.10.9.
pub const RXDCTL: u32 = RX_QUEUE + queue::CONTROL;
/// DMA offload of receive queue 0 (i210 only; reads 0 elsewhere).
pub const DVMOLR: u32 = RX_QUEUE + 0x38;

/// Transmit descriptor ring, low half of its address, §8.12.
pub const TDBAL: u32 = TX_QUEUE + queue::BASE_LOW;
/// Transmit descriptor ring, high half of its address.
pub const TDBAH: u32 = TX_QUEUE + queue::BASE_HIGH;
/// Transmit descriptor ring, length.
pub const TDLEN: u32 = TX_QUEUE + queue::LENGTH;
/// Transmit head.
pub const TDH: u32 = TX_QUEUE + queue::HEAD;
/// Direct cache access of transmit queue 0.
pub const TXCTL: u32 = TX_QUEUE + queue::CACHE_CONTROL;
/// Transmit tail: the doorbell, §8.12.
pub const TDT: u32 = TX_QUEUE + queue::TAIL;
/// Transmit descriptor control, §8.12.
pub const TXDCTL: u32 = TX_QUEUE + queue::CONTROL;
/// Head write-back address, low half and its enable bit.
pub const TDWBAL: u32 = TX_QUEUE + queue::WRITE_BACK_LOW;
/// Head write-back address, high half.
pub const TDWBAH: u32 = TX_QUEUE + queue::WRITE_BACK_HIGH;

// ---- Statistics: §8.18. Their page is the VMM's; all but the per-queue ones clear on read ----

/// First statistics register.
pub const STATISTICS: u32 = 0x4000;
/// Packets with a wrong frame check sequence.
pub const CRCERRS: u32 = 0x4000;
/// Packets that the PHY reported an error with.
pub const RXERRC: u32 = 0x400c;
/// Missed packets: no room on the chip.
pub const MPC: u32 = 0x4010;
/// Packets received of 64 bytes; the counters of five larger sizes follow.
pub const PRC64: u32 = 0x405c;
/// Good packets received.
pub const GPRC: u32 = 0x4074;
/// Broadcasts received.
pub const BPRC: u32 = 0x4078;
/// Multicasts received.
pub const MPRC: u32 = 0x407c;
/// Good packets transmitted.
pub const GPTC: u32 = 0x4080;
/// Good octets received, low half.
pub const GORCL: u32 = 0x4088;
/// Good octets transmitted, low half.
pub const GOTCL: u32 = 0x4090;
/// Packets for which no receive descriptor was free.
pub const RNBC: u32 = 0x40a0;
/// Packets that were too short, with a right frame check sequence.
pub const RUC: u32 = 0x40a4;
/// Packets that were too short, with a wrong frame check sequence.
pub const RFC: u32 = 0x40a8;
/// Packets that were too long.
pub const ROC: u32 = 0x40ac;
/// Packets that were too long, with a wrong frame check sequence.
pub const RJC: u32 = 0x40b0;
/// All octets received, low half.
pub const TORL: u32 = 0x40c0;
/// All octets transmitted, low half.
pub const TOTL: u32 = 0x40c8;
/// All packets received.
pub const TPR: u32 = 0x40d0;
/// All packets transmitted.
pub const TPT: u32 = 0x40d4;
/// Packets transmitted of 64 bytes; the counters of five larger sizes follow.
pub const PTC64: u32 = 0x40d8;
/// Multicasts transmitted.
pub const MPTC: u32 = 0x40f0;
/// Broadcasts transmitted.
pub const BPTC: u32 = 0x40f4;
/// Segmentation contexts transmitted.
pub const TSCTC: u32 = 0x40f8;
/// Packets that reached the host.
pub const RPTHC: u32 = 0x4104;
/// Good packets of the host transmitted.
pub const HGPTC: u32 = 0x4118;
/// Per-queue counters of queue 0 (PQGPRC); these wrap and are not cleared.
pub const QUEUE_STATISTICS: u32 = 0x1_0010;

/// What a register of a device that is gone reads as.
pub const ALL_ONES: u32 = u32::MAX;

// What the VMM confirms frames by must not be a domain's to clear.
const _: () = assert!(!crate::bar_map::is_domains(GPTC as u64));
const _: () = assert!(!crate::bar_map::is_domains(GPRC as u64));

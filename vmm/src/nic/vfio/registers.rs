//! The registers that the VMM itself touches (i210 datasheet §8; the same on 82576).

pub(super) const STATUS: u32 = 0x0008;
/// Link up.
pub(super) const STATUS_LU: u32 = 1 << 1;

pub(super) const ICR: u32 = 0x00c0;
/// Link status change.
pub(super) const ICR_LSC: u32 = 1 << 2;

pub(super) const RCTL: u32 = 0x0100;
/// Unicast promiscuous.
pub(super) const RCTL_UPE: u32 = 1 << 3;
/// Multicast promiscuous.
pub(super) const RCTL_MPE: u32 = 1 << 4;
/// Accept broadcast.
pub(super) const RCTL_BAM: u32 = 1 << 15;

pub(super) const TCTL: u32 = 0x0400;
/// Pad short packets; the transmit unit's enable bit stands beside it.
pub(super) const TCTL_PSP: u32 = 1 << 3;

/// Extended interrupt mask set, mask clear, cause.
pub(super) const EIMS: u32 = 0x1524;
pub(super) const EIMC: u32 = 0x1528;
pub(super) const EICR: u32 = 0x1580;
/// Vector 1, in the three.
pub(super) const LINK_VECTOR_BIT: u32 = 1 << 1;

/// Good packets transmitted; clears on read.
pub(super) const GPTC: u32 = 0x4080;

pub(super) const RAH0: u32 = 0x5404;
/// Address valid.
pub(super) const RAH_AV: u32 = 1 << 31;

/// Receive descriptor control of queue 0, and the distance to the next queue's.
pub(super) const RXDCTL0: u32 = 0xc028;
/// Transmit descriptor control of queue 0.
pub(super) const TXDCTL0: u32 = 0xe028;
pub(super) const QUEUE_STRIDE: u32 = 0x40;
/// The queue runs; reads 1 until it has stopped.
pub(super) const XDCTL_ENABLE: u32 = 1 << 25;

//! Every bounded wait and batch of the driver, with its reason.

/// Until a queue that was disabled reads disabled, µs. Draining 24 cached frames at 1 Gb/s takes
/// 0.3 ms; a queue that is still busy after thirty times that will not come down by itself.
pub const QUEUE_DISABLE_US: u64 = 10_000;

/// Until a queue that was enabled reads enabled, µs.
pub const QUEUE_ENABLE_US: u64 = 10_000;

/// Until outstanding bus requests end before a reset, µs (Linux and DPDK wait as long).
pub const MASTER_DISABLE_US: u64 = 80_000;

/// Silence after CTRL.RST, µs: the MAC must not be touched while it resets.
pub const RESET_SETTLE_US: u64 = 5_000;

/// Until the NIC has re-read its NVM after a reset, µs. QEMU never says that it has, so running
/// out of it is not an error.
pub const NVM_RELOAD_US: u64 = 10_000;

/// How long a link that is just coming up is given before negotiation is started anew, µs.
pub const LINK_GLANCE_US: u64 = 1_000;

/// One PHY register access, µs: 64 by the datasheet, with room for a stalled machine.
pub const MDIC_US: u64 = 2_000;

/// Until another holder gives a semaphore back, µs. The firmware may keep one for 10 ms.
pub const SEMAPHORE_US: u64 = 15_000;

/// Frames handled in each direction in one turn, so that neither direction starves the other and
/// the heartbeat goes on; as many share one doorbell, which on an emulated NIC costs more than they.
pub const BATCH_FRAMES: u32 = 128;

/// Empty receive descriptors that are worth a doorbell.
pub const RX_DOORBELL_BATCH: u32 = 64;

/// Below this many descriptors in the NIC's hand, every empty buffer is worth a doorbell.
pub const RX_LOW_WATER: u32 = shared_ring::layout::NIC_RX_DESCRIPTORS as u32 / 4;

/// Productive turns in a row after which interrupts are masked. Masking and unmasking cost two
/// register writes, so it pays only in a long busy spell.
pub const BUSY_TURNS_BEFORE_MASK: u32 = 32;

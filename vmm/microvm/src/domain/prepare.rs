//! Making a slot's memory as if new, for the next life.

use shared_ring::control::CONTROL_MAGIC;
use shared_ring::layout::{self, NIC_RX_DESCRIPTORS, PAGE_BYTES, RX_SLOT_EMPTY};
use shared_ring::{ABI_VERSION, Role};
use std::sync::atomic::Ordering;

use super::slot::DomainSlot;
use platform::memory::MemoryError;

/// What the next life is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrepareConfig<'a> {
    /// Number of the life, larger than that of every earlier one.
    pub epoch: u32,
    /// As what it starts.
    pub role: Role,
    /// Another domain drives the same NIC.
    pub shares_nic: bool,
    /// MAC addresses of the application guests.
    pub macs: &'a [[u8; 6]],
    /// MTU of the network.
    pub mtu: u16,
}

/// What a life may leave behind, from and to; the image's own area is cleared and loaded anew with
/// the stack in one piece. The receive pool is not in it: the switchboard clears a buffer's head
/// each time it provides it.
const CLEARED: [(u64, u64); 3] = [
    (layout::IMAGE_BASE, layout::CONTROL_BASE + PAGE_BYTES),
    (layout::STATUS_BASE, layout::LOG_BASE + layout::LOG_BYTES),
    (layout::TX_POST_BASE, layout::DMA_BASE + layout::DMA_BYTES),
];

impl DomainSlot {
    /// Zeroes what the previous life wrote and writes the control page. The previous life must be
    /// gone and the NIC quiet; then come the switchboard's `install` and `Life::start`.
    ///
    /// # Errors
    /// None but a RAM that is smaller than the memory map, which a slot never has.
    pub fn prepare(&self, config: &PrepareConfig<'_>) -> Result<(), MemoryError> {
        for (from, to) in CLEARED {
            self.ram.clear(from, (to - from) as usize)?;
        }
        for descriptor in 0..NIC_RX_DESCRIPTORS {
            self.rx_slot(descriptor).store(RX_SLOT_EMPTY, Ordering::Relaxed);
        }
        let control = self.control();
        control.abi_version.store(ABI_VERSION, Ordering::Relaxed);
        control.epoch.store(config.epoch, Ordering::Relaxed);
        control.role.store(config.role as u32, Ordering::Relaxed);
        control.dma_iova.store(self.dma_iova(), Ordering::Relaxed);
        control.rx_pool_iova.store(self.rx_pool_iova(), Ordering::Relaxed);
        control.nic_is_shared.store(config.shares_nic.into(), Ordering::Relaxed);
        control.set_macs(config.macs);
        control.mtu.store(config.mtu.into(), Ordering::Relaxed);
        control.magic.store(CONTROL_MAGIC, Ordering::Release);
        Ok(())
    }
}

//! Access to the NIC's registers.

use shared_ring::bar_map;
use shared_ring::layout::BAR_BASE;

/// The registers of a NIC: aligned 32-bit accesses, carried out in program order.
pub trait Registers {
    /// A load from `offset`, in bytes.
    fn read(&self, offset: u32) -> u32;
    /// A store to `offset`, in bytes.
    fn write(&self, offset: u32, value: u32);
}

/// BAR 0 where the VMM maps it into a domain.
#[derive(Debug)]
pub struct MappedBar(());

impl MappedBar {
    /// The BAR of this domain.
    ///
    /// # Safety
    /// The caller runs in a driver domain, whose memory map has registers at
    /// [`shared_ring::layout::BAR_BASE`].
    pub unsafe fn new() -> Self {
        Self(())
    }

    fn register(offset: u32) -> *mut u32 {
        assert!(bar_map::is_domains(offset.into()) && offset.is_multiple_of(4));
        (BAR_BASE + u64::from(offset)) as *mut u32
    }
}

impl Registers for MappedBar {
    #[inline(always)]
    fn read(&self, offset: u32) -> u32 {
        // SAFETY: aligned and in a part of the BAR that a domain has, as asserted; whoever made `self` promised the BAR.
        unsafe { Self::register(offset).read_volatile() }
    }

    #[inline(always)]
    fn write(&self, offset: u32, value: u32) {
        // SAFETY: as in `read`.
        unsafe { Self::register(offset).write_volatile(value) }
    }
}

//! What a micro-VM is made of.

use std::sync::Arc;

use super::image::Image;
use platform::memory::SharedMemory;

/// What a program may do with a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// R--.
    ReadOnly,
    /// RW-.
    ReadWrite,
}

/// Pages that the program sees, never executable, at the same virtual as physical address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First byte; page-aligned.
    pub address: u64,
    /// Bytes; whole pages.
    pub len: u64,
    /// Rights.
    pub protection: Protection,
    /// Registers rather than memory: not cached. An address with nothing behind it traps.
    pub uncached: bool,
}

/// Memory of the VMM's, outside the guest's RAM, that is to appear at a guest-physical address:
/// pages of a real BAR. The program sees it where a [`Mapping`] lies over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemSlot {
    pub(super) guest_address: u64,
    pub(super) host_address: u64,
    pub(super) len: u64,
}

impl MemSlot {
    /// A slot; all three page-aligned, the length in bytes.
    ///
    /// # Safety
    /// The host memory must stay mapped and not be used by Rust references as long as any
    /// [`super::MicroVm`] that is given the slot lives.
    pub unsafe fn new(guest_address: u64, host_address: u64, len: u64) -> Self {
        Self { guest_address, host_address, len }
    }
}

/// What a micro-VM is made of.
#[derive(Clone, Debug)]
pub struct MicroVmConfig<'a> {
    /// All its RAM, from guest-physical 0.
    pub ram: Arc<SharedMemory>,
    /// Where in RAM page tables, descriptor tables and stub go; page-aligned, out of the way of all
    /// else.
    pub system_base: u64,
    /// Bytes of the system area: [`SYSTEM_FIXED_BYTES`], one page of page tables for each 2 MiB of
    /// the address space that is in use, one for each GiB of that, and two.
    pub system_bytes: u64,
    /// The program; its segments get the rights that stand in the ELF file.
    pub image: &'a Image,
    /// What the program sees beside its image: stack, shared memory, registers.
    pub mappings: &'a [Mapping],
    /// Memory other than RAM.
    pub slots: &'a [MemSlot],
    /// First address above the stack, 16-byte aligned. The program starts as if it had been called
    /// from address 0: RSP is 8 below, where a zero stands for a return address.
    pub stack_top: u64,
    /// The page whose stores are hypercalls; the program sees it.
    pub hypercall_base: u64,
    /// RDI and RSI at the entry point.
    pub arguments: [u64; 2],
}

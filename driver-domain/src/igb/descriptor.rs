//! Descriptors: sixteen bytes each, i210 datasheet §7.1.4 (receive) and §7.2.2 (transmit).

use core::sync::atomic::{AtomicU64, Ordering};

/// Bytes of a descriptor.
pub const DESCRIPTOR_BYTES: u32 = 16;

/// One descriptor in the DMA area: two words that the NIC reads and writes too.
#[derive(Debug, Default)]
#[repr(C, align(16))]
pub struct Descriptor([AtomicU64; 2]);

const _: () = assert!(size_of::<Descriptor>() == DESCRIPTOR_BYTES as usize);

/// Write-back bit "descriptor done" of a transmit descriptor, in its second word.
pub const TX_DONE: u64 = 1 << 32;
/// Write-back bits of a receive descriptor, in its second word.
pub mod rx {
    /// Descriptor done.
    pub const DONE: u64 = 1 << 0;
    /// Last buffer of a frame.
    pub const END: u64 = 1 << 1;
    /// The MAC reported an error with this frame.
    pub const ERROR: u64 = 1 << 31;
}

/// Low half of the second word of a transmit descriptor.
pub(crate) mod command {
    pub(crate) const TYPE_CONTEXT: u32 = 2 << 20;
    pub(crate) const TYPE_DATA: u32 = 3 << 20;
    pub(crate) const END: u32 = 1 << 24;
    pub(crate) const INSERT_FCS: u32 = 1 << 25;
    pub(crate) const REPORT_STATUS: u32 = 1 << 27;
    pub(crate) const ADVANCED: u32 = 1 << 29;
}

/// High half of the second word of a transmit data descriptor.
pub(crate) mod option {
    pub(crate) const INSERT_L4_CHECKSUM: u32 = 1 << 9;
    pub(crate) const PAYLEN_SHIFT: u32 = 14;
}

impl Descriptor {
    /// Writes both words. A doorbell afterwards gives them to the NIC.
    pub fn store(&self, first: u64, second: u64) {
        let [a, b] = &self.0;
        a.store(first, Ordering::Relaxed);
        b.store(second, Ordering::Relaxed);
    }

    /// The word that the NIC writes status into. What the NIC wrote before that status is visible
    /// after this load.
    pub fn status(&self) -> u64 {
        self.0[1].load(Ordering::Acquire)
    }

    /// Both words as they stand.
    pub fn words(&self) -> [u64; 2] {
        let [a, b] = &self.0;
        [a.load(Ordering::Relaxed), b.load(Ordering::Acquire)]
    }

    /// What a NIC does when it is done: changes the second word last.
    #[cfg(any(test, feature = "testing"))]
    pub fn write_back(&self, second: u64) {
        self.0[1].store(second, Ordering::Release);
    }
}

/// Second word of a descriptor that ends a packet of no bytes, in the legacy format, which is the
/// only one in which the datasheet defines it (§7.2.2.1.2): transfers nothing, allowed between
/// packets.
pub(crate) const NULL_PACKET: u64 = command::END as u64;

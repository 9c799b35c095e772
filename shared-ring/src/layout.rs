//! The memory map of a driver domain.
//!
//! Guest-physical and guest-virtual addresses are the same. All RAM is one block of
//! [`RAM_BYTES`], so that a domain is one memslot; the page tables decide what of it the driver,
//! which runs at CPL 3, may see.
//!
//! ```text
//! 0x0000_0000  unmapped: a null pointer faults
//! 0x0001_0000  SYSTEM    page tables, GDT, IDT, TSS, exception stub      CPL 0 only
//! 0x0004_0000  IMAGE     text R-X, rodata R--, data and bss RW-
//! 0x000e_0000  guard page, unmapped
//! 0x000e_1000  STACK     RW-
//! 0x0010_0000  CONTROL   one page, VMM writes                            R--
//! 0x0011_0000  STATUS    one page, domain writes                         RW-
//! 0x0011_1000  RX_SLOTS  buffer number of each NIC receive descriptor    RW-
//! 0x0011_2000  LOG       text ring                                       RW-
//! 0x0012_0000  TX_POST    switchboard -> domain: frames to send          R--
//! 0x0012_8000  RX_PROVIDE switchboard -> domain: empty receive buffers   R--
//! 0x0013_0000  TX_DONE    domain -> switchboard: frames claimed sent     RW-
//! 0x0013_8000  RX_DONE    domain -> switchboard: frames received         RW-
//! 0x0014_0000  DMA        NIC descriptor rings, the domain's own         RW-, NIC: rw
//! 0x0020_0000  RX_POOL    receive buffers                                RW-, NIC: w
//! 0xd000_0000  HYPERCALL one unbacked page
//! 0xe000_0000  BAR       the NIC's registers, uncached
//! ```
//!
//! The TX pool is not in this map: a domain knows only the I/O addresses of its buffers.

/// Bytes of a page.
pub const PAGE_BYTES: u64 = 4096;

/// RAM of a domain in bytes, from guest-physical 0.
pub const RAM_BYTES: u64 = 4 << 20;

/// System area: page tables, descriptor tables, stub. CPL 0 only.
pub const SYSTEM_BASE: u64 = 0x0001_0000;
/// Bytes of the system area.
pub const SYSTEM_BYTES: u64 = 0x0003_0000;

/// Where images are linked.
pub const IMAGE_BASE: u64 = 0x0004_0000;
/// Most bytes an image may take, bss included.
pub const IMAGE_BYTES: u64 = 0x000a_0000;

/// Lowest address of the stack; the page below is the guard.
pub const STACK_BASE: u64 = 0x000e_1000;
/// First address above the stack.
pub const STACK_TOP: u64 = 0x0010_0000;

/// The [`crate::ControlPage`].
pub const CONTROL_BASE: u64 = 0x0010_0000;
/// The [`crate::StatusPage`].
pub const STATUS_BASE: u64 = 0x0011_0000;
/// Table of `u16`: the buffer that receive descriptor *i* points at ([`RX_SLOT_EMPTY`] if none).
pub const RX_SLOTS_BASE: u64 = 0x0011_1000;
/// Log text, see [`crate::StatusPage::log_written`].
pub const LOG_BASE: u64 = 0x0011_2000;
/// Bytes of the log text ring.
pub const LOG_BYTES: u64 = 0x0000_2000;

/// Ring of frames to send.
pub const TX_POST_BASE: u64 = 0x0012_0000;
/// Ring of empty receive buffers.
pub const RX_PROVIDE_BASE: u64 = 0x0012_8000;
/// Ring of sent frames.
pub const TX_DONE_BASE: u64 = 0x0013_0000;
/// Ring of received frames.
pub const RX_DONE_BASE: u64 = 0x0013_8000;

/// The domain's private DMA area.
pub const DMA_BASE: u64 = 0x0014_0000;
/// Bytes of the private DMA area.
pub const DMA_BYTES: u64 = 0x0000_4000;
/// Offset in the DMA area of the NIC's receive descriptor ring.
pub const DMA_RX_RING_OFFSET: u64 = 0;
/// Offset in the DMA area of the NIC's transmit descriptor ring.
pub const DMA_TX_RING_OFFSET: u64 = 0x2000;

/// Receive buffers.
pub const RX_POOL_BASE: u64 = 0x0020_0000;

/// The page whose stores are hypercalls.
pub const HYPERCALL_BASE: u64 = 0xd000_0000;
/// The NIC's BAR 0.
pub const BAR_BASE: u64 = 0xe000_0000;
/// Most bytes of BAR 0 that are mapped (128 KiB on the 82576 and the i210 alike).
pub const BAR_BYTES: u64 = 0x0002_0000;

/// Most application guests that one pair of NICs serves.
pub const MAX_GUESTS: usize = 8;
/// Entries of each shared ring. The model checker walks every interleaving, so it gets a small one.
pub const RING_ENTRIES: usize = if cfg!(loom) { 4 } else { 1024 };
/// Buffers of the receive pool of each domain.
pub const RX_BUFFERS: usize = 1024;
/// Buffers of the common transmit pool.
pub const TX_BUFFERS: usize = 1024;
/// Bytes of a buffer; none crosses a page.
pub const BUFFER_BYTES: usize = 2048;
/// Descriptors of the NIC's receive ring.
pub const NIC_RX_DESCRIPTORS: usize = 512;
/// Descriptors of the NIC's transmit ring.
pub const NIC_TX_DESCRIPTORS: usize = 512;
/// Bytes at the head of a receive buffer that the switchboard clears before it provides it: a
/// "received" frame that still shows them was never written by the NIC.
pub const CLEARED_HEADER_BYTES: usize = 64;
/// No buffer in this receive descriptor.
pub const RX_SLOT_EMPTY: u16 = u16::MAX;

#[cfg(not(loom))]
const _: () = {
    assert!(RING_ENTRIES.is_power_of_two());
    assert!(RX_BUFFERS <= RING_ENTRIES && TX_BUFFERS <= RING_ENTRIES);
    assert!((PAGE_BYTES as usize).is_multiple_of(BUFFER_BYTES));
    let ring_bytes = (RING_ENTRIES * crate::entry::ENTRY_BYTES) as u64;
    assert!(TX_POST_BASE + ring_bytes == RX_PROVIDE_BASE);
    assert!(RX_PROVIDE_BASE + ring_bytes == TX_DONE_BASE);
    assert!(TX_DONE_BASE + ring_bytes == RX_DONE_BASE);
    assert!(RX_DONE_BASE + ring_bytes <= DMA_BASE);
    assert!(DMA_RX_RING_OFFSET + NIC_RX_DESCRIPTORS as u64 * 16 <= DMA_TX_RING_OFFSET);
    assert!(DMA_TX_RING_OFFSET + NIC_TX_DESCRIPTORS as u64 * 16 <= DMA_BYTES);
    assert!(RX_SLOTS_BASE + NIC_RX_DESCRIPTORS as u64 * 2 <= LOG_BASE);
    assert!(DMA_BASE + DMA_BYTES <= RX_POOL_BASE);
    assert!(RX_POOL_BASE + (RX_BUFFERS * BUFFER_BYTES) as u64 == RAM_BYTES);
    assert!(IMAGE_BASE + IMAGE_BYTES < STACK_BASE);
};

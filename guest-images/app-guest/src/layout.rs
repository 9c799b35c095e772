//! The memory map of the application guest.
//!
//! Guest-physical and guest-virtual addresses are the same; all RAM is one block from 0, and the
//! vhost-user back-end is given all of it, as with any guest.
//!
//! ```text
//! 0x0000_0000  unmapped: a null pointer faults
//! 0x0001_0000  SYSTEM   page tables, GDT, IDT, TSS, exception stub     CPL 0 only
//! 0x0004_0000  CONTROL  one page, VMM writes                           R--
//! 0x0004_1000  STATUS   one page, guest writes                         RW-
//! 0x0005_0000  CANARY   known pattern that nothing may change          RW-
//! 0x0006_0000  guard page, unmapped
//! 0x0006_1000  STACK                                                   RW-
//! 0x0010_0000  IMAGE    text R-X, rodata R--, data and bss RW-
//! 0x0020_0000  QUEUES   the virtqueues                                 RW-
//! 0x0022_0000  RX       receive buffers                                RW-
//! 0x002a_0000  TX       transmit buffers                               RW-
//! 0x0032_0000  SOCKET   buffers of the UDP socket                      RW-
//! 0xd000_0000  HYPERCALL one unbacked page
//! 0xe000_0000  DEVICE   registers of the virtio-mmio network device, unbacked
//! ```

/// Bytes of a page.
pub const PAGE_BYTES: u64 = 4096;

/// RAM in bytes, from guest-physical 0.
pub const RAM_BYTES: u64 = 4 << 20;

/// System area: page tables, descriptor tables, stub. CPL 0 only.
pub const SYSTEM_BASE: u64 = 0x0001_0000;
/// Bytes of the system area.
pub const SYSTEM_BYTES: u64 = 0x0003_0000;

/// The [`crate::pages::ControlPage`].
pub const CONTROL_BASE: u64 = 0x0004_0000;
/// The [`crate::pages::StatusPage`].
pub const STATUS_BASE: u64 = 0x0004_1000;

/// See [`crate::canary`].
pub const CANARY_BASE: u64 = 0x0005_0000;
/// Bytes of the canary area.
pub const CANARY_BYTES: u64 = 0x0001_0000;

/// Lowest address of the stack; the page below is the guard.
pub const STACK_BASE: u64 = 0x0006_1000;
/// First address above the stack.
pub const STACK_TOP: u64 = 0x000a_0000;

/// Where the image is linked. `image.ld` says the same.
pub const IMAGE_BASE: u64 = 0x0010_0000;
/// Most bytes the image may take, bss included.
pub const IMAGE_BYTES: u64 = 0x0010_0000;

/// Memory for the virtqueues themselves.
pub const QUEUES_BASE: u64 = 0x0020_0000;
/// Bytes of that memory.
pub const QUEUES_BYTES: u64 = 0x0001_0000;

/// Entries of each virtqueue, and buffers for each.
pub const QUEUE_ENTRIES: usize = 256;
/// Bytes of a buffer: a virtio-net header and a frame of the usual MTU; none crosses a page.
pub const BUFFER_BYTES: usize = 2048;
/// Receive buffers.
pub const RX_BASE: u64 = 0x0022_0000;
/// Transmit buffers.
pub const TX_BASE: u64 = 0x002a_0000;

/// Payload of datagrams that arrived and were not yet answered.
pub const SOCKET_RX_BASE: u64 = 0x0032_0000;
/// Bytes of these.
pub const SOCKET_RX_BYTES: u64 = 0x0002_0000;
/// Payload of answers that wait for a transmit buffer or for ARP.
pub const SOCKET_TX_BASE: u64 = 0x0034_0000;
/// Bytes of these.
pub const SOCKET_TX_BYTES: u64 = 0x000c_0000;

/// The page whose stores are hypercalls; the same as a driver domain's.
pub const HYPERCALL_BASE: u64 = shared_ring::layout::HYPERCALL_BASE;
/// Registers of the virtio-mmio network device (virtio 1.3 §4.2.2).
pub const DEVICE_BASE: u64 = 0xe000_0000;
/// Bytes of these registers, configuration space included.
pub const DEVICE_BYTES: u64 = PAGE_BYTES;

const _: () = {
    assert!(SYSTEM_BASE + SYSTEM_BYTES <= CONTROL_BASE);
    assert!(CONTROL_BASE + PAGE_BYTES == STATUS_BASE);
    assert!(CANARY_BASE + CANARY_BYTES + PAGE_BYTES == STACK_BASE);
    assert!(STACK_TOP <= IMAGE_BASE && IMAGE_BASE + IMAGE_BYTES <= QUEUES_BASE);
    let pool = (QUEUE_ENTRIES * BUFFER_BYTES) as u64;
    assert!(QUEUES_BASE + QUEUES_BYTES <= RX_BASE && RX_BASE + pool == TX_BASE);
    assert!(TX_BASE + pool == SOCKET_RX_BASE);
    assert!(SOCKET_RX_BASE + SOCKET_RX_BYTES == SOCKET_TX_BASE);
    assert!(SOCKET_TX_BASE + SOCKET_TX_BYTES == RAM_BYTES);
    assert!((PAGE_BYTES as usize).is_multiple_of(BUFFER_BYTES));
};

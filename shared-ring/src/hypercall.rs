//! Hypercalls: 32-bit stores to the unbacked page at [`crate::layout::HYPERCALL_BASE`].
//!
//! A store cannot return a value; what a call answers stands in the [`crate::ControlPage`].
//! The stored value is the argument.

/// Offsets of the calls in the hypercall page, in bytes.
pub mod offset {
    /// The driver is attached: NIC programmed, buffers posted. In role
    /// [`crate::Role::Unattached`]: the program runs, and waits. Argument: 0.
    pub const READY: u64 = 0x00;
    /// Park until there may be work; returns after a kick, a NIC interrupt or the VMM's own wish.
    /// Why stands in [`crate::ControlPage::wake_reason`]; every wake means "look at everything".
    pub const WAIT: u64 = 0x08;
    /// Entries were published for the switchboard. An ioeventfd: no exit to the VMM's user space.
    pub const NOTIFY: u64 = 0x10;
    /// The domain gives up. Argument: see [`super::PanicCode`]; text in the status page.
    pub const PANIC: u64 = 0x18;
    /// There is new text, of a guest whose VMM wants to be told. Argument: 0.
    pub const LOG: u64 = 0x20;
    /// The exception stub reports. Argument: the vector.
    pub const EXCEPTION: u64 = 0x28;
}

/// Argument of [`offset::PANIC`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum PanicCode {
    /// A Rust panic.
    Panic = 1,
    /// The control page is of another ABI version, or not a control page.
    Abi = 2,
    /// The NIC could not be brought up.
    NicInit = 3,
    /// The NIC answers all ones: it is gone.
    NicGone = 4,
    /// A ring cursor or entry from the VMM is impossible.
    Ring = 5,
}

impl PanicCode {
    /// The code with this number.
    pub const fn from_u32(code: u32) -> Option<Self> {
        Some(match code {
            1 => Self::Panic,
            2 => Self::Abi,
            3 => Self::NicInit,
            4 => Self::NicGone,
            5 => Self::Ring,
            _ => return None,
        })
    }
}

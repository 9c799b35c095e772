//! What a domain asks of the VMM, see [`shared_ring::hypercall`].

use shared_ring::hypercall::{PanicCode, offset};
use shared_ring::layout::HYPERCALL_BASE;

/// The calls of a domain.
pub trait Hypercalls {
    /// The driver is attached.
    fn ready(&self);
    /// Parks until there may be work.
    fn wait(&self);
    /// Entries were published for a switchboard that sleeps.
    fn notify(&self);
    /// The domain gives up.
    fn panic(&self, code: PanicCode);
}

/// The page whose stores are calls.
#[derive(Debug)]
pub struct HypercallPage(());

impl HypercallPage {
    /// The page of this domain.
    ///
    /// # Safety
    /// The caller runs in a driver domain: stores to
    /// [`shared_ring::layout::HYPERCALL_BASE`] reach the VMM.
    pub const unsafe fn new() -> Self {
        Self(())
    }

    #[inline(always)]
    fn call(&self, offset: u64, argument: u32) {
        // SAFETY: whoever made `self` promised that the store reaches the VMM. It writes no memory.
        unsafe { ((HYPERCALL_BASE + offset) as *mut u32).write_volatile(argument) }
    }
}

impl Hypercalls for HypercallPage {
    fn ready(&self) {
        self.call(offset::READY, 0);
    }

    fn wait(&self) {
        self.call(offset::WAIT, 0);
    }

    fn notify(&self) {
        self.call(offset::NOTIFY, 0);
    }

    fn panic(&self, code: PanicCode) {
        self.call(offset::PANIC, code as u32);
    }
}

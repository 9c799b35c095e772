//! A NIC that does not exist, for benchmarks and tests of the code that uses one.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::error::NicError;
use crate::interface::{BarAccess, DmaArea, Nic};

/// A NIC without a wire: it has sent as many frames as its owner says, and receives none.
#[derive(Debug)]
pub struct NullNic {
    sent: AtomicU32,
    /// How often its count of sent frames was read.
    asked: AtomicU32,
    link: AtomicBool,
    event: EventFd,
}

impl NullNic {
    /// One with its link up.
    ///
    /// # Errors
    /// The operating system refuses an eventfd.
    pub fn new() -> io::Result<Arc<Self>> {
        let event = EventFd::new(EFD_NONBLOCK)?;
        Ok(Arc::new(Self {
            sent: AtomicU32::new(0),
            asked: AtomicU32::new(0),
            link: AtomicBool::new(true),
            event,
        }))
    }

    /// Counts that many more frames as sent.
    pub fn send(&self, frames: u32) {
        self.sent.fetch_add(frames, Ordering::AcqRel);
    }

    /// How often it was asked what it has sent.
    pub fn asked(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Plugs its cable in (`true`), or pulls it.
    pub fn set_link(&self, up: bool) {
        self.link.store(up, Ordering::Relaxed);
    }
}

impl Nic for NullNic {
    fn name(&self) -> &str {
        "null"
    }
    fn shut_units(&self) {}
    fn open_filters(&self) {}
    fn take_sent(&self) -> u32 {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.sent.swap(0, Ordering::AcqRel)
    }
    fn link_up(&self) -> bool {
        self.link.load(Ordering::Relaxed)
    }
    fn shut_filters(&self) {}
    fn accept_probes(&self, _to: Option<[u8; 6]>) {}
    fn take_received(&self) -> u32 {
        0
    }
    fn queue_event(&self) -> &EventFd {
        &self.event
    }
    fn link_event(&self) -> &EventFd {
        &self.event
    }
    fn acknowledge_link(&self) -> bool {
        self.link_up()
    }
    fn map_dma(&self, _areas: &[DmaArea]) -> Result<(), NicError> {
        Ok(())
    }
    fn quiesce(&self) -> Result<(), NicError> {
        Ok(())
    }
    fn enable_bus_master(&self) -> Result<(), NicError> {
        Ok(())
    }
    fn reset(&self) -> Result<(), NicError> {
        Ok(())
    }
    fn bar(&self) -> BarAccess<'_> {
        BarAccess::Mapped(&[])
    }
    fn arm_first_sent(&self) {}
    fn first_sent_ns(&self) -> Option<u64> {
        None
    }
    fn progress(&self) -> u64 {
        0
    }
    fn peek(&self, _register: u32) -> u32 {
        0
    }
    fn poke(&self, _register: u32, _value: u32) {}
}

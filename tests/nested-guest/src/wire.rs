//! The third NIC as a wire for the product's own sender.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use anyhow::Result;
use nic::wire::Wire;

use crate::link::RawWire;

/// A wire on a raw socket. Frames wait in the socket until the sender has time for them.
pub(crate) struct SenderWire(RawWire);

impl SenderWire {
    pub(crate) fn open() -> Result<Arc<Self>> {
        Ok(Arc::new(Self(RawWire::open()?)))
    }
}

impl Wire for SenderWire {
    fn send(&self, frame: &[u8]) {
        // A frame that cannot be sent is lost, as on a real wire; the sender's ledger shows it.
        let _ = self.0.send(frame);
    }

    fn receive(&self, into: &mut [u8]) -> Option<usize> {
        self.0.receive_into(into)
    }

    fn readable(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }

    fn link_up(&self) -> bool {
        true
    }

    fn link_changed(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn follow_link(&self) {}
}

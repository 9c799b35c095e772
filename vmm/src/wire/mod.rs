//! The wire of an emulated NIC.

mod frame_ring;
mod switch;

pub use switch::{EthernetSwitch, MAX_PORTS, Port, PortCounters, QUEUE_FRAMES, SwitchError};

use vmm_sys_util::eventfd::EventFd;

/// Longest frame a wire carries, in bytes, without frame check sequence.
pub const MAX_FRAME_BYTES: usize = 9728;

/// One end of a cable.
///
/// Used by one receiving thread and any number of sending ones. Neither direction blocks or
/// allocates: a frame for which there is no room is dropped and counted, as on a real wire.
pub trait Wire: Send + Sync {
    /// Sends a frame without its check sequence. Dropped if the link is down.
    fn send(&self, frame: &[u8]);

    /// Takes a received frame: its length, the bytes in `into` (at least [`MAX_FRAME_BYTES`]).
    fn receive(&self, into: &mut [u8]) -> Option<usize>;

    /// Readable when [`Self::receive`] may have something. The receiver reads it, then looks.
    fn readable(&self) -> &EventFd;

    /// Whether the cable has a live other end.
    fn link_up(&self) -> bool;

    /// Readable when [`Self::link_up`] may have changed.
    fn link_changed(&self) -> &EventFd;
}

//! A guest's port: its two virtqueues, and the frames that go through them.
//!
//! Virtio-net (virtio 1.3, 5.1): queue 0 receives, queue 1 transmits; each frame stands behind a
//! header. A guest may leave TCP's and UDP's checksums to be computed, and long frames of TCP to be
//! cut; nothing that it receives is vouched for, and no frame is longer than on the wire.
//!
//! | file | holds |
//! |---|---|
//! | `numbers`, `offloads` | which ring is which; what a guest may leave to others |
//! | `guard`, `memory`, `dirty` | the guest's memory, and marks of what was written there |
//! | `foreign` | descriptors of the front-end's, which may be anything |
//! | `doorbell`, `signal` | kicks and calls |
//! | `chain`, `scatter`, `vring` | chains of buffers, and the ring that they stand in |
//! | `header`, `segmentation` | what a frame's header asks for |
//! | `incoming`, `outgoing` | frames to the guest, and from it |
//! | `guest_port`, `events` | all of a guest together, and what its connection hears of |

mod chain;
mod dirty;
mod doorbell;
mod events;
mod foreign;
mod guard;
mod guest_port;
mod header;
mod incoming;
mod memory;
mod numbers;
mod offloads;
mod outgoing;
mod scatter;
mod segmentation;
mod signal;
mod vring;

pub(crate) use self::dirty::{DirtyLog, Marks};
pub(crate) use self::doorbell::{Call, Kick};
pub use self::events::FrontEnds;
pub(crate) use self::events::PortEvents;
pub(crate) use self::foreign::{Closer, Foreign};
pub(crate) use self::guest_port::GuestPort;
pub(crate) use self::incoming::Delivery;
pub(crate) use self::memory::{
    GuestMemory, GuestMemoryError, MAX_MAPPED_BYTES, MAX_REGIONS, MappedRegion, RegionSpec,
};
pub(crate) use self::numbers::{RINGS, RX_RING, TX_RING};
#[cfg(test)]
pub(crate) use self::offloads::Internet;
pub(crate) use self::offloads::{Checksum, Offloads};
pub(crate) use self::outgoing::Taken;
pub(crate) use self::vring::{Vring, VringConfig};

//! Driver domains: what is permanent about one (its slot) and what lives and dies (a life).

mod slot;

pub use slot::{DomainId, DomainSlot, HostRings, SlotError};

//! NICs of the Intel igb family, as the VMM sees them: what it may touch of a NIC that a domain
//! drives. The driver is in `driver-domain`; the VMM links none of it.
//!
//! ```text
//!            interface (Nic)         discovery, bind (sysfs)
//!      ┌─────────┼──────────┐              │
//!   emulated    vfio      NullNic          ▼
//!      │          └────────────────▶ obstacle, pci
//!      ▼
//!     wire (EthernetSwitch, Tap)
//! ```

mod added;
pub mod bind;
pub mod discovery;
pub mod emulated;
mod error;
mod interface;
mod null;
pub mod obstacle;
pub mod pci;
mod pristine;
mod totals;
pub mod vfio;
pub mod wire;

pub use added::AddedAddresses;
pub use error::NicError;
pub use interface::{BarAccess, BarPages, BarRegisters, DmaAccess, DmaArea, Nic};
pub use null::NullNic;
pub use shared_ring::igb_registers as registers;
pub use totals::NicCounters;

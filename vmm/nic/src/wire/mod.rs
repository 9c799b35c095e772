//! The wire of an emulated NIC.

mod frame_ring;
mod interface;
mod switch;
mod tap;

pub use interface::{MAX_FRAME_BYTES, Wire};
pub use switch::{EthernetSwitch, MAX_PORTS, Port, PortCounters, QUEUE_FRAMES, SwitchError};
pub use tap::{TAP_NAME_BYTES, Tap, TapCounters, TapError};

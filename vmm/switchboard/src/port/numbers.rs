//! The virtqueues of a port, by number.

/// Index of the virtqueue on which the guest receives.
pub(crate) const RX_RING: usize = 0;
/// Index of the virtqueue on which the guest transmits.
pub(crate) const TX_RING: usize = 1;
/// Virtqueues of a port.
pub(crate) const RINGS: usize = 2;

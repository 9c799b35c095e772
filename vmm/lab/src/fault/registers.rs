//! Faults in the NIC's registers: what a bit flip on the chip, or a stray store of the driver, would
//! do. The stores go through the VMM's own access.

use super::cause::Injected;
use nic::{Nic, registers as reg};
use platform::clock::monotonic_ns;

/// Number of variants of [`corrupt_register`].
pub const REGISTER_VARIANTS: usize = 6;

/// Corrupts one register. Each variant costs the service something: a unit is off, frames are
/// refused, or the NIC believes it has no buffers.
pub(super) fn corrupt_register(nic: &dyn Nic, variant: usize) -> Injected {
    let rx_head = reg::RX_QUEUE + reg::queue::HEAD;
    let flip = |register: u32, bit: u32| (register, nic.peek(register) ^ bit);
    let (site, (register, value)) = match variant % REGISTER_VARIANTS {
        0 => ("rctl", flip(reg::RCTL, reg::rctl::EN)),
        1 => ("tctl", flip(reg::TCTL, reg::tctl::EN)),
        2 => ("rdt", (reg::RDT, nic.peek(rx_head))),
        // Beyond the ring: the NIC stops receiving there.
        3 => ("rdt", flip(reg::RDT, 1 << 13)),
        4 => ("rah0", flip(reg::RAH0, reg::RAH_AV)),
        _ => ("ral0", flip(reg::RAL0, 1 << 9)),
    };
    let at_ns = monotonic_ns();
    nic.poke(register, value);
    Injected { at_ns, site }
}

/// Masks the interrupt of the queues.
pub(super) fn mask(nic: &dyn Nic) {
    nic.poke(reg::EIMC, reg::VECTOR_QUEUES);
}

/// Unmasks the interrupt again; a pending one is delivered at once.
pub(super) fn unmask(nic: &dyn Nic) {
    nic.poke(reg::EIMS, reg::VECTOR_QUEUES);
}

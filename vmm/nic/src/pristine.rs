//! Registers that a driver never writes and a wild store of one can spoil, so that each new driver
//! attaches, says that all is well, and does not work. They are read when a NIC is opened, fresh from
//! a reset, and put back before each life. So such a NIC needs no reset, which would cost its link.
//!
//! What a new driver writes itself, is not among them; nor the PHY, whose registers take a semaphore
//! to reach, and PHPM, with which a board may be delivered that the driver has to change.

use crate::interface::BarRegisters;
use crate::registers::{
    ALL_ONES, DMACR, DTXMXPKTSZ, ETHERTYPE_FILTERS, ETQF0, RXPBS, TQAVCC0, TQAVCTRL, TXPBS,
};

const FIXED: [u32; 6] = [RXPBS, TXPBS, DMACR, TQAVCC0, TQAVCTRL, DTXMXPKTSZ];

fn registers() -> impl Iterator<Item = u32> {
    FIXED.into_iter().chain((0..ETHERTYPE_FILTERS).map(|filter| ETQF0 + 4 * filter))
}

/// What these registers held. A register that a model does not have reads 0 and takes no write.
#[derive(Debug)]
pub(crate) struct Pristine(Vec<(u32, u32)>);

impl Pristine {
    /// Of a NIC that was just reset.
    pub(crate) fn of(bar: &impl BarRegisters) -> Self {
        let values = registers().map(|register| (register, bar.read(register)));
        // All ones is what a NIC answers that is gone: nothing to put back.
        Self(values.filter(|(_, value)| *value != ALL_ONES).collect())
    }

    /// Compares one of them. Returns the register, what a reset leaves there and what it holds, if
    /// these differ.
    pub(crate) fn compare(
        &self,
        bar: &impl BarRegisters,
        number: usize,
    ) -> Option<(u32, u32, u32)> {
        let (register, expected) = *self.0.get(number % self.0.len())?;
        let found = bar.read(register);
        (found != expected).then_some((register, expected, found))
    }

    /// Puts back what has changed. Off the path, while the units are off.
    pub(crate) fn restore(&self, bar: &impl BarRegisters, name: &str) {
        for (register, value) in &self.0 {
            let found = bar.read(*register);
            if found == ALL_ONES {
                // It is gone, which others find.
                return;
            }
            if found != *value {
                tracing::warn!(
                    nic = name,
                    "register {register:#x} held {found:#x} where a reset leaves {value:#x}: put back"
                );
                bar.write(*register, *value);
            }
        }
    }
}

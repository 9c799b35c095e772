//! Registers that only keep what was written: a driver reads them back, and nothing depends on
//! them in this model.

use shared_ring::igb_registers as reg;
use std::sync::atomic::{AtomicU32, Ordering};

/// A reset of the NIC (i210 datasheet §4.3).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reset {
    /// CTRL.RST, by the driver.
    Software,
    /// A function-level reset, by the VMM. Nothing survives it.
    Function,
}

/// What the software reset does to a register.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum OnReset {
    Restore,
    Keep,
}
use OnReset::{Keep, Restore};

impl OnReset {
    pub(super) fn is_restored_by(self, reset: Reset) -> bool {
        self == Restore || reset == Reset::Function
    }
}

/// Offset, value after power-on, and what CTRL.RST does; in the order of offsets.
const REGISTERS: [(u32, u32, OnReset); 29] = [
    (reg::FCAL, 0, Restore),
    (reg::FCAH, 0, Restore),
    (reg::FCT, 0, Restore),
    (reg::VET, 0x8100, Restore),
    (reg::FCTTV, 0, Restore),
    (reg::TIPG, 0x0060_1008, Restore),
    (reg::LEDCTL, 0x0070_0000, Restore),
    (reg::MDICNFG, 0, Restore),
    (reg::EEE_SU, 0, Restore),
    (reg::EEER, 0, Restore),
    (reg::PBA, 0, Restore),
    (reg::PBS, 0, Restore),
    (reg::FCRTL, 0, Restore),
    (reg::FCRTH, 0, Restore),
    (reg::FCRTV_ALIAS, 0, Restore),
    (reg::FCRTV, 0, Restore),
    (reg::DTXMXSZRQ, 0x0000_0080, Restore),
    (reg::DTXCTL, 0, Restore),
    (reg::RFCTL, 0, Restore),
    (reg::WUC, 0, Restore),
    (reg::WUFC, 0, Restore),
    (reg::WUS, 0, Restore),
    (reg::VT_CTL, 0, Restore),
    (reg::MANC, 0, Restore),
    (reg::GCR, 0, Restore),
    (reg::SW_FW_SYNC, 0, Keep),
    (reg::RXCTL, 0, Restore),
    (reg::DVMOLR, 0, Restore),
    (reg::TXCTL, 0x0000_2a00, Restore),
];

/// These registers.
pub(super) struct Stored([AtomicU32; REGISTERS.len()]);

impl Stored {
    pub(super) fn new() -> Self {
        Self(REGISTERS.map(|(_, value, _)| AtomicU32::new(value)))
    }

    /// The register at `offset`, if it is one of these.
    pub(super) fn at(&self, offset: u32) -> Option<&AtomicU32> {
        let place = REGISTERS.binary_search_by_key(&offset, |(offset, ..)| *offset).ok()?;
        Some(&self.0[place])
    }

    pub(super) fn reset(&self, reset: Reset) {
        for (register, (_, value, on_reset)) in self.0.iter().zip(REGISTERS) {
            if on_reset.is_restored_by(reset) {
                register.store(value, Ordering::Release);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_register_is_found() {
        assert!(REGISTERS.is_sorted_by(|a, b| a.0 < b.0), "or the search misses some");
        let stored = Stored::new();
        assert!(REGISTERS.iter().all(|(offset, ..)| stored.at(*offset).is_some()));
        assert!(stored.at(reg::RLPML).is_none());
    }

    #[test]
    fn semaphores_survive_the_software_reset_and_not_the_functions() {
        let stored = Stored::new();
        let [kept, restored] = [reg::SW_FW_SYNC, reg::TIPG].map(|at| stored.at(at).unwrap());
        kept.store(7, Ordering::Relaxed);
        restored.store(7, Ordering::Relaxed);
        stored.reset(Reset::Software);
        assert_eq!(kept.load(Ordering::Relaxed), 7);
        assert_eq!(restored.load(Ordering::Relaxed), 0x0060_1008);
        stored.reset(Reset::Function);
        assert_eq!(kept.load(Ordering::Relaxed), 0);
    }
}

//! Registers that only keep what was written: a driver reads them back, and nothing depends on
//! them in this model.

use std::sync::atomic::{AtomicU32, Ordering};

/// What a reset does to a register.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OnReset {
    Restore,
    Keep,
}
use OnReset::{Keep, Restore};

/// Offset, value after power-on, and what CTRL.RST does. In the order of offsets.
const REGISTERS: [(u32, u32, OnReset); 34] = [
    (0x0028, 0, Restore),           // FCAL
    (0x002c, 0, Restore),           // FCAH
    (0x0030, 0, Restore),           // FCT
    (0x0038, 0x8100, Restore),      // VET
    (0x0170, 0, Restore),           // FCTTV
    (0x0410, 0x0060_1008, Restore), // TIPG
    (0x0e00, 0x0070_0000, Restore), // LEDCTL
    (0x0e04, 0, Restore),           // MDICNFG
    (0x0e14, 0, Restore),           // PHPM
    (0x0e24, 0, Restore),           // EEE_SU
    (0x0e30, 0, Restore),           // EEER
    (0x1000, 0, Restore),           // PBA
    (0x1008, 0, Restore),           // PBS
    (0x2160, 0, Restore),           // FCRTL
    (0x2168, 0, Restore),           // FCRTH
    (0x2170, 0, Restore),           // FCRTV at its old place
    (0x2404, 0x0000_00a2, Keep),    // RXPBS: 34 KiB, 2 KiB
    (0x2460, 0, Restore),           // FCRTV
    (0x3404, 0x0400_0014, Keep),    // TXPBS: 20 KiB, 4 KiB
    (0x3540, 0x0000_0080, Restore), // DTXMXSZRQ
    (0x3570, 0, Restore),           // TQAVCTRL
    (0x3590, 0, Restore),           // DTXCTL
    (0x5008, 0, Restore),           // RFCTL
    (0x5800, 0, Restore),           // WUC
    (0x5808, 0, Restore),           // WUFC
    (0x5810, 0, Restore),           // WUS
    (0x5818, 0, Restore),           // MRQC
    (0x581c, 0, Restore),           // VT_CTL
    (0x5820, 0, Restore),           // MANC
    (0x5b00, 0, Restore),           // GCR
    (0x5b5c, 0, Keep),              // SW_FW_SYNC
    (0xc014, 0, Restore),           // RXCTL of queue 0
    (0xc038, 0, Restore),           // DVMOLR of queue 0
    (0xe014, 0x0000_2a00, Restore), // TXCTL of queue 0
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

    pub(super) fn reset(&self) {
        for (register, (_, value, on_reset)) in self.0.iter().zip(REGISTERS) {
            if on_reset == OnReset::Restore {
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
        assert!(stored.at(0x5004).is_none());
    }

    #[test]
    fn packet_buffer_sizes_survive_a_reset() {
        let stored = Stored::new();
        let [kept, restored] = [0x2404, 0x0410].map(|offset| stored.at(offset).unwrap());
        kept.store(7, Ordering::Relaxed);
        restored.store(7, Ordering::Relaxed);
        stored.reset();
        assert_eq!(kept.load(Ordering::Relaxed), 7);
        assert_eq!(restored.load(Ordering::Relaxed), 0x0060_1008);
    }
}

//! The registers that faults can change, by their names: of the CPU and of the NIC.

use microvm::kvm::Registers;
use nic::registers as reg;

/// The general purpose registers.
pub(crate) const GENERAL_REGISTERS: [&str; 16] = [
    "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13",
    "r14", "r15",
];

/// The register of this name.
pub(super) fn register<'a>(registers: &'a mut Registers, name: &str) -> Option<&'a mut u64> {
    let general = &mut registers.general;
    Some(match name {
        "rax" => &mut general.rax,
        "rbx" => &mut general.rbx,
        "rcx" => &mut general.rcx,
        "rdx" => &mut general.rdx,
        "rsi" => &mut general.rsi,
        "rdi" => &mut general.rdi,
        "rbp" => &mut general.rbp,
        "r8" => &mut general.r8,
        "r9" => &mut general.r9,
        "r10" => &mut general.r10,
        "r11" => &mut general.r11,
        "r12" => &mut general.r12,
        "r13" => &mut general.r13,
        "r14" => &mut general.r14,
        "r15" => &mut general.r15,
        "rsp" => &mut registers.rsp,
        "rip" => &mut registers.rip,
        "rflags" => &mut registers.rflags,
        _ => return None,
    })
}

/// A register of the NIC that a fault can change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NicRegister {
    pub(crate) name: &'static str,
    pub(crate) offset: u32,
}

const fn nic(name: &'static str, offset: u32) -> NicRegister {
    NicRegister { name, offset }
}

impl NicRegister {
    /// The registers that hold what a driver has set, and those that it leaves alone and can spoil.
    pub(crate) const ALL: [Self; 34] = [
        nic("CTRL", reg::CTRL),
        nic("CTRL_EXT", reg::CTRL_EXT),
        nic("RCTL", reg::RCTL),
        nic("TCTL", reg::TCTL),
        nic("RLPML", reg::RLPML),
        nic("RAL0", reg::RAL0),
        nic("RAH0", reg::RAH0),
        nic("GPIE", reg::GPIE),
        nic("EIMS", reg::EIMS),
        nic("EIMC", reg::EIMC),
        nic("EIAC", reg::EIAC),
        nic("EITR0", reg::EITR),
        nic("IVAR0", reg::IVAR0),
        nic("RDBAL", reg::RX_QUEUE + reg::queue::BASE_LOW),
        nic("RDBAH", reg::RX_QUEUE + reg::queue::BASE_HIGH),
        nic("RDLEN", reg::RX_QUEUE + reg::queue::LENGTH),
        nic("SRRCTL", reg::RX_QUEUE + reg::queue::SRRCTL),
        nic("RDH", reg::RX_QUEUE + reg::queue::HEAD),
        nic("RDT", reg::RDT),
        nic("RXDCTL", reg::RXDCTL),
        nic("TDBAL", reg::TX_QUEUE + reg::queue::BASE_LOW),
        nic("TDLEN", reg::TX_QUEUE + reg::queue::LENGTH),
        nic("TDH", reg::TX_QUEUE + reg::queue::HEAD),
        nic("TDT", reg::TDT),
        nic("TXDCTL", reg::TXDCTL),
        nic("IVAR_MISC", reg::IVAR_MISC),
        nic("MRQC", reg::MRQC),
        nic("RXPBS", reg::RXPBS),
        nic("TXPBS", reg::TXPBS),
        nic("DTXMXPKTSZ", reg::DTXMXPKTSZ),
        nic("DMACR", reg::DMACR),
        nic("TQAVCTRL", reg::TQAVCTRL),
        nic("PHPM", reg::PHPM),
        nic("ETQF0", reg::ETQF0),
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_register_that_is_drawn_can_be_changed() {
        let mut registers = Registers::default();
        for name in GENERAL_REGISTERS.into_iter().chain(["rip", "rflags"]) {
            *register(&mut registers, name).unwrap() += 1;
        }
        let ones = Registers { rip: 1, rsp: 1, rflags: 1, general: registers.general };
        assert_eq!(registers, ones);
        assert_eq!(registers.general.r15, 1);
        assert!(register(&mut registers, "cr3").is_none());
    }
}

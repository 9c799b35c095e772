//! The PHY behind MDIC (i210 datasheet §8.2, §8.25): as much of it as a driver needs to bring a
//! copper link up.

use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering};

use shared_ring::igb_registers::mdic::{self, ERROR, READY};
use shared_ring::igb_registers::phy::{
    ANAR, BMCR, BMCR_LOOPBACK, BMCR_NEGOTIATE, BMCR_POWER_DOWN, BMCR_RESET, BMCR_RESTART, BMSR,
    BMSR_LINK, BMSR_NEGOTIATED, EXTENDED_STATUS, GIGABIT_CONTROL, GIGABIT_STATUS, ID_1, ID_2,
    LINK_PARTNER, PAGE_SELECT,
};

use platform::budget::{EMULATED_NEGOTIATION, EMULATED_PHY_ACCESS};

/// How long a negotiation takes that was started anew.
pub(super) const NEGOTIATION_NS: u64 = EMULATED_NEGOTIATION.as_nanos() as u64;
const ACCESS_NS: u64 = EMULATED_PHY_ACCESS.as_nanos() as u64;

/// Registers that exist, what they are after a reset, and whether they can be written. The
/// identity is the i210's.
const REGISTERS: [(u32, u16, bool); 10] = [
    (BMCR, 0x1140, true),
    (BMSR, 0x7949, false),
    (ID_1, 0x0141, false),
    (ID_2, 0x0c00, false),
    (ANAR, 0x0de1, true),
    (LINK_PARTNER, 0xcde1, false),
    (GIGABIT_CONTROL, 0x0300, true),
    (GIGABIT_STATUS, 0x3c00, false),
    (EXTENDED_STATUS, 0x3000, false),
    (PAGE_SELECT, 0x0000, true),
];

/// The PHY and the register that leads to it.
pub(super) struct Phy {
    registers: [AtomicU16; REGISTERS.len()],
    access: AtomicU32,
    access_ends_ns: AtomicU64,
    /// When the negotiation ends; 0 if none is under way.
    negotiated_ns: AtomicU64,
    /// The link was lost since BMSR was read last.
    was_lost: AtomicBool,
}

impl Phy {
    pub(super) fn new() -> Self {
        Self {
            registers: REGISTERS.map(|(_, value, _)| AtomicU16::new(value)),
            access: AtomicU32::new(READY),
            access_ends_ns: AtomicU64::new(0),
            negotiated_ns: AtomicU64::new(0),
            was_lost: AtomicBool::new(false),
        }
    }

    /// Returns true if the PHY lets a link through, as far as it is concerned. Asks for the time
    /// only if it ever negotiated anew: this is looked at for each frame.
    pub(super) fn is_up(&self, now_ns: impl FnOnce() -> u64) -> bool {
        let powered = self.registers[0].load(Ordering::Acquire) & BMCR_POWER_DOWN == 0;
        let end_ns = self.negotiated_ns.load(Ordering::Acquire);
        powered && (end_ns == 0 || now_ns() >= end_ns)
    }

    /// When a negotiation that is under way ends.
    pub(super) fn pending_ns(&self, now_ns: u64) -> Option<u64> {
        let end_ns = self.negotiated_ns.load(Ordering::Acquire);
        (end_ns > now_ns).then_some(end_ns)
    }

    /// The link went away.
    pub(super) fn note_loss(&self) {
        self.was_lost.store(true, Ordering::Release);
    }

    /// A reset by CTRL.PHY_RST or BMCR: negotiates anew.
    pub(super) fn reset(&self, now_ns: u64) {
        for (register, (_, value, _)) in self.registers.iter().zip(REGISTERS) {
            register.store(value, Ordering::Release);
        }
        self.negotiate(now_ns);
    }

    /// Returns true if what is sent comes back from the PHY.
    pub(super) fn loops_back(&self) -> bool {
        self.registers[0].load(Ordering::Acquire) & BMCR_LOOPBACK != 0
    }

    /// A reset of the whole function. A PHY that was out of work negotiates anew; one that worked
    /// keeps its link, which the real part would lose for seconds.
    pub(super) fn restore(&self, now_ns: u64) {
        if self.registers[0].load(Ordering::Acquire) & (BMCR_LOOPBACK | BMCR_POWER_DOWN) != 0 {
            self.reset(now_ns);
        }
    }

    fn negotiate(&self, now_ns: u64) {
        self.note_loss();
        self.negotiated_ns.store(now_ns + NEGOTIATION_NS, Ordering::Release);
    }

    /// A load of MDIC.
    pub(super) fn read_access(&self, now_ns: u64) -> u32 {
        let ended = now_ns >= self.access_ends_ns.load(Ordering::Acquire);
        let access = self.access.load(Ordering::Acquire);
        if ended { access } else { access & !READY }
    }

    /// A store to MDIC; says whether the link may have changed. `link_up` as STATUS has it.
    pub(super) fn access(&self, command: u32, link_up: bool, now_ns: u64) -> bool {
        let register = command >> mdic::REGISTER_SHIFT & 0x1f;
        let place = REGISTERS.iter().position(|(number, ..)| *number == register);
        let right_phy = command & 0x1f << mdic::PHY_SHIFT == mdic::INTERNAL_PHY;
        let mut result = command & 0x0fff_ffff | READY;
        let mut changed = false;
        match (command & mdic::OPERATION, place.filter(|_| right_phy)) {
            (mdic::READ, Some(place)) => {
                result = result & !mdic::DATA | u32::from(self.load(place, link_up));
            }
            (mdic::WRITE, Some(place)) => changed = self.store(place, command as u16, now_ns),
            _ => result |= ERROR,
        }
        self.access.store(result, Ordering::Release);
        self.access_ends_ns.store(now_ns + ACCESS_NS, Ordering::Release);
        changed
    }

    fn load(&self, place: usize, link_up: bool) -> u16 {
        let value = self.registers[place].load(Ordering::Acquire);
        match REGISTERS[place].0 {
            BMSR if link_up => {
                // Latched low: one read shows a loss even if the link is back.
                let lost = self.was_lost.swap(false, Ordering::AcqRel);
                value | BMSR_NEGOTIATED | if lost { 0 } else { BMSR_LINK }
            }
            LINK_PARTNER | GIGABIT_STATUS if !link_up => 0,
            _ => value,
        }
    }

    fn store(&self, place: usize, value: u16, now_ns: u64) -> bool {
        let (number, _, writable) = REGISTERS[place];
        if !writable {
            return false;
        }
        if number != BMCR {
            self.registers[place].store(value, Ordering::Release);
            return false;
        }
        if value & BMCR_RESET != 0 {
            self.reset(now_ns);
            return true;
        }
        let restarts = BMCR_NEGOTIATE | BMCR_RESTART;
        self.registers[place].store(value & !BMCR_RESTART, Ordering::Release);
        if value & restarts == restarts {
            self.negotiate(now_ns);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATER: u64 = 1_000_000_000;

    fn read(phy: &Phy, register: u32, link_up: bool) -> u32 {
        phy.access(mdic::INTERNAL_PHY | mdic::READ | register << mdic::REGISTER_SHIFT, link_up, 0);
        phy.read_access(LATER)
    }

    fn write(phy: &Phy, register: u32, value: u16) -> bool {
        phy.access(
            mdic::INTERNAL_PHY | mdic::WRITE | register << mdic::REGISTER_SHIFT | u32::from(value),
            true,
            0,
        )
    }

    #[test]
    fn an_access_takes_its_time() {
        let phy = Phy::new();
        phy.access(mdic::INTERNAL_PHY | mdic::READ | ID_1 << mdic::REGISTER_SHIFT, true, 1000);
        assert_eq!(phy.read_access(1000 + ACCESS_NS - 1) & READY, 0);
        assert_eq!(
            phy.read_access(1000 + ACCESS_NS) & (READY | ERROR | mdic::DATA),
            READY | 0x0141
        );
    }

    #[test]
    fn other_phys_and_registers_are_errors() {
        let phy = Phy::new();
        assert_ne!(read(&phy, 7, true) & ERROR, 0);
        phy.access(2 << mdic::PHY_SHIFT | mdic::READ, true, 0);
        assert_ne!(phy.read_access(LATER) & ERROR, 0);
        phy.access(mdic::INTERNAL_PHY, true, 0);
        assert_ne!(phy.read_access(LATER) & ERROR, 0, "no operation");
    }

    #[test]
    fn a_restart_takes_the_link_down_for_a_while() {
        let phy = Phy::new();
        assert!(phy.is_up(|| 0));
        assert!(write(&phy, 0, BMCR_NEGOTIATE | BMCR_RESTART));
        assert!(!phy.is_up(|| NEGOTIATION_NS - 1));
        assert_eq!(phy.pending_ns(0), Some(NEGOTIATION_NS));
        assert!(phy.is_up(|| NEGOTIATION_NS));
        assert_eq!(read(&phy, 0, true) as u16, BMCR_NEGOTIATE, "the restart bit clears itself");
    }

    #[test]
    fn a_loss_shows_in_one_read() {
        let phy = Phy::new();
        phy.note_loss();
        assert_eq!(read(&phy, 1, true) as u16 & BMSR_LINK, 0);
        assert_eq!(read(&phy, 1, true) as u16 & BMSR_LINK, BMSR_LINK);
        assert_eq!(read(&phy, 1, false) as u16 & (BMSR_LINK | BMSR_NEGOTIATED), 0);
    }

    #[test]
    fn identity_cannot_be_written() {
        let phy = Phy::new();
        write(&phy, 2, 7);
        assert_eq!(read(&phy, 2, true) as u16, 0x0141);
    }

    #[test]
    fn a_phy_that_is_powered_down_has_no_link() {
        let phy = Phy::new();
        write(&phy, 0, BMCR_POWER_DOWN);
        assert!(!phy.is_up(|| LATER));
    }
}

//! Registers with which a NIC attaches, says that all is well, and does not work: a driver that
//! stores to a wrong place changes them, and no re-attachment writes them again.
//!
//! | register | a wrong value | i210 datasheet |
//! |---|---|---|
//! | TXPBS, DTXMXPKTSZ | a packet is fetched when one of the greatest length fits: otherwise none is | §8.3, §8.12.9 |
//! | RXPBS | a packet that does not fit is missed | §7.1.3.2, §8.3 |
//! | both together | beyond 60 KiB they overlap: here nothing passes either way | §8.3 |
//! | DMACR | received packets wait on the chip until the watchdog timer expires | §5.8, §8.25.1 |
//! | TQAVCTRL, TQAVCC0 | a queue that lives on credits and gains none sends nothing | §7.2.7 |
//! | PHPM | the PHY leaves the link | §3.7.8.5 |
//! | MRQC, ETQF | packets go to a queue that is off, and are lost | §7.1.2, §8.10, §8.11 |
//!
//! CTRL.RST restores some of them, a function-level reset all (§4.3). Where the datasheet leaves open
//! what happens (buffers that overlap), the model assumes the worst.

use std::sync::atomic::{AtomicU32, Ordering};

use super::stored::{OnReset, Reset};
use crate::registers::{
    self as reg, dmacr, dtxmxpktsz, etqf, mrqc, packet_buffer, phpm, tqavcc, tqavctrl,
};
use OnReset::{Keep, Restore};

const ETHERTYPE_FILTERS: usize = reg::ETHERTYPE_FILTERS as usize;
const FRAME_CHECK_BYTES: usize = 4;

/// The registers, in the order of [`REGISTERS`].
#[derive(Clone, Copy)]
enum Setting {
    ReceiveBuffers,
    TransmitBuffers,
    LongestPacket,
    Coalescing,
    Credits,
    Arbitration,
    PhyPower,
    Spread,
}
use Setting::{
    Arbitration, Coalescing, Credits, LongestPacket, PhyPower, ReceiveBuffers, Spread,
    TransmitBuffers,
};

/// Offset, value after power-on, and what CTRL.RST does.
const REGISTERS: [(u32, u32, OnReset); 8] = [
    (reg::RXPBS, 0x0000_00a2, Keep),      // 34 KiB, 2 KiB
    (reg::TXPBS, 0x0400_0014, Keep),      // 20 KiB, 4 KiB
    (reg::DTXMXPKTSZ, 0x0000_0098, Keep), // 9728 bytes
    (reg::DMACR, 0x3000_0000, Restore),
    (reg::TQAVCC0, 0, Restore),
    (reg::TQAVCTRL, 0, Restore),
    (reg::PHPM, 0, Keep),
    (reg::MRQC, 0, Restore),
];

/// These registers.
pub(super) struct Settings {
    registers: [AtomicU32; REGISTERS.len()],
    ethertypes: [AtomicU32; ETHERTYPE_FILTERS],
}

impl Settings {
    pub(super) fn new() -> Self {
        Self {
            registers: REGISTERS.map(|(_, value, _)| AtomicU32::new(value)),
            ethertypes: Default::default(),
        }
    }

    /// The register at `offset`, if it is one of these.
    pub(super) fn at(&self, offset: u32) -> Option<&AtomicU32> {
        let filter = offset.checked_sub(reg::ETQF0).map(|bytes| bytes as usize / 4);
        let place = || REGISTERS.iter().position(|(at, ..)| *at == offset);
        match filter {
            Some(filter @ 0..ETHERTYPE_FILTERS) => Some(&self.ethertypes[filter]),
            _ => Some(&self.registers[place()?]),
        }
    }

    pub(super) fn reset(&self, reset: Reset) {
        for (register, (_, value, on_reset)) in self.registers.iter().zip(REGISTERS) {
            if on_reset.is_restored_by(reset) {
                register.store(value, Ordering::Release);
            }
        }
        self.ethertypes.iter().for_each(|filter| filter.store(0, Ordering::Release));
    }

    /// Returns true if the transmit DMA fetches packets and lets them out.
    pub(super) fn transmits(&self) -> bool {
        let buffer_bytes = 1024 * (self.get(TransmitBuffers) & packet_buffer::KIB);
        buffer_bytes as usize >= self.longest_packet() && self.buffers_fit() && !self.is_starved()
    }

    /// Longest packet that the transmit DMA takes, in bytes.
    pub(super) fn longest_packet(&self) -> usize {
        ((self.get(LongestPacket) & dtxmxpktsz::SIZE) * dtxmxpktsz::UNIT_BYTES) as usize
    }

    /// Returns true if there is a place on the chip for a received frame of `len` bytes.
    pub(super) fn holds_received(&self, len: usize) -> bool {
        let buffer_bytes = 1024 * (self.get(ReceiveBuffers) & packet_buffer::KIB) as usize;
        len + FRAME_CHECK_BYTES <= buffer_bytes && self.buffers_fit()
    }

    /// Returns true if a received frame is for queue 0; the model has no other.
    pub(super) fn is_for_first_queue(&self, frame: &[u8]) -> bool {
        let kind = frame.get(12..14).map_or(0, |kind| u32::from(kind[0]) << 8 | u32::from(kind[1]));
        let on = etqf::FILTER_ENABLE | etqf::QUEUE_ENABLE;
        let mut filters = self.ethertypes.iter().map(|filter| filter.load(Ordering::Acquire));
        let chosen = filters.find(|filter| filter & (on | etqf::ETHERTYPE) == on | kind);
        let spread = self.get(Spread);
        match chosen {
            Some(filter) => filter >> etqf::QUEUE_SHIFT & 7 == 0,
            // Spread by a hash, every packet goes to queue 0: so says the table that nobody writes.
            None if spread & mrqc::ENABLE != 0 => true,
            None => spread >> mrqc::DEFAULT_QUEUE_SHIFT & 7 == 0,
        }
    }

    /// How long received packets wait on the chip, in nanoseconds; `None` if they do not.
    pub(super) fn coalescing_ns(&self) -> Option<u64> {
        let control = self.get(Coalescing);
        let units = u64::from(control & dmacr::WATCHDOG).max(1);
        (control & dmacr::EN != 0).then_some(units * dmacr::WATCHDOG_UNIT_NS)
    }

    /// Returns true if the PHY takes part in the link.
    pub(super) fn lets_link_up(&self) -> bool {
        self.get(PhyPower) & phpm::GO_LINK_DISCONNECT == 0
    }

    fn buffers_fit(&self) -> bool {
        let kib = |value: u32, shift: &u32| value >> shift & packet_buffer::KIB;
        let (receive, transmit) = (self.get(ReceiveBuffers), self.get(TransmitBuffers));
        let received = packet_buffer::RECEIVE_SHIFTS.iter().map(|shift| kib(receive, shift));
        let sent = packet_buffer::TRANSMIT_SHIFTS.iter().map(|shift| kib(transmit, shift));
        received.chain(sent).sum::<u32>() <= packet_buffer::ALL_KIB
    }

    fn is_starved(&self) -> bool {
        let by_credits = tqavctrl::TRANSMIT_MODE | tqavctrl::CREDIT_SHAPER;
        let credits = self.get(Credits);
        self.get(Arbitration) & by_credits == by_credits
            && credits & tqavcc::STREAM_RESERVATION != 0
            && credits & tqavcc::IDLE_SLOPE == 0
    }

    fn get(&self, setting: Setting) -> u32 {
        self.registers[setting as usize].load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(offset: u32, value: u32) -> Settings {
        let settings = Settings::new();
        settings.at(offset).unwrap().store(value, Ordering::Relaxed);
        settings
    }

    #[test]
    fn every_register_is_where_its_name_says() {
        let settings = Settings::new();
        let named = [
            (ReceiveBuffers, reg::RXPBS),
            (TransmitBuffers, reg::TXPBS),
            (LongestPacket, reg::DTXMXPKTSZ),
            (Coalescing, reg::DMACR),
            (Credits, reg::TQAVCC0),
            (Arbitration, reg::TQAVCTRL),
            (PhyPower, reg::PHPM),
            (Spread, reg::MRQC),
        ];
        for (setting, offset) in named {
            settings.at(offset).unwrap().store(offset, Ordering::Relaxed);
            assert_eq!(settings.get(setting), offset);
        }
        assert!(settings.at(reg::ETQF0 + 4 * 7).is_some());
        assert!([reg::ETQF0 + 4 * 8, reg::RLPML, 0].iter().all(|at| settings.at(*at).is_none()));
    }

    #[test]
    fn as_after_power_on_everything_passes() {
        let settings = Settings::new();
        assert!(settings.transmits() && settings.lets_link_up());
        assert!(settings.holds_received(9728) && settings.is_for_first_queue(&[0; 60]));
        assert_eq!((settings.coalescing_ns(), settings.longest_packet()), (None, 9728));
    }

    #[test]
    fn a_transmit_buffer_too_small_for_the_longest_packet_fetches_none() {
        assert!(with(reg::TXPBS, 10).transmits());
        assert!(!with(reg::TXPBS, 9).transmits());
        let short = with(reg::TXPBS, 9);
        short.at(reg::DTXMXPKTSZ).unwrap().store(0x19, Ordering::Relaxed);
        assert!(short.transmits());
    }

    #[test]
    fn buffers_that_overlap_hold_nothing() {
        let settings = with(reg::RXPBS, 36 | 2 << 6);
        assert!(!settings.transmits() && !settings.holds_received(60));
    }

    #[test]
    fn credits_count_only_where_a_queue_lives_on_them() {
        let settings = with(reg::TQAVCTRL, u32::MAX);
        assert!(settings.transmits(), "strict priority");
        let credits = settings.at(reg::TQAVCC0).unwrap();
        credits.store(tqavcc::STREAM_RESERVATION, Ordering::Relaxed);
        assert!(!settings.transmits());
        credits.store(tqavcc::STREAM_RESERVATION | 1, Ordering::Relaxed);
        assert!(settings.transmits());
    }

    #[test]
    fn the_software_reset_keeps_buffers_and_power_and_the_function_reset_nothing() {
        let settings = Settings::new();
        for (offset, ..) in REGISTERS {
            settings.at(offset).unwrap().store(!0, Ordering::Relaxed);
        }
        settings.reset(Reset::Software);
        let changed = |(offset, value, _): &(u32, u32, OnReset)| {
            settings.at(*offset).unwrap().load(Ordering::Relaxed) != *value
        };
        let kept: Vec<_> = REGISTERS.iter().filter(|r| changed(r)).map(|(at, ..)| *at).collect();
        assert_eq!(kept, [reg::RXPBS, reg::TXPBS, reg::DTXMXPKTSZ, reg::PHPM]);
        settings.reset(Reset::Function);
        assert!(!REGISTERS.iter().any(changed));
    }
}

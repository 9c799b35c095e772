//! The device that the register accesses and the engine share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use super::arrivals::Arrivals;
use super::boundary::Boundary;
use super::dma::DmaWindow;
use super::doorbell::Doorbell;
use super::filter::Filters;
use super::interrupts::Interrupts;
use super::loopback::Loopback;
use super::phy::Phy;
use super::queue::Queue;
use super::settings::Settings;
use super::statistics::Statistics;
use super::stored::{Reset, Stored};
use crate::registers::{self as reg, ctrl, ctrl_ext, icr, queue, rctl, rxcsum, status, tctl};
use crate::totals::{Total, Totals};
use crate::wire::Wire;
use platform::clock::monotonic_ns;

/// Values after a reset.
const CTRL_RESET: u32 = 0x0010_0209;
const RXCSUM_RESET: u32 = rxcsum::IPOFL | rxcsum::TUOFL;
const RLPML_RESET: u32 = 0x0000_2600;
/// i210 datasheet §8.10.9: prefetch 12, host 10, write back 1; queue 0 is on.
const RXDCTL_RESET: u32 = queue::ENABLE | 0x0001_0a0c;
const TXDCTL_RESET: u32 = queue::ENABLE;

/// Registers, memory window, wire and what hangs on them. Everything is an atomic or a lock that
/// is held for a copy at most: no access waits for the engine.
pub(super) struct Device {
    pub(super) mac: [u8; 6],
    pub(super) wire: Arc<dyn Wire>,
    pub(super) control: AtomicU32,
    pub(super) extended_control: AtomicU32,
    pub(super) receive_control: AtomicU32,
    pub(super) transmit_control: AtomicU32,
    pub(super) receive_checksum: AtomicU32,
    pub(super) longest_packet: AtomicU32,
    pub(super) eeprom_read: AtomicU32,
    pub(super) semaphore: AtomicU32,
    pub(super) stored: Stored,
    pub(super) settings: Settings,
    pub(super) loopback: Loopback,
    pub(super) filters: Filters,
    pub(super) statistics: Statistics,
    pub(super) arrivals: Arrivals,
    pub(super) totals: Totals,
    pub(super) interrupts: Interrupts,
    pub(super) phy: Phy,
    pub(super) dma: DmaWindow,
    pub(super) rx: Queue,
    pub(super) tx: Queue,
    pub(super) doorbell: Arc<Doorbell>,
    pub(super) boundary: Boundary,
    /// Descriptors, or packets made of them, that contradict themselves.
    pub(super) descriptor_faults: AtomicU64,
    pub(super) progress: AtomicU64,
    pub(super) first_sent_ns: AtomicU64,
    /// The engine is gone; the device reads as all ones.
    pub(super) dead: AtomicBool,
    pub(super) stop: AtomicBool,
    bus_master: AtomicBool,
    /// Tickets of the last reset and of the last GIO_MASTER_DISABLE.
    reset_ticket: AtomicU64,
    master_disable_ticket: AtomicU64,
    phy_was_reset: AtomicBool,
}

impl Device {
    pub(super) fn new(mac: [u8; 6], wire: Arc<dyn Wire>) -> std::io::Result<Self> {
        let doorbell = Arc::new(Doorbell::new()?);
        let device = Self {
            mac,
            wire,
            control: AtomicU32::new(0),
            extended_control: AtomicU32::new(0),
            receive_control: AtomicU32::new(0),
            transmit_control: AtomicU32::new(0),
            receive_checksum: AtomicU32::new(0),
            longest_packet: AtomicU32::new(0),
            eeprom_read: AtomicU32::new(0),
            semaphore: AtomicU32::new(0),
            stored: Stored::new(),
            settings: Settings::new(),
            loopback: Loopback::default(),
            filters: Filters::new(),
            statistics: Statistics::new(),
            arrivals: Arrivals::new(),
            totals: Totals::new(),
            interrupts: Interrupts::new(doorbell.clone())?,
            phy: Phy::new(),
            dma: DmaWindow::new(),
            rx: Queue::default(),
            tx: Queue::default(),
            doorbell,
            boundary: Boundary::default(),
            descriptor_faults: AtomicU64::new(0),
            progress: AtomicU64::new(0),
            first_sent_ns: AtomicU64::new(0),
            dead: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            bus_master: AtomicBool::new(false),
            reset_ticket: AtomicU64::new(0),
            master_disable_ticket: AtomicU64::new(0),
            phy_was_reset: AtomicBool::new(true),
        };
        device.restore_registers(Reset::Function);
        Ok(device)
    }

    /// All to what it is after power-on. What survives CTRL.RST: the PHY and its link, packet buffer
    /// sizes, power, moderation, semaphores. CTRL.RST reads 1 until the engine has let go of
    /// everything that was before; that is the ticket this returns.
    pub(super) fn reset(&self, reset: Reset) -> u64 {
        self.restore_registers(reset);
        let ticket = self.ask_engine();
        self.reset_ticket.store(ticket, Ordering::Release);
        ticket
    }

    fn restore_registers(&self, reset: Reset) {
        let registers = [
            (&self.receive_control, 0),
            (&self.transmit_control, tctl::RESET),
            (&self.control, CTRL_RESET),
            (&self.extended_control, 0),
            (&self.receive_checksum, RXCSUM_RESET),
            (&self.longest_packet, RLPML_RESET),
            (&self.eeprom_read, 0),
        ];
        registers.iter().for_each(|(register, value)| register.store(*value, Ordering::Release));
        self.rx.reset(RXDCTL_RESET);
        self.tx.reset(TXDCTL_RESET);
        self.interrupts.reset();
        self.stored.reset(reset);
        self.settings.reset(reset);
        if reset == Reset::Function {
            self.interrupts.messages.end_moderation();
            self.semaphore.store(0, Ordering::Release);
            self.phy.restore(monotonic_ns());
        }
        self.filters.reset(self.mac);
        self.statistics.clear();
    }

    /// Wakes the engine and returns the ticket that it answers when what it did before is over.
    pub(super) fn ask_engine(&self) -> u64 {
        let ticket = self.boundary.ask();
        self.doorbell.ring();
        ticket
    }

    /// A load of CTRL.
    pub(super) fn read_control(&self) -> u32 {
        let resets = !self.boundary.is_answered(self.reset_ticket.load(Ordering::Acquire));
        self.control.load(Ordering::Acquire) | if resets { ctrl::RST } else { 0 }
    }

    /// A store to CTRL.
    pub(super) fn write_control(&self, value: u32) {
        if value & (ctrl::RST | ctrl::DEV_RST) != 0 {
            self.reset(Reset::Software);
            return;
        }
        if value & ctrl::PHY_RST != 0 {
            self.phy_was_reset.store(true, Ordering::Release);
            self.phy.reset(monotonic_ns());
        }
        self.control.store(value & !ctrl::PHY_RST, Ordering::Release);
        let ticket = self.ask_engine();
        if value & ctrl::GIO_MASTER_DISABLE != 0 {
            self.master_disable_ticket.store(ticket, Ordering::Release);
        }
    }

    /// A load of STATUS.
    pub(super) fn read_status(&self) -> u32 {
        let disabled = self.control.load(Ordering::Acquire) & ctrl::GIO_MASTER_DISABLE != 0;
        let ticket = self.master_disable_ticket.load(Ordering::Acquire);
        let silent = disabled && self.boundary.is_answered(ticket);
        let bits = [
            (true, status::FD | status::SPEED_1000),
            (self.link_up(), status::LU),
            (self.phy_was_reset.load(Ordering::Acquire), status::PHYRA),
            (!silent, status::GIO_MASTER),
        ];
        bits.iter().filter(|(on, _)| *on).fold(0x8000_0000, |status, (_, bit)| status | bit)
    }

    /// Returns true if what this register shows waits for the engine's next turn.
    pub(super) fn waits_for_engine(&self, register: u32) -> bool {
        let owes = |ticket: &AtomicU64| !self.boundary.is_answered(ticket.load(Ordering::Acquire));
        match register {
            reg::RXDCTL => self.rx.is_draining(),
            reg::TXDCTL => self.tx.is_draining(),
            reg::CTRL => owes(&self.reset_ticket),
            reg::STATUS => owes(&self.master_disable_ticket),
            _ => false,
        }
    }

    /// A store to STATUS: only PHYRA can be cleared.
    pub(super) fn write_status(&self, value: u32) {
        if value & status::PHYRA == 0 {
            self.phy_was_reset.store(false, Ordering::Release);
        }
    }

    /// STATUS.LU: the cable has a live other end, the PHY lets it through, and the MAC listens to
    /// the PHY (CTRL_EXT.LINK_MODE).
    pub(super) fn link_up(&self) -> bool {
        self.wire.link_up()
            && self.phy.is_up(monotonic_ns)
            && self.settings.lets_link_up()
            && self.extended_control.load(Ordering::Acquire) & ctrl_ext::LINK_MODE == 0
    }

    /// Returns true if what is sent comes back instead of reaching the cable.
    pub(super) fn loops_back(&self) -> bool {
        let control = self.receive_control.load(Ordering::SeqCst);
        control >> rctl::LBM_SHIFT & 3 == rctl::LBM_MAC || self.phy.loops_back()
    }

    /// Bus mastering in the PCI command register.
    pub(super) fn set_bus_master(&self, on: bool) {
        self.bus_master.store(on, Ordering::SeqCst);
        self.interrupts.messages.allow(on);
        self.doorbell.ring();
    }

    pub(super) fn bus_master(&self) -> bool {
        self.bus_master.load(Ordering::SeqCst)
    }

    /// Returns true if the NIC may reach memory.
    pub(super) fn may_master(&self) -> bool {
        self.bus_master() && self.control.load(Ordering::Acquire) & ctrl::GIO_MASTER_DISABLE == 0
    }

    /// Returns true if a frame may go out now.
    pub(super) fn may_transmit(&self) -> bool {
        self.transmit_control.load(Ordering::SeqCst) & tctl::EN != 0
            && self.may_master()
            && self.link_up()
            && self.settings.transmits()
    }

    /// Engine: puts a frame on the wire.
    pub(super) fn put_on_wire(&self, frame: &[u8]) {
        self.statistics.count_sent(frame);
        self.totals.add(Total::Sent, 1);
        if self.loops_back() {
            self.loopback.put(frame);
            return;
        }
        self.wire.send(frame);
        if self.first_sent_ns.load(Ordering::Acquire) == 0 {
            self.first_sent_ns.store(monotonic_ns(), Ordering::Release);
        }
    }

    pub(super) fn count_descriptor_fault(&self) {
        self.descriptor_faults.fetch_add(1, Ordering::Relaxed);
    }

    /// The engine cannot go on: from here on the device looks unplugged, and its listeners are
    /// woken so that they look.
    pub(super) fn die(&self) {
        self.dead.store(true, Ordering::SeqCst);
        for vector in 0..2 {
            let _ = self.interrupts.messages.event(vector).write(1);
        }
    }

    /// Engine: the link came or went.
    pub(super) fn note_link(&self, up: bool) {
        if !up {
            self.phy.note_loss();
        }
        self.interrupts.raise_other(icr::LSC);
    }
}

//! Which register is where (igb register map; what is not here reads 0, and writes to it vanish).

use std::sync::atomic::{AtomicU32, Ordering};

use super::device::Device;
use crate::interface::BarRegisters;
use crate::registers::{self as reg, eecd, eemngctl, eerd, semaphore};
use platform::clock::monotonic_ns;

/// EECD: an NVM is there, and was read after the last reset.
const EECD_VALUE: u32 = eecd::AUTO_RD | eecd::EE_PRES;
/// CTRL_EXT bits that clear themselves.
const CTRL_EXT_TRANSIENT: u32 = 3 << 12;
/// Bits of SWSM that can be written.
const SWSM_BITS: u32 = semaphore::SMBI | semaphore::SWESMBI;
const MODERATION_END: u32 = reg::EITR + 4 * 5;
const MTA_END: u32 = reg::MTA + 4 * reg::HASH_TABLE_WORDS;
const ADDRESSES_END: u32 = reg::RAL0 + 8 * reg::RECEIVE_ADDRESSES;
const RX_END: u32 = reg::RX_QUEUE + reg::QUEUE_BLOCK_BYTES;
const TX_END: u32 = reg::TX_QUEUE + reg::QUEUE_BLOCK_BYTES;

/// The one offset of a register that has several.
fn canonical(offset: u32) -> u32 {
    const BLOCK: u32 = reg::QUEUE_BLOCK_BYTES;
    match offset {
        reg::CTRL_ALIAS => reg::CTRL,
        reg::EEMNGCTL_ALIAS => reg::EEMNGCTL,
        reg::ICR_I210..=reg::IMC_I210 => reg::ICR + (offset - reg::ICR_I210) * 2,
        reg::IAM_I210 => reg::IAM,
        reg::RX_QUEUE_ALIAS.. if offset - reg::RX_QUEUE_ALIAS < BLOCK => {
            offset - reg::RX_QUEUE_ALIAS + reg::RX_QUEUE
        }
        reg::TX_QUEUE_ALIAS.. if offset - reg::TX_QUEUE_ALIAS < BLOCK => {
            offset - reg::TX_QUEUE_ALIAS + reg::TX_QUEUE
        }
        _ => offset,
    }
}

impl BarRegisters for Device {
    fn read(&self, offset: u32) -> u32 {
        if self.dead.load(Ordering::Acquire) {
            return reg::ALL_ONES;
        }
        if !offset.is_multiple_of(4) {
            return 0;
        }
        let offset = canonical(offset);
        if let Some(register) = self.plain(offset) {
            return register.load(Ordering::Acquire);
        }
        match offset {
            reg::CTRL => self.read_control(),
            reg::STATUS => self.read_status(),
            reg::EECD => EECD_VALUE,
            reg::MDIC => self.phy.read_access(monotonic_ns()),
            reg::ICR => self.interrupts.read_icr(),
            reg::IMS | reg::IMC => self.interrupts.ims(),
            reg::EIMS => self.interrupts.messages.eims(),
            reg::EICR => self.interrupts.messages.read_eicr(),
            // Reading takes it: whoever saw 0 holds it.
            reg::SWSM => self.semaphore.fetch_or(semaphore::SMBI, Ordering::AcqRel),
            reg::RX_QUEUE..RX_END => self.rx.read(offset - reg::RX_QUEUE),
            reg::TX_QUEUE..TX_END => self.tx.read(offset - reg::TX_QUEUE),
            reg::EEMNGCTL => eemngctl::CFG_DONE_0,
            _ => self.statistics.read(offset).unwrap_or(0),
        }
    }

    fn write(&self, offset: u32, value: u32) {
        if self.dead.load(Ordering::Acquire) || !offset.is_multiple_of(4) {
            return;
        }
        let offset = canonical(offset);
        match offset {
            reg::CTRL => self.write_control(value),
            reg::STATUS => self.write_status(value),
            reg::EERD => self.read_eeprom(value),
            reg::CTRL_EXT => {
                self.extended_control.store(value & !CTRL_EXT_TRANSIENT, Ordering::Release);
                self.doorbell.ring();
            }
            reg::MDIC => self.access_phy(value),
            reg::ICR..=reg::IMC | reg::EICS..=reg::EIMC | reg::EICR => {
                self.write_interrupts(offset, value);
            }
            reg::SWSM => self.semaphore.store(value & SWSM_BITS, Ordering::Release),
            reg::RCTL | reg::TCTL => self.write_unit(offset, value),
            reg::RX_QUEUE..RX_END if self.stored.at(offset).is_none() => {
                self.ring_if(self.rx.write(offset - reg::RX_QUEUE, value));
            }
            reg::TX_QUEUE..TX_END if self.stored.at(offset).is_none() => {
                self.ring_if(self.tx.write(offset - reg::TX_QUEUE, value));
            }
            _ => {
                if let Some(register) = self.plain(offset) {
                    register.store(value, Ordering::SeqCst);
                    self.ring_if(self.settings.at(offset).is_some());
                }
            }
        }
    }
}

impl Device {
    /// Registers that are read as they were stored.
    fn plain(&self, offset: u32) -> Option<&AtomicU32> {
        let interrupts = &self.interrupts;
        let messages = &interrupts.messages;
        Some(match offset {
            reg::IAM => &interrupts.acknowledge_mask,
            reg::EERD => &self.eeprom_read,
            reg::CTRL_EXT => &self.extended_control,
            reg::RCTL => &self.receive_control,
            reg::TCTL => &self.transmit_control,
            reg::GPIE => &messages.general,
            reg::EIAC => &messages.auto_clear,
            reg::EIAM => &messages.auto_mask,
            reg::EITR..MODERATION_END => &messages.moderation[((offset - reg::EITR) / 4) as usize],
            reg::IVAR0 => &interrupts.queue_vectors,
            reg::IVAR_MISC => &interrupts.other_vectors,
            reg::RXCSUM => &self.receive_checksum,
            reg::RLPML => &self.longest_packet,
            reg::MTA..MTA_END => &self.filters.multicast[((offset - reg::MTA) / 4) as usize],
            reg::RAL0..ADDRESSES_END => {
                let half = (offset - reg::RAL0) / 4;
                &self.filters.addresses[(half / 2) as usize][(half % 2) as usize]
            }
            _ => return self.stored.at(offset).or_else(|| self.settings.at(offset)),
        })
    }

    fn write_interrupts(&self, offset: u32, value: u32) {
        let interrupts = &self.interrupts;
        let messages = &interrupts.messages;
        match offset {
            reg::ICR => interrupts.clear_icr(value),
            reg::ICS => interrupts.raise_other(value),
            reg::IMS => interrupts.unmask_other(value),
            reg::IMC => interrupts.mask_other(value),
            reg::EICS => messages.raise(value),
            reg::EIMS => messages.unmask(value),
            reg::EIMC => messages.mask(value),
            reg::EICR => messages.clear_eicr(value),
            _ => {}
        }
    }

    /// RCTL or TCTL: the engine looks when a unit is switched on.
    fn write_unit(&self, offset: u32, value: u32) {
        let unit = if offset == reg::RCTL { &self.receive_control } else { &self.transmit_control };
        unit.store(value, Ordering::SeqCst);
        self.doorbell.ring();
    }

    fn ring_if(&self, changed: bool) {
        if changed {
            self.doorbell.ring();
        }
    }

    fn access_phy(&self, command: u32) {
        if self.phy.access(command, self.link_up(), monotonic_ns()) {
            // The engine notices that the link went, and when it is due back.
            self.doorbell.ring();
        }
    }

    /// EERD: the first three words of the NVM are the MAC address, the rest is blank.
    fn read_eeprom(&self, command: u32) {
        if command & eerd::START == 0 {
            return;
        }
        let address = command >> eerd::ADDRESS_SHIFT & 0x3fff;
        let word = match address {
            0..3 => {
                let at = address as usize * 2;
                u32::from(u16::from_le_bytes([self.mac[at], self.mac[at + 1]]))
            }
            _ => 0xffff,
        };
        self.eeprom_read.store(
            word << eerd::DATA_SHIFT | address << eerd::ADDRESS_SHIFT | eerd::DONE,
            Ordering::Release,
        );
    }
}

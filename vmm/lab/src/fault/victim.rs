//! Puts a fault into a domain, and ends it.

use std::sync::atomic::Ordering;

use super::cause::{Cause, Injected, Site};
use super::code::{self, corrupt_code};
use super::error::FaultError;
use super::registers;
use microvm::domain::{DomainSlot, Life};
use nic::wire::Port;
use platform::clock::monotonic_ns;

/// A domain into which a fault is put.
pub struct Victim<'a> {
    /// The domain's slot.
    pub slot: &'a DomainSlot,
    /// The domain's life.
    pub life: &'a Life,
    /// The switch port of the domain's NIC, where it has one.
    pub port: Option<&'a Port>,
}

impl Victim<'_> {
    /// Injects a fault; `variant` chooses among the ways to bring a cause about, in turn.
    ///
    /// # Errors
    /// See [`FaultError`].
    pub fn inject(&self, cause: Cause, variant: usize) -> Result<Injected, FaultError> {
        match cause {
            Cause::Crash => {
                let site = Site::ALL[variant % Site::ALL.len()];
                let at_ns = corrupt_code(self.slot, self.life.image(), site)?;
                Ok(Injected { at_ns, site: site.name() })
            }
            Cause::Hang => code::hang(self.life, Site::ALL[variant % Site::ALL.len()]),
            Cause::Stall => code::stall(self.life, variant),
            Cause::SilentTx => code::drop_transmitted(self.slot, self.life.image(), variant),
            Cause::SilentRx => code::drop_received(self.life),
            Cause::NicRegister => Ok(registers::corrupt_register(&*self.slot.nic, variant)),
            Cause::LostWakeup => {
                let at_ns = monotonic_ns();
                registers::mask(&*self.slot.nic);
                self.slot.status().parked.store(0, Ordering::SeqCst);
                Ok(Injected { at_ns, site: "park" })
            }
            Cause::Link => {
                let name = self.slot.nic.name();
                let port = self.port.ok_or_else(|| FaultError::NoCable(name.to_owned()))?;
                let at_ns = monotonic_ns();
                port.set_link(false);
                Ok(Injected { at_ns, site: "cable" })
            }
        }
    }

    /// Ends a fault that outlasts the driver, or was healed without a failover.
    pub fn repair(&self, cause: Cause) {
        match cause {
            Cause::LostWakeup => registers::unmask(&*self.slot.nic),
            Cause::Link => {
                if let Some(port) = self.port {
                    port.set_link(true);
                }
            }
            // These faults end with the life: code, rings and registers are made anew.
            Cause::Crash
            | Cause::Hang
            | Cause::Stall
            | Cause::SilentTx
            | Cause::SilentRx
            | Cause::NicRegister => {}
        }
    }
}

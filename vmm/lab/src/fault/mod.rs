//! Faults, injected for real: what the driver is made of, or what it relies on, is corrupted while
//! it runs. Nothing here tells the VMM that anything failed.
//!
//! | cause | what is corrupted |
//! |---|---|
//! | crash | an instruction of the driver becomes one that always faults |
//! | hang | an instruction becomes a jump to itself |
//! | stall | the loop becomes one that beats, and parks or not, and serves nothing |
//! | lost-wakeup | the NIC's interrupt is masked behind the driver's back, the parked flag cleared |
//! | silent-tx | one bit of a constant in the transmit path: the NIC drops what the driver claims |
//! | silent-rx | the receive path takes the NIC's frames away without a word |
//! | nic-register | one register of the NIC: a unit, a filter or a tail |
//! | link | the cable is pulled |

mod code;
mod registers;

use std::sync::atomic::Ordering;

pub use code::corrupt_code;
pub use registers::REGISTER_VARIANTS;

use microvm::domain::{DomainSlot, InjectionError, Life};
use nic::wire::Port;
use platform::clock::monotonic_ns;
use platform::memory::MemoryError;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the table at the head of the module says what each is")]
pub enum Cause {
    Crash,
    Hang,
    Stall,
    LostWakeup,
    SilentTx,
    SilentRx,
    NicRegister,
    Link,
}

impl Cause {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Crash,
        Self::Hang,
        Self::Stall,
        Self::LostWakeup,
        Self::SilentTx,
        Self::SilentRx,
        Self::NicRegister,
        Self::Link,
    ];

    /// As in reports and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::Hang => "hang",
            Self::Stall => "stall",
            Self::LostWakeup => "lost-wakeup",
            Self::SilentTx => "silent-tx",
            Self::SilentRx => "silent-rx",
            Self::NicRegister => "nic-register",
            Self::Link => "link",
        }
    }
}

/// Where in the driver a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Site {
    /// The receive path.
    Rx,
    /// The transmit path.
    Tx,
    /// The loop itself.
    Loop,
}

impl Site {
    /// The sites in turn.
    pub const ALL: [Self; 3] = [Self::Rx, Self::Tx, Self::Loop];

    /// The driver's function that is hit.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Rx => "domain_rx_path",
            Self::Tx => "domain_tx_path",
            Self::Loop => "domain_loop_turn",
        }
    }

    /// As in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rx => "rx",
            Self::Tx => "tx",
            Self::Loop => "loop",
        }
    }
}

/// Why a fault could not be injected.
#[derive(Debug, thiserror::Error)]
pub enum FaultError {
    /// The image has no such function.
    #[error("the driver image has no function `{0}`: build the guests again")]
    NoSymbol(&'static str),
    /// The function does not hold what is to be corrupted.
    #[error(
        "`{symbol}` has no constant {constant:#x}: the driver was changed, so must the fault be"
    )]
    NoConstant {
        /// Name of the function.
        symbol: &'static str,
        /// What was looked for.
        constant: u32,
    },
    /// The function lies outside the domain's RAM, or at an odd address.
    #[error("`{symbol}` cannot be corrupted")]
    Memory {
        /// Name of the function.
        symbol: &'static str,
        /// Why not.
        source: MemoryError,
    },
    /// A trap cannot be set.
    #[error("`{symbol}` cannot be corrupted")]
    Trap {
        /// Name of the function.
        symbol: &'static str,
        /// Why not.
        source: InjectionError,
    },
    /// The NIC has no cable that could be pulled.
    #[error("the NIC `{0}` is not plugged into a switch of ours: its cable cannot be pulled")]
    NoCable(String),
}

/// A fault that was injected.
#[derive(Clone, Copy, Debug)]
pub struct Injected {
    /// When, `CLOCK_MONOTONIC` nanoseconds. Faulty code strikes when the driver gets there, see
    /// [`Life::fault_reached_ns`].
    pub at_ns: u64,
    /// Where: a path of the driver, a register, the cable.
    pub site: &'static str,
}

/// A domain to be damaged.
pub struct Victim<'a> {
    /// Its slot.
    pub slot: &'a DomainSlot,
    /// Its life.
    pub life: &'a Life,
    /// The switch port of its NIC, where it has one.
    pub port: Option<&'a Port>,
}

impl Victim<'_> {
    /// Injects a fault; `variant` chooses among the ways a cause can be brought about, in turn.
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
            // These end with the life: code, rings and registers are made anew.
            Cause::Crash
            | Cause::Hang
            | Cause::Stall
            | Cause::SilentTx
            | Cause::SilentRx
            | Cause::NicRegister => {}
        }
    }
}

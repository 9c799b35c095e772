//! Faults, injected for real: the driver's own code is corrupted while it runs.

use std::sync::atomic::{AtomicU16, Ordering};

use crate::clock::monotonic_ns;
use crate::domain::DomainSlot;
use crate::kvm::Image;
use crate::memory::MemoryError;

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
    /// The function lies outside the domain's RAM, or at an odd address.
    #[error("`{symbol}` cannot be corrupted")]
    Memory {
        /// Name of the function.
        symbol: &'static str,
        /// Why not.
        source: MemoryError,
    },
}

/// `ud2`, an instruction that always faults, as the little-endian word its two bytes make.
const UD2: u16 = u16::from_le_bytes([0x0f, 0x0b]);

/// Overwrites the first instruction of a site's function in a running domain. Returns when the
/// store was made, `CLOCK_MONOTONIC` nanoseconds; the fault strikes when the driver gets there.
///
/// # Errors
/// See [`FaultError`].
pub fn corrupt_code(slot: &DomainSlot, image: &Image, site: Site) -> Result<u64, FaultError> {
    let name = site.symbol();
    let symbol = image.symbol(name).ok_or(FaultError::NoSymbol(name))?;
    // One aligned store: the vCPU sees the old instruction or the new one, never half of each.
    let code = slot
        .ram
        .shape::<AtomicU16>(symbol.address)
        .map_err(|source| FaultError::Memory { symbol: name, source })?;
    let at_ns = monotonic_ns();
    code.store(UD2, Ordering::SeqCst);
    Ok(at_ns)
}

//! Why a fault cannot be injected.

use microvm::domain::InjectionError;
use platform::memory::MemoryError;

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

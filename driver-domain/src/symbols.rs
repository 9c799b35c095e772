//! The parts of the loop under fixed symbol names: fault injection corrupts their code, and crash
//! reports name them. Each does the real work, so a domain with a damaged one is a damaged driver.

use crate::bar::MappedBar;
use crate::domain::Domain;
use crate::error::DomainError;
use crate::hypercalls::HypercallPage;
use crate::serve;

/// A domain in its own address space.
pub type ImageDomain = Domain<'static, MappedBar, HypercallPage>;

/// One turn of the loop, which returns true if it found anything to do.
///
/// # Errors
/// The domain cannot go on.
#[unsafe(no_mangle)]
#[inline(never)]
pub fn domain_loop_turn(domain: &mut ImageDomain) -> Result<bool, DomainError> {
    serve::turn(domain, domain_rx_path, domain_tx_path)
}

/// Publishes received frames; runs in each turn in which the NIC has completed some.
///
/// # Errors
/// The domain cannot go on.
#[unsafe(no_mangle)]
#[inline(never)]
pub fn domain_rx_path(domain: &mut ImageDomain) -> Result<(), DomainError> {
    domain.rx_return()
}

/// Hands frames to the NIC; runs in each turn in which there are some to send.
///
/// # Errors
/// The domain cannot go on.
#[unsafe(no_mangle)]
#[inline(never)]
pub fn domain_tx_path(domain: &mut ImageDomain) -> Result<(), DomainError> {
    domain.tx_provide()
}

//! Carries one fault out on a running domain.

use std::sync::atomic::{AtomicU8, Ordering};

use super::place;
use super::record::{FaultKind, FaultRecord};
use super::target::{Code, Target, from_hex};
use microvm::domain::{DomainSlot, InjectionError, Life};
use platform::clock::monotonic_ns;
use platform::memory::MemoryError;

/// Why a fault cannot be injected.
#[derive(Debug, thiserror::Error)]
pub(super) enum StrikeError {
    /// The record does not say enough, or says what cannot be.
    #[error("the fault is not whole: {0}")]
    Incomplete(&'static str),
    /// The domain runs another image.
    #[error("the domain does not run the image that the fault was drawn for")]
    Image,
    /// No trap there.
    #[error(transparent)]
    Trap(#[from] InjectionError),
    /// No memory there.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

/// Injects a fault. Faulty code and registers strike when execution gets there
/// ([`Life::fault_reached_ns`]); faults in memory and devices are there when this returns, with their time,
/// `CLOCK_MONOTONIC` nanoseconds.
pub(super) fn strike(
    (slot, life): (&DomainSlot, &Life),
    target: &Target,
    kind: FaultKind,
    fault: &FaultRecord,
) -> Result<Option<u64>, StrikeError> {
    let at = fault.address.ok_or(StrikeError::Incomplete("no address"))?;
    match kind {
        FaultKind::Code | FaultKind::Register | FaultKind::Mutation => {
            if life.image().build_id() != target.image().build_id() {
                return Err(StrikeError::Image);
            }
            let code = target.code_at(at);
            let code = code.ok_or(StrikeError::Incomplete("no instruction at the address"))?;
            in_code(life, target, kind, fault, &code)?;
            Ok(None)
        }
        FaultKind::Data => flip_memory(slot, at, bit(fault, 8)?).map(Some),
        FaultKind::Device if fault.symbol.is_some() => {
            let register =
                u32::try_from(at).map_err(|_| StrikeError::Incomplete("no such register"))?;
            let value = slot.nic.peek(register) ^ 1 << bit(fault, 32)?;
            let at_ns = monotonic_ns();
            slot.nic.poke(register, value);
            Ok(Some(at_ns))
        }
        FaultKind::Device => flip_memory(slot, at, bit(fault, 8)?).map(Some),
    }
}

fn in_code(
    life: &Life,
    target: &Target,
    kind: FaultKind,
    fault: &FaultRecord,
    code: &Code,
) -> Result<(), StrikeError> {
    let mut bytes = target.bytes(code).to_vec();
    match kind {
        FaultKind::Register => {
            let name = fault.register.clone().ok_or(StrikeError::Incomplete("no register"))?;
            if place::register(&mut microvm::kvm::Registers::default(), &name).is_none() {
                return Err(StrikeError::Incomplete("no register of this name"));
            }
            let mask = 1u64 << bit(fault, 64)?;
            let change = move |registers: &mut microvm::kvm::Registers| {
                if let Some(register) = place::register(registers, &name) {
                    *register ^= mask;
                }
            };
            life.inject_registers(code.address(), &bytes, Box::new(change))?;
            return Ok(());
        }
        FaultKind::Mutation => {
            let changed = fault.bytes.as_deref().and_then(from_hex);
            let changed = changed.filter(|changed| changed.len() == bytes.len());
            bytes =
                changed.ok_or(StrikeError::Incomplete("no bytes of the instruction's length"))?;
        }
        FaultKind::Code | FaultKind::Data | FaultKind::Device => {
            let byte = bytes.get_mut(usize::from(fault.byte.unwrap_or(u8::MAX)));
            *byte.ok_or(StrikeError::Incomplete("no byte"))? ^= 1 << bit(fault, 8)?;
        }
    }
    life.inject(code.address(), &bytes)?;
    Ok(())
}

fn bit(fault: &FaultRecord, bits: u8) -> Result<u8, StrikeError> {
    fault.bit.filter(|bit| *bit < bits).ok_or(StrikeError::Incomplete("no bit"))
}

fn flip_memory(slot: &DomainSlot, address: u64, bit: u8) -> Result<u64, StrikeError> {
    let byte = slot.ram.shape::<AtomicU8>(address)?;
    let at_ns = monotonic_ns();
    byte.fetch_xor(1 << bit, Ordering::SeqCst);
    Ok(at_ns)
}

//! Puts one fault into a running domain.

use std::sync::atomic::{AtomicU8, Ordering};

use super::kinds::FaultKind;
use super::record::FaultRecord;
use super::registers::register;
use super::target::{Code, Target, from_hex};
use microvm::domain::{DomainSlot, InjectionError, Life};
use microvm::kvm::Registers;
use platform::clock::monotonic_ns;
use platform::memory::MemoryError;

/// Why a fault cannot be injected.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InjectError {
    /// The record lacks something, or names something impossible.
    #[error("the fault is not whole: {0}")]
    Incomplete(&'static str),
    /// The domain runs another image.
    #[error("the domain does not run the image that the fault was drawn for")]
    Image,
    /// No trap can be set there.
    #[error(transparent)]
    Trap(#[from] InjectionError),
    /// There is no memory.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

/// Injects a fault. Faulty code and registers take effect when execution gets there
/// ([`Life::fault_reached_ns`]); faults in memory and devices are there when this returns, and it returns
/// their time, `CLOCK_MONOTONIC` nanoseconds.
pub(super) fn inject(
    slot: &DomainSlot,
    life: &Life,
    target: &Target,
    kind: FaultKind,
    fault: &FaultRecord,
) -> Result<Option<u64>, InjectError> {
    let address = fault.address.ok_or(InjectError::Incomplete("no address"))?;
    match kind {
        FaultKind::Code => change_code(life, target, address, |bytes| flip_in_code(bytes, fault)),
        FaultKind::Mutation => change_code(life, target, address, |bytes| mutated(bytes, fault)),
        FaultKind::Register => flip_register(life, target, address, fault),
        FaultKind::Data => flip_memory(slot, address, bit(fault, 8)?).map(Some),
        FaultKind::Device if fault.symbol.is_some() => {
            flip_nic_register(slot, address, bit(fault, 32)?).map(Some)
        }
        FaultKind::Device => flip_memory(slot, address, bit(fault, 8)?).map(Some),
    }
}

/// The instruction at an address, if the domain runs the image that the fault was drawn for.
fn code_at(life: &Life, target: &Target, address: u64) -> Result<Code, InjectError> {
    if life.image().build_id() != target.image().build_id() {
        return Err(InjectError::Image);
    }
    target.code_at(address).ok_or(InjectError::Incomplete("no instruction at the address"))
}

/// Sets a trap that replaces an instruction when execution gets there.
fn change_code(
    life: &Life,
    target: &Target,
    address: u64,
    change: impl FnOnce(&[u8]) -> Result<Vec<u8>, InjectError>,
) -> Result<Option<u64>, InjectError> {
    let code = code_at(life, target, address)?;
    let changed = change(target.bytes(&code))?;
    life.inject(code.address(), &changed)?;
    Ok(None)
}

fn flip_in_code(bytes: &[u8], fault: &FaultRecord) -> Result<Vec<u8>, InjectError> {
    let mut changed = bytes.to_vec();
    let byte = changed.get_mut(usize::from(fault.byte.unwrap_or(u8::MAX)));
    *byte.ok_or(InjectError::Incomplete("no byte"))? ^= 1 << bit(fault, 8)?;
    Ok(changed)
}

fn mutated(bytes: &[u8], fault: &FaultRecord) -> Result<Vec<u8>, InjectError> {
    let changed = fault.bytes.as_deref().and_then(from_hex);
    let changed = changed.filter(|changed| changed.len() == bytes.len());
    changed.ok_or(InjectError::Incomplete("no bytes of the instruction's length"))
}

/// Sets a trap that flips a bit of a CPU register when execution gets there.
fn flip_register(
    life: &Life,
    target: &Target,
    address: u64,
    fault: &FaultRecord,
) -> Result<Option<u64>, InjectError> {
    let code = code_at(life, target, address)?;
    let name = fault.register.clone().ok_or(InjectError::Incomplete("no register"))?;
    if register(&mut Registers::default(), &name).is_none() {
        return Err(InjectError::Incomplete("no register of this name"));
    }
    let mask = 1u64 << bit(fault, 64)?;
    let change = move |registers: &mut Registers| {
        if let Some(register) = register(registers, &name) {
            *register ^= mask;
        }
    };
    life.inject_registers(code.address(), target.bytes(&code), Box::new(change))?;
    Ok(None)
}

fn flip_nic_register(slot: &DomainSlot, offset: u64, bit: u8) -> Result<u64, InjectError> {
    let register =
        u32::try_from(offset).map_err(|_| InjectError::Incomplete("no such register"))?;
    let value = slot.nic.peek(register) ^ 1 << bit;
    let at_ns = monotonic_ns();
    slot.nic.poke(register, value);
    Ok(at_ns)
}

fn flip_memory(slot: &DomainSlot, address: u64, bit: u8) -> Result<u64, InjectError> {
    let byte = slot.ram.shape::<AtomicU8>(address)?;
    let at_ns = monotonic_ns();
    byte.fetch_xor(1 << bit, Ordering::SeqCst);
    Ok(at_ns)
}

/// The fault's bit, which must be one of so many.
fn bit(fault: &FaultRecord, bits: u8) -> Result<u8, InjectError> {
    fault.bit.filter(|bit| *bit < bits).ok_or(InjectError::Incomplete("no bit"))
}

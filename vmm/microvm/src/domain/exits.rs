//! What a domain asked for when it left the guest, carried out on its vCPU thread.

use std::ops::ControlFlow;

use shared_ring::Role;
use shared_ring::bar_map;
use shared_ring::hypercall::offset;
use shared_ring::layout::BAR_BASE;

use super::eventfd::signal;
use super::fault::Fault;
use super::life_state::LifeState;
use crate::kvm::Exit;
use nic::BarAccess;
use platform::realtime::{self, Priority};

/// Acts on every exit but WAIT.
pub(super) fn carry_out(exit: Exit<'_>, life: &LifeState) -> ControlFlow<Fault> {
    let exits = &life.exits;
    match exit {
        Exit::Hypercall { offset, value } => {
            exits.calls.increment();
            call(offset, value, life)
        }
        Exit::MmioRead { address, data } => {
            exits.register_loads.increment();
            load(address, data, life)
        }
        Exit::MmioWrite { address, data } => {
            exits.register_stores.increment();
            store(address, data, life)
        }
        Exit::Interrupted => {
            exits.interruptions.increment();
            ControlFlow::Continue(())
        }
        Exit::Exception(record) => ControlFlow::Break(Fault::Exception(record)),
        Exit::Shutdown => ControlFlow::Break(Fault::Shutdown),
        Exit::Unexpected { reason } => ControlFlow::Break(Fault::UnexpectedExit { reason }),
    }
}

fn call(offset: u64, value: u32, life: &LifeState) -> ControlFlow<Fault> {
    match offset {
        offset::READY => ready(life),
        // Normally an ioeventfd catches this one before it leaves the kernel.
        offset::NOTIFY => signal(&life.slot.notify),
        // The text lies in the domain's memory until somebody has time to fetch it.
        offset::LOG => {}
        offset::PANIC => return ControlFlow::Break(Fault::Panic { code: value }),
        _ => return ControlFlow::Break(Fault::Hypercall { offset, value }),
    }
    ControlFlow::Continue(())
}

fn ready(life: &LifeState) {
    let is_attached = life.slot.control().role() != Role::Unattached;
    if is_attached && life.note_attached() {
        life.slot.note_attached(life.epoch);
        if life.slot.control().role() == Role::Active {
            life.slot.nic.driver_opened();
        }
    }
    if life.note_ready() {
        // Until now it was a rebuild like any other, and had to give way to the service.
        realtime::enter(Priority::Vcpu);
        life.listener.ready(life.slot.id, life.epoch);
    }
}

fn load(address: u64, data: &mut [u8], life: &LifeState) -> ControlFlow<Fault> {
    let register = register(address, data.len(), false)?;
    let BarAccess::Trapped(registers) = life.slot.nic.bar() else {
        return ControlFlow::Break(Fault::OutsideMap { address, write: false });
    };
    data.copy_from_slice(&registers.read(register).to_le_bytes());
    ControlFlow::Continue(())
}

fn store(address: u64, data: &[u8], life: &LifeState) -> ControlFlow<Fault> {
    let register = register(address, data.len(), true)?;
    let (BarAccess::Trapped(registers), &[a, b, c, d]) = (life.slot.nic.bar(), data) else {
        return ControlFlow::Break(Fault::OutsideMap { address, write: true });
    };
    registers.write(register, u32::from_le_bytes([a, b, c, d]));
    ControlFlow::Continue(())
}

/// Offset of the register that an access means.
fn register(address: u64, bytes: usize, write: bool) -> ControlFlow<Fault, u32> {
    let offset = address.wrapping_sub(BAR_BASE);
    if !bar_map::is_domains(offset) {
        return ControlFlow::Break(Fault::OutsideMap { address, write });
    }
    if bytes != 4 || !offset.is_multiple_of(4) {
        return ControlFlow::Break(Fault::RegisterAccess { offset, bytes: bytes as u8, write });
    }
    ControlFlow::Continue(offset as u32)
}

#[cfg(test)]
mod tests {
    use shared_ring::layout::{BAR_BYTES, PAGE_BYTES};

    use super::*;

    #[test]
    fn only_whole_registers_that_are_the_domains_can_be_accessed() {
        let access = |offset, bytes| register(BAR_BASE.wrapping_add(offset), bytes, false);
        for page in (0..2 * BAR_BYTES).step_by(PAGE_BYTES as usize) {
            for offset in [page, page + PAGE_BYTES - 4] {
                let carried_out = access(offset, 4) == ControlFlow::Continue(offset as u32);
                assert_eq!(carried_out, bar_map::is_domains(offset), "register {offset:#x}");
            }
        }
        let outside = Fault::OutsideMap { address: BAR_BASE - 4, write: false };
        assert_eq!(access(4_u64.wrapping_neg(), 4), ControlFlow::Break(outside));
        for (offset, bytes) in [(8, 1), (8, 2), (8, 8), (10, 4)] {
            let fault = Fault::RegisterAccess { offset, bytes: bytes as u8, write: false };
            assert_eq!(access(offset, bytes), ControlFlow::Break(fault));
        }
    }
}

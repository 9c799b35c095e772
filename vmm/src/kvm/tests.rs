//! Tiny guests on real KVM.

use std::time::{Duration, Instant};

use shared_ring::hypercall::offset;
use shared_ring::layout::{self, BAR_BASE, HYPERCALL_BASE, IMAGE_BASE};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::testing::{DATA, guest, image, machine, machine_on};
use super::{CrashRecord, Exit, MicroVm, VmError};

guest!(
    hypercalls,
    "mov rbx, 0xd0000000",
    "mov [rbx + 0x20], edi",
    "mov [rbx + 0x08], esi",
    "mov dword ptr [rbx + 0x18], 7",
    "2: jmp 2b",
);

/// Runs until the guest says something; a foreign signal does not count.
fn next(vm: &mut MicroVm) -> Exit<'_> {
    loop {
        // The borrow checker wants the exit that is returned to come from one call.
        match vm.run().expect("the guest runs") {
            Exit::Interrupted => {}
            Exit::Hypercall { offset, value } => return Exit::Hypercall { offset, value },
            Exit::Exception(record) => return Exit::Exception(record),
            Exit::Shutdown => return Exit::Shutdown,
            Exit::Unexpected { reason } => return Exit::Unexpected { reason },
            Exit::MmioRead { address, data } => panic!("load of {} at {address:#x}", data.len()),
            Exit::MmioWrite { address, data } => panic!("store of {data:?} at {address:#x}"),
        }
    }
}

fn crash(code: &[u8]) -> CrashRecord {
    let (mut vm, _ram) = machine(code);
    match next(&mut vm) {
        Exit::Exception(record) => record,
        other => panic!("{other:?} instead of an exception"),
    }
}

#[test]
fn arguments_arrive_and_hypercalls_leave() {
    let (mut vm, _ram) = machine(hypercalls());

    assert_eq!(next(&mut vm), Exit::Hypercall { offset: offset::LOG, value: 11 });
    assert_eq!(next(&mut vm), Exit::Hypercall { offset: offset::WAIT, value: 22 });
    assert_eq!(next(&mut vm), Exit::Hypercall { offset: offset::PANIC, value: 7 });
}

guest!(
    invalid_opcode,
    "mov rax, 0x1111",
    "mov rbx, 0x2222",
    "mov r15, 0x3333",
    "mov rbp, rsp",
    "stc",
    "ud2",
);

#[test]
fn an_invalid_opcode_is_reported_with_all_registers() {
    let record = crash(invalid_opcode());

    let registers = record.registers;
    assert_eq!((record.vector, record.error_code), (6, 0));
    assert_eq!(registers.rip, IMAGE_BASE + invalid_opcode().len() as u64 - 2);
    assert_eq!((registers.rsp, registers.rflags & 1), (layout::STACK_TOP - 8, 1));
    let general = registers.general;
    assert_eq!((general.rax, general.rbx, general.r15), (0x1111, 0x2222, 0x3333));
    assert_eq!((general.rbp, general.rdi, general.rsi), (layout::STACK_TOP - 8, 11, 22));
}

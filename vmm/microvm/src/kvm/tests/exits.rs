//! Hypercalls, registers, ioeventfds.

use shared_ring::hypercall::offset;
use shared_ring::layout::{self, BAR_BASE, HYPERCALL_BASE};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::super::testing::{guest, machine};
use super::{Said, next, next_with};

guest!(
    hypercalls,
    "mov rbx, 0xd0000000",
    "mov [rbx + 0x20], edi",
    "mov [rbx + 0x08], esi",
    "mov rax, [rsp]",
    "mov [rbx + 0x18], eax",
    "lea rax, [rsp + 8]",
    "mov [rbx + 0x20], eax",
    "2: jmp 2b",
);

#[test]
fn the_program_starts_as_if_it_had_been_called() {
    let (mut vm, _ram) = machine(hypercalls());

    assert_eq!(next(&mut vm), Said::Call { offset: offset::LOG, value: 11 });
    assert_eq!(next(&mut vm), Said::Call { offset: offset::WAIT, value: 22 });
    assert_eq!(next(&mut vm), Said::Call { offset: offset::PANIC, value: 0 });
    let stack_top = layout::STACK_TOP as u32;
    assert_eq!(next(&mut vm), Said::Call { offset: offset::LOG, value: stack_top });
}

guest!(
    registers,
    "mov rbx, 0xe0000000",
    "mov eax, [rbx + 0x08]",
    "mov [rbx + 0x10], eax",
    "mov [rbx + 0x18], rax",
    "mov al, [rbx + 0x21]",
    "2: jmp 2b",
);

#[test]
fn registers_are_loaded_and_stored() {
    let (mut vm, _ram) = machine(registers());

    assert_eq!(next_with(&mut vm, 0x7e), Said::Load { address: BAR_BASE + 0x08, bytes: 4 });
    let data = vec![0x7e; 4];
    assert_eq!(next(&mut vm), Said::Store { address: BAR_BASE + 0x10, data });
    let data = vec![0x7e, 0x7e, 0x7e, 0x7e, 0, 0, 0, 0];
    assert_eq!(next(&mut vm), Said::Store { address: BAR_BASE + 0x18, data });
    assert_eq!(next(&mut vm), Said::Load { address: BAR_BASE + 0x21, bytes: 1 });
}

guest!(
    notify,
    "mov rbx, 0xd0000000",
    "mov dword ptr [rbx + 0x10], 0",
    "mov dword ptr [rbx + 0x10], 5",
    "mov dword ptr [rbx + 0x40], 1",
    "mov dword ptr [rbx + 0x40], 2",
    "mov dword ptr [rbx + 0x20], 9",
    "2: jmp 2b",
);

#[test]
fn an_ioeventfd_takes_a_store_without_an_exit() {
    let (mut vm, _ram) = machine(notify());
    let [any, two] = [(), ()].map(|()| EventFd::new(EFD_NONBLOCK).unwrap());
    vm.ioeventfd(HYPERCALL_BASE + offset::NOTIFY, &any, None).unwrap();
    vm.ioeventfd(HYPERCALL_BASE + 0x40, &two, Some(2)).unwrap();

    assert_eq!(next(&mut vm), Said::Call { offset: 0x40, value: 1 });
    assert_eq!(next(&mut vm), Said::Call { offset: offset::LOG, value: 9 });
    assert_eq!((any.read().unwrap(), two.read().unwrap()), (2, 1));
    assert!(vm.ioeventfd(HYPERCALL_BASE + offset::NOTIFY, &any, None).is_err());
}

guest!(
    odd_calls,
    "mov rbx, 0xd0000000",
    "mov [rbx], rdi",
    "mov eax, [rbx + 0x08]",
    "mov dword ptr [rbx + 0x28], 14",
    "2: jmp 2b",
);

#[test]
fn a_program_cannot_pass_for_the_stub() {
    let (mut vm, _ram) = machine(odd_calls());

    let data = vec![11, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(next(&mut vm), Said::Store { address: HYPERCALL_BASE, data });
    assert_eq!(next(&mut vm), Said::Load { address: HYPERCALL_BASE + 8, bytes: 4 });
    assert_eq!(next(&mut vm), Said::Call { offset: offset::EXCEPTION, value: 14 });
}

//! What a program may not do, and that building and dropping machines leaves nothing behind.

use std::sync::Arc;

use shared_ring::layout::{self, CONTROL_BASE, IMAGE_BASE, STACK_BASE, SYSTEM_BASE};

use super::super::testing::{DATA, guest, machine, machine_on, machine_with};
use super::super::{MapError, Mapping, Protection, VmError};
use super::{Said, crash, next, next_crash};
use crate::memory::SharedMemory;

const PRESENT: u64 = 1;
const WRITE: u64 = 2;
const USER: u64 = 4;
const FETCH: u64 = 16;

guest!(load_null, "xor ebx, ebx", "mov rax, [rbx]");
guest!(load_system, "mov ebx, 0x10000", "mov rax, [rbx]");
guest!(load_stub, "mov ebx, 0x11000", "mov rax, [rbx]");
guest!(load_stack_of_ring_0, "mov ebx, 0x13ff0", "mov rax, [rbx]");
guest!(load_page_tables, "mov ebx, 0x14000", "mov rax, [rbx]");
guest!(load_past_ram, "mov ebx, 0x400000", "mov rax, [rbx]");
guest!(load_kernel_half, "mov rbx, 0xffff800000000000", "mov rax, [rbx]");
guest!(load_between_the_halves, "mov rbx, 0x800000000000", "mov rax, [rbx]");
guest!(store_text, "mov ebx, 0x40000", "mov [rbx], eax");
guest!(store_rodata, "mov ebx, 0x41000", "mov [rbx], eax");
guest!(store_control, "mov ebx, 0x100000", "mov [rbx], eax");
guest!(store_guard, "mov ebx, 0xe0ff8", "mov [rbx], rax");
guest!(overflow_stack, "2: push rax", "jmp 2b");
guest!(call_data, "mov ebx, 0x42000", "jmp rbx");
guest!(call_stack, "jmp rsp");
guest!(call_stub, "mov ebx, 0x11000", "jmp rbx");
guest!(call_null, "xor ebx, ebx", "call rbx");

#[test]
fn what_is_not_granted_is_a_page_fault() {
    let cases: [(&[u8], u64, u64); 15] = [
        (load_null(), 0, USER),
        (load_system(), SYSTEM_BASE, USER | PRESENT),
        (load_stub(), SYSTEM_BASE + 0x1000, USER | PRESENT),
        (load_stack_of_ring_0(), SYSTEM_BASE + 0x3ff0, USER | PRESENT),
        (load_page_tables(), SYSTEM_BASE + 0x4000, USER),
        (load_past_ram(), layout::RAM_BYTES, USER),
        (store_text(), IMAGE_BASE, USER | WRITE | PRESENT),
        (store_rodata(), IMAGE_BASE + 0x1000, USER | WRITE | PRESENT),
        (store_control(), CONTROL_BASE, USER | WRITE | PRESENT),
        (store_guard(), STACK_BASE - 8, USER | WRITE),
        (overflow_stack(), STACK_BASE - 8, USER | WRITE),
        (call_data(), DATA, USER | FETCH | PRESENT),
        (call_stack(), layout::STACK_TOP - 8, USER | FETCH | PRESENT),
        (call_stub(), SYSTEM_BASE + 0x1000, USER | FETCH | PRESENT),
        (call_null(), 0, USER | FETCH),
    ];
    for (i, (code, address, error_code)) in cases.into_iter().enumerate() {
        let record = crash(code);
        assert_eq!((record.vector, record.cr2), (14, address), "case {i}: {record}");
        assert_eq!(record.error_code, error_code, "case {i}: {record}");
        let fetch = error_code & FETCH != 0;
        assert_eq!(record.registers.rip == address, fetch, "case {i}: {record}");
    }
}

#[test]
fn a_non_canonical_address_is_a_general_protection_fault() {
    // The upper half is canonical: a page fault; between the halves nothing is.
    assert_eq!(crash(load_kernel_half()).vector, 14);
    assert_eq!(crash(load_between_the_halves()).vector, 13);
}

guest!(
    allowed,
    "mov ebx, 0x42000",
    "mov rax, [rbx - 0x1000]",
    "mov [rbx + 8], rax",
    "movaps xmm0, [rbx]",
    "mulsd xmm0, xmm0",
    "mov ecx, [0x100000]",
    "mov [0x110000], ecx",
    "push rcx",
    "rdtsc",
    "ud2",
);

#[test]
fn what_is_granted_works() {
    let (mut vm, ram) = machine(allowed());
    ram.write(CONTROL_BASE, &[1, 2, 3, 4]).unwrap();

    assert_eq!(next_crash(&mut vm).vector, 6);

    let (mut data, mut status) = ([0; 16], [0; 4]);
    ram.read(DATA, &mut data).unwrap();
    ram.read(layout::STATUS_BASE, &mut status).unwrap();
    assert_eq!(data, [[0xa5; 8], [0x5a; 8]].concat()[..]);
    assert_eq!(status, [1, 2, 3, 4]);
}

#[test]
fn maps_that_cannot_be_are_refused() {
    let mapping =
        |address, len| Mapping { address, len, protection: Protection::ReadWrite, uncached: false };
    let build = |mapping, system_bytes| match machine_with(&[mapping], system_bytes) {
        Err(VmError::Map(error)) => error,
        other => panic!("{other:?}"),
    };
    let good = layout::SYSTEM_BYTES;

    let overlap = |address| MapError::Overlap { address };
    assert_eq!(build(mapping(IMAGE_BASE, 4096), good), overlap(IMAGE_BASE));
    assert_eq!(build(mapping(SYSTEM_BASE, 4096), good), overlap(SYSTEM_BASE));
    assert_eq!(build(mapping(0xd000_0000, 4096), good), overlap(0xd000_0000));
    let range = |address, len| MapError::Range { address, len };
    assert_eq!(build(mapping(0x20_0800, 4096), good), range(0x20_0800, 4096));
    assert_eq!(build(mapping(1 << 47, 4096), good), range(1 << 47, 4096));
    let none = MapError::SystemAreaFull { bytes: 0 };
    assert_eq!(build(mapping(0x20_0000, 4096), 0x1000), none);
    let full = MapError::SystemAreaFull { bytes: 0x3000 };
    assert_eq!(build(mapping(0x1_0000_0000, 4096), 0x7000), full);
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

guest!(call_once, "mov rbx, 0xd0000000", "mov [rbx], edi", "ud2");

#[test]
fn a_hundred_machines_leave_no_descriptor_behind() {
    let ram = Arc::new(SharedMemory::new(c"test", layout::RAM_BYTES).unwrap());
    let cycle = || {
        let mut vm = machine_on(&ram, call_once()).unwrap();
        let _kicker = vm.kicker();
        assert_eq!(next(&mut vm), Said::Call { offset: 0, value: 11 });
        assert_eq!(next_crash(&mut vm).vector, 6);
    };
    cycle();
    let before = open_descriptors();

    for _ in 0..100 {
        cycle();
    }

    // Other tests of this process hold some of their own at any moment, but never this many.
    assert!(open_descriptors() < before + 50, "{before} before, {} after", open_descriptors());
}

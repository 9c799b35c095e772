//! Exceptions, what is known of them, and going on after one.

use shared_ring::hypercall::offset;
use shared_ring::layout::{self, BAR_BASE, IMAGE_BASE};

use super::super::VmError;
use super::super::testing::{guest, machine};
use super::{Said, crash, next, next_crash};

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

guest!(divide, "xor ecx, ecx", "mov eax, 1", "xor edx, edx", "div ecx");
guest!(halt, "hlt");
guest!(system_call, "syscall");
guest!(port, "in al, 0x80");
guest!(software_interrupt, "int 0x80");
guest!(fake_page_fault, "int 14");
guest!(privileged, "mov cr3, rax");

#[test]
fn other_exceptions_keep_their_vectors() {
    let cases: [(&[u8], u8, u64); 4] =
        [(divide(), 0, 0), (halt(), 13, 0), (port(), 13, 0), (privileged(), 13, 0)];
    for (code, vector, error_code) in cases {
        let record = crash(code);
        assert_eq!((record.vector, record.error_code), (vector, error_code), "{record}");
    }
}

#[test]
fn a_program_raises_no_vector_but_the_breakpoint() {
    for (code, raised) in [(software_interrupt(), 0x80), (fake_page_fault(), 14)] {
        let record = crash(code);

        // The CPU refuses with a general protection fault, whose error code names the gate. A KVM
        // that emulates the instruction may not know it at all.
        let refused = (record.vector, record.error_code) == (13, raised * 8 + 2);
        assert!(refused || record.vector == 6, "{record}");
    }
}

#[test]
fn a_system_call_leads_nowhere() {
    let record = crash(system_call());

    // Not enabled, so an invalid opcode; where KVM runs the guest without the CPU's help it is
    // enabled all the same, and leads to address 0, where nothing is mapped.
    let at_null = (record.vector, record.registers.rip, record.cr2) == (14, 0, 0);
    assert!(record.vector == 6 || at_null, "{record}");
}

guest!(no_stack, "xor esp, esp", "ud2");
guest!(wild_stack, "mov rsp, 0x8000000000000000", "push rax");

#[test]
fn an_exception_needs_no_stack_of_the_programs() {
    let record = crash(no_stack());
    assert_eq!((record.vector, record.registers.rsp), (6, 0));

    // A stack fault; an emulated CPU may call it a general protection fault.
    let record = crash(wild_stack());
    assert!([12, 13].contains(&record.vector), "{record}");
}

guest!(
    trapped,
    "mov eax, 5",
    "4: int3",
    "mov rbx, 0xd0000000",
    "mov [rbx + 0x20], eax",
    "push rax",
    "pop rcx",
    "ud2",
);

#[test]
fn a_program_goes_on_after_a_breakpoint() {
    let (mut vm, ram) = machine(trapped());
    let record = next_crash(&mut vm);
    assert_eq!((record.vector, record.registers.rip), (3, IMAGE_BASE + 6));

    ram.write(IMAGE_BASE + 5, &[0x90]).unwrap();
    let mut registers = record.registers;
    registers.rip -= 1;
    registers.general.rax += 1;
    vm.set_registers(&registers).unwrap();

    assert_eq!(next(&mut vm), Said::Call { offset: offset::LOG, value: 6 });
    let record = next_crash(&mut vm);
    assert_eq!((record.vector, record.registers.general.rcx), (6, 6));
    assert_eq!(record.registers.rsp, layout::STACK_TOP - 8);
}

guest!(load_then_ud, "mov rbx, 0xe0000000", "mov eax, [rbx]", "ud2",);

#[test]
fn a_pending_load_does_not_overwrite_new_registers() {
    let (mut vm, _ram) = machine(load_then_ud());
    assert_eq!(next(&mut vm), Said::Load { address: BAR_BASE, bytes: 4 });

    let mut registers = vm.registers().unwrap();
    registers.rip = IMAGE_BASE + load_then_ud().len() as u64 - 2;
    registers.general.rax = 0x1234;
    vm.set_registers(&registers).unwrap();

    assert_eq!(next_crash(&mut vm).registers.general.rax, 0x1234);
}

/// Makes the gate of a vector not present.
fn break_gate(vm: &super::MicroVm, ram: &platform::memory::SharedMemory, vector: u64) {
    ram.write(vm.system.gate(vector) + 5, &[0]).unwrap();
}

#[test]
fn a_delivery_that_fails_is_a_double_fault_on_its_own_stack() {
    let (mut vm, ram) = machine(divide());
    break_gate(&vm, &ram, 0);
    break_gate(&vm, &ram, 11);

    let record = next_crash(&mut vm);

    assert_eq!(record.vector, 8, "{record}");
    assert_eq!(record.registers.rip, IMAGE_BASE + divide().len() as u64 - 2);
}

#[test]
fn a_triple_fault_ends_the_vcpu_for_good() {
    let (mut vm, ram) = machine(divide());
    for vector in 0..32 {
        break_gate(&vm, &ram, vector);
    }

    assert_eq!(next(&mut vm), Said::Shutdown);
    assert!(matches!(vm.run(), Err(VmError::Dead)));
    assert!(matches!(vm.set_registers(&Default::default()), Err(VmError::Dead)));
}

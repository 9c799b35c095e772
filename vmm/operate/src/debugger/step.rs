//! Single steps on machines whose trap flag does not work: finds where the program can be after an
//! instruction.

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, OpKind, Register};

use microvm::kvm::Registers;

/// Longest instruction of the architecture, bytes.
pub(super) const MAX_INSTRUCTION_BYTES: usize = 15;

/// Addresses of the instructions that can follow the one in `code`, which begins at the program
/// counter. There are none if the instruction faults. `read` reads eight bytes of memory.
pub(super) fn successors(
    code: &[u8],
    registers: &Registers,
    read: impl Fn(u64) -> Option<u64>,
) -> Vec<u64> {
    let mut decoder = Decoder::with_ip(64, code, registers.rip, DecoderOptions::NONE);
    let instruction = decoder.decode();
    let next = instruction.next_ip();
    match instruction.flow_control() {
        _ if instruction.is_invalid() => Vec::new(),
        FlowControl::Next | FlowControl::XbeginXabortXend => vec![next],
        FlowControl::UnconditionalBranch | FlowControl::Call => {
            vec![instruction.near_branch_target()]
        }
        FlowControl::ConditionalBranch => vec![next, instruction.near_branch_target()],
        FlowControl::IndirectBranch | FlowControl::IndirectCall => {
            target(&instruction, registers, read).into_iter().collect()
        }
        FlowControl::Return => read(registers.rsp).into_iter().collect(),
        FlowControl::Interrupt | FlowControl::Exception => Vec::new(),
    }
}

/// Where an indirect jump or call leads.
fn target(
    instruction: &Instruction,
    registers: &Registers,
    read: impl Fn(u64) -> Option<u64>,
) -> Option<u64> {
    match instruction.op0_kind() {
        OpKind::Register => value(instruction.op0_register(), registers),
        OpKind::Memory => {
            let address =
                instruction.virtual_address(0, 0, |register, _, _| value(register, registers))?;
            read(address)
        }
        _ => None,
    }
}

fn value(register: Register, r: &Registers) -> Option<u64> {
    let g = &r.general;
    Some(match register {
        // Segments of a flat address space begin at 0.
        Register::CS | Register::DS | Register::ES | Register::SS | Register::FS | Register::GS => {
            0
        }
        Register::RIP => r.rip,
        Register::RSP => r.rsp,
        Register::RAX => g.rax,
        Register::RBX => g.rbx,
        Register::RCX => g.rcx,
        Register::RDX => g.rdx,
        Register::RSI => g.rsi,
        Register::RDI => g.rdi,
        Register::RBP => g.rbp,
        Register::R8 => g.r8,
        Register::R9 => g.r9,
        Register::R10 => g.r10,
        Register::R11 => g.r11,
        Register::R12 => g.r12,
        Register::R13 => g.r13,
        Register::R14 => g.r14,
        Register::R15 => g.r15,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(code: &[u8]) -> Vec<u64> {
        let mut registers = Registers { rip: 0x1000, rsp: 0x8000, ..Registers::default() };
        registers.general.rax = 0x4000;
        registers.general.rbx = 2;
        // Each word of memory holds its address and one.
        successors(code, &registers, |address| Some(address + 1))
    }

    #[test]
    fn the_program_can_go_where_the_instruction_says() {
        assert_eq!(after(&[0x90]), [0x1001], "nop");
        assert_eq!(after(&[0xeb, 0x10]), [0x1012], "jmp");
        assert_eq!(after(&[0x74, 0x10]), [0x1002, 0x1012], "je");
        assert_eq!(after(&[0xe8, 0, 1, 0, 0]), [0x1105], "call");
        assert_eq!(after(&[0xc3]), [0x8001], "ret");
        assert_eq!(after(&[0xff, 0xe0]), [0x4000], "jmp rax");
        assert_eq!(after(&[0xff, 0x54, 0xd8, 0x08]), [0x4019], "call [rax+rbx*8+8]");
        assert_eq!(after(&[0xff, 0x25, 0x10, 0, 0, 0]), [0x1017], "jmp [rip+16]");
    }

    #[test]
    fn what_faults_has_no_successor() {
        assert_eq!(after(&[0x0f, 0x0b]), [0; 0], "ud2");
        assert_eq!(after(&[0xcc]), [0; 0], "int3");
        assert_eq!(after(&[]), [0; 0], "nothing");
    }
}

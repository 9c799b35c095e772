//! Registers of a vCPU, as crash records and fault injection use them.

use std::fmt;

use kvm_bindings::kvm_regs;

/// The fifteen general purpose registers that are not the stack pointer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the architecture's")]
pub struct GeneralRegisters {
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rbp: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
}

/// Where a program stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// Instruction pointer.
    pub rip: u64,
    /// Stack pointer.
    pub rsp: u64,
    /// Flags.
    pub rflags: u64,
    /// The others.
    pub general: GeneralRegisters,
}

/// What a CPU exception left behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CrashRecord {
    /// Exception vector, 0 to 31. 3 is a breakpoint, 6 an invalid opcode, 14 a page fault.
    pub vector: u8,
    /// Error code, 0 where the vector has none. For a page fault: bit 0 present, 1 write, 2 user,
    /// 4 instruction fetch.
    pub error_code: u64,
    /// CR2: the address of the last page fault, so it belongs to this exception for vector 14 only.
    pub cr2: u64,
    /// Registers at the exception. For a breakpoint, RIP is one past the `int3`.
    pub registers: Registers,
}

impl From<&kvm_regs> for GeneralRegisters {
    fn from(r: &kvm_regs) -> Self {
        Self {
            rax: r.rax,
            rbx: r.rbx,
            rcx: r.rcx,
            rdx: r.rdx,
            rsi: r.rsi,
            rdi: r.rdi,
            rbp: r.rbp,
            r8: r.r8,
            r9: r.r9,
            r10: r.r10,
            r11: r.r11,
            r12: r.r12,
            r13: r.r13,
            r14: r.r14,
            r15: r.r15,
        }
    }
}

impl From<&kvm_regs> for Registers {
    fn from(r: &kvm_regs) -> Self {
        Self { rip: r.rip, rsp: r.rsp, rflags: r.rflags, general: r.into() }
    }
}

impl From<&Registers> for kvm_regs {
    fn from(r: &Registers) -> Self {
        let g = &r.general;
        Self {
            rax: g.rax,
            rbx: g.rbx,
            rcx: g.rcx,
            rdx: g.rdx,
            rsi: g.rsi,
            rdi: g.rdi,
            rsp: r.rsp,
            rbp: g.rbp,
            r8: g.r8,
            r9: g.r9,
            r10: g.r10,
            r11: g.r11,
            r12: g.r12,
            r13: g.r13,
            r14: g.r14,
            r15: g.r15,
            rip: r.rip,
            rflags: r.rflags,
        }
    }
}

impl CrashRecord {
    /// Usual short name of the exception.
    pub const fn name(&self) -> &'static str {
        match self.vector {
            0 => "divide error",
            1 => "debug exception",
            2 => "non-maskable interrupt",
            3 => "breakpoint",
            4 => "overflow",
            5 => "bound range exceeded",
            6 => "invalid opcode",
            7 => "device not available",
            8 => "double fault",
            10 => "invalid TSS",
            11 => "segment not present",
            12 => "stack fault",
            13 => "general protection fault",
            14 => "page fault",
            16 => "x87 floating point error",
            17 => "alignment check",
            18 => "machine check",
            19 => "SIMD floating point error",
            20 => "virtualisation exception",
            21 => "control protection exception",
            _ => "reserved exception",
        }
    }
}

impl fmt::Display for CrashRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {:#x}", self.name(), self.registers.rip)?;
        if self.vector == 14 && self.cr2 != 0 {
            write!(f, ", address {:#x}", self.cr2)?;
        }
        if self.error_code != 0 {
            write!(f, ", error code {:#x}", self.error_code)?;
        }
        Ok(())
    }
}

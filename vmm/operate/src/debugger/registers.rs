//! Registers in the shape of the GDB protocol.

use gdbstub_arch::x86::reg::{X86_64CoreRegs, X86SegmentRegs, X87FpuInternalRegs};

use microvm::domain::AllRegisters;
use microvm::kvm::{FXSAVE_BYTES, GeneralRegisters, Registers, USER_CODE, USER_DATA};

/// The registers of a stopped program.
pub(super) fn shown(all: &AllRegisters) -> X86_64CoreRegs {
    let (r, g, data) = (&all.general, &all.general.general, u32::from(USER_DATA));
    let v = &all.vector;
    let bytes = |at: usize, len: usize| &v[at..at + len];
    let word = |at| u32::from_le_bytes([v[at], v[at + 1], v[at + 2], v[at + 3]]);
    let half = |at| u32::from(u16::from_le_bytes([v[at], v[at + 1]]));
    let mut out = X86_64CoreRegs {
        regs: [
            g.rax, g.rbx, g.rcx, g.rdx, g.rsi, g.rdi, g.rbp, r.rsp, g.r8, g.r9, g.r10, g.r11,
            g.r12, g.r13, g.r14, g.r15,
        ],
        eflags: r.rflags as u32,
        rip: r.rip,
        segments: X86SegmentRegs {
            cs: u32::from(USER_CODE),
            ss: data,
            ds: data,
            es: data,
            fs: data,
            gs: data,
        },
        fpu: X87FpuInternalRegs {
            fctrl: half(0),
            fstat: half(2),
            ftag: full_tags(v[4]),
            fop: half(6),
            fioff: word(8),
            fooff: word(16),
            ..X87FpuInternalRegs::default()
        },
        mxcsr: word(24),
        ..X86_64CoreRegs::default()
    };
    for (n, st) in out.st.iter_mut().enumerate() {
        st.copy_from_slice(bytes(32 + 16 * n, 10));
    }
    for (n, xmm) in out.xmm.iter_mut().enumerate() {
        let mut word = [0; 16];
        word.copy_from_slice(bytes(160 + 16 * n, 16));
        *xmm = u128::from_le_bytes(word);
    }
    out
}

const _: () = assert!(160 + 16 * 16 <= FXSAVE_BYTES);

/// `fxsave` has one bit for each register, set if the register is in use. The protocol has two bits,
/// both set if the register is empty.
fn full_tags(abridged: u8) -> u32 {
    (0..8).filter(|n| abridged & (1 << n) == 0).map(|n| 0b11 << (2 * n)).sum()
}

/// The registers as the debugger wants them, as far as they can be changed.
pub(super) fn wanted(regs: &X86_64CoreRegs) -> Registers {
    let [rax, rbx, rcx, rdx, rsi, rdi, rbp, rsp, r8, r9, r10, r11, r12, r13, r14, r15] = regs.regs;
    let general = GeneralRegisters {
        rax,
        rbx,
        rcx,
        rdx,
        rsi,
        rdi,
        rbp,
        r8,
        r9,
        r10,
        r11,
        r12,
        r13,
        r14,
        r15,
    };
    // The program has no say over the interrupt flag, the privilege level and the like.
    let rflags = u64::from(regs.eflags) & STATUS_FLAGS | FIXED_FLAG;
    Registers { rip: regs.rip, rsp, rflags, general }
}

/// Carry, parity, adjust, zero, sign, direction, overflow.
const STATUS_FLAGS: u64 = 0xcd5;
/// Always one.
const FIXED_FLAG: u64 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_come_back_as_they_were_shown() {
        let mut general = Registers { rip: 1, rsp: 2, rflags: 0x246, ..Registers::default() };
        general.general.rax = 3;
        general.general.r15 = 4;
        let mut vector = [0; FXSAVE_BYTES];
        vector[160] = 9;
        vector[4] = 1;
        let regs = shown(&AllRegisters { general, vector });
        assert_eq!((regs.regs[0], regs.regs[7], regs.regs[15], regs.xmm[0]), (3, 2, 4, 9));
        assert_eq!(regs.fpu.ftag, 0xfffc);
        let back = wanted(&regs);
        assert_eq!(back, Registers { rflags: 0x46, ..general });
    }
}

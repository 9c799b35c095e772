//! The notes of a core file: registers and process, as Linux writes them for x86-64
//! (`struct elf_prstatus`, `struct elf_prpsinfo`), and two of our own.

use super::files::IMAGE_FILE;
use microvm::domain::Fault;
use microvm::kvm::{FXSAVE_BYTES, Registers};

const NT_PRSTATUS: u32 = 1;
const NT_FPREGSET: u32 = 2;
const NT_PRPSINFO: u32 = 3;
/// Type of the note named "warmspare" that holds the cause, in UTF-8.
pub(super) const NOTE_CAUSE: u32 = 1;
/// Type of the note named "warmspare" that holds the build id of the driver's program.
pub(super) const NOTE_BUILD_ID: u32 = 2;
/// Name of our own notes.
pub(super) const NOTE_NAME: &str = "warmspare";

const PRSTATUS_BYTES: usize = 336;
const PRSTATUS_SIGNAL: usize = 12;
const PRSTATUS_PID: usize = 32;
const PRSTATUS_REGISTERS: usize = 112;
const PRPSINFO_BYTES: usize = 136;
const PRPSINFO_PID: usize = 24;
const PRPSINFO_NAME: usize = 40;
const NAME_BYTES: usize = 16;
const PRPSINFO_ARGUMENTS: usize = 56;
const ARGUMENTS_BYTES: usize = 80;

/// Selectors of a program at CPL 3: a debugger expects plausible ones.
const CODE_SELECTOR: u64 = 0x23;
const DATA_SELECTOR: u64 = 0x1b;

/// What the notes say of a failure.
pub(super) struct Facts<'a> {
    /// General registers of the program, if they are known.
    pub(super) registers: Option<Registers>,
    /// x87 and SSE registers, as `fxsave` stores them.
    pub(super) vector_registers: Option<&'a [u8; FXSAVE_BYTES]>,
    /// See [`signal`].
    pub(super) signal: i32,
    /// Number of the life.
    pub(super) epoch: u32,
    pub(super) domain: &'a str,
    pub(super) cause: &'a str,
    pub(super) build_id: &'a [u8],
}

/// All notes in the order in which they stand in the file.
pub(super) fn notes(facts: &Facts<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    if let Some(registers) = &facts.registers {
        note(&mut out, "CORE", NT_PRSTATUS, &prstatus(facts, registers));
        if let Some(registers) = facts.vector_registers {
            note(&mut out, "CORE", NT_FPREGSET, registers);
        }
    }
    note(&mut out, "CORE", NT_PRPSINFO, &prpsinfo(facts));
    note(&mut out, NOTE_NAME, NOTE_CAUSE, facts.cause.as_bytes());
    note(&mut out, NOTE_NAME, NOTE_BUILD_ID, facts.build_id);
    out
}

fn note(out: &mut Vec<u8>, name: &str, kind: u32, content: &[u8]) {
    out.extend((name.len() as u32 + 1).to_le_bytes());
    out.extend((content.len() as u32).to_le_bytes());
    out.extend(kind.to_le_bytes());
    for part in [name.as_bytes(), &[0]] {
        out.extend_from_slice(part);
    }
    out.resize(out.len().next_multiple_of(4), 0);
    out.extend_from_slice(content);
    out.resize(out.len().next_multiple_of(4), 0);
}

fn put(out: &mut [u8], at: usize, bytes: &[u8]) {
    out[at..at + bytes.len()].copy_from_slice(bytes);
}

fn prstatus(facts: &Facts<'_>, registers: &Registers) -> [u8; PRSTATUS_BYTES] {
    let g = &registers.general;
    // The order of `struct user_regs_struct`; the program uses neither FS nor GS.
    let words = [
        g.r15,
        g.r14,
        g.r13,
        g.r12,
        g.rbp,
        g.rbx,
        g.r11,
        g.r10,
        g.r9,
        g.r8,
        g.rax,
        g.rcx,
        g.rdx,
        g.rsi,
        g.rdi,
        u64::MAX,
        registers.rip,
        CODE_SELECTOR,
        registers.rflags,
        registers.rsp,
        DATA_SELECTOR,
        0,
        0,
        DATA_SELECTOR,
        DATA_SELECTOR,
        DATA_SELECTOR,
        DATA_SELECTOR,
    ];
    let mut out = [0; PRSTATUS_BYTES];
    put(&mut out, 0, &facts.signal.to_le_bytes());
    put(&mut out, PRSTATUS_SIGNAL, &(facts.signal as u16).to_le_bytes());
    put(&mut out, PRSTATUS_PID, &facts.epoch.to_le_bytes());
    for (n, word) in words.into_iter().enumerate() {
        put(&mut out, PRSTATUS_REGISTERS + 8 * n, &word.to_le_bytes());
    }
    out
}

fn prpsinfo(facts: &Facts<'_>) -> [u8; PRPSINFO_BYTES] {
    let mut out = [0; PRPSINFO_BYTES];
    let cut = |text: &str, room: usize| text.as_bytes()[..text.len().min(room - 1)].to_vec();
    put(&mut out, PRPSINFO_PID, &facts.epoch.to_le_bytes());
    // A debugger compares this name with the name of the program that it is given.
    put(&mut out, PRPSINFO_NAME, &cut(IMAGE_FILE, NAME_BYTES));
    let arguments = format!("domain {}: {}", facts.domain, facts.cause);
    put(&mut out, PRPSINFO_ARGUMENTS, &cut(&arguments, ARGUMENTS_BYTES));
    out
}

/// The signal that would have killed an ordinary process: a debugger shows it as the reason.
pub(super) fn signal(fault: Option<&Fault>) -> i32 {
    let Some(fault) = fault else { return libc::SIGKILL };
    match fault {
        Fault::Exception(record) => match record.vector {
            1 | 3 => libc::SIGTRAP,
            0 | 16 | 19 => libc::SIGFPE,
            6 | 7 => libc::SIGILL,
            17 | 18 => libc::SIGBUS,
            _ => libc::SIGSEGV,
        },
        Fault::Panic { .. } => libc::SIGABRT,
        Fault::Shutdown | Fault::OutsideMap { .. } => libc::SIGSEGV,
        Fault::RegisterAccess { .. } => libc::SIGBUS,
        Fault::Hypercall { .. } | Fault::UnexpectedExit { .. } => libc::SIGSYS,
        Fault::Kvm { .. } | Fault::VcpuThread => libc::SIGKILL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_padded_to_words() {
        let mut out = Vec::new();
        note(&mut out, "warmspare", 7, b"abcde");
        assert_eq!(out.len(), 12 + 12 + 8);
        assert_eq!(out[..12], [10, 0, 0, 0, 5, 0, 0, 0, 7, 0, 0, 0]);
        assert_eq!(&out[12..22], b"warmspare\0");
        assert_eq!(&out[24..29], b"abcde");
    }

    #[test]
    fn long_names_and_causes_are_cut() {
        let (domain, cause) = ("d".repeat(40), "c".repeat(300));
        let facts = Facts {
            registers: None,
            vector_registers: None,
            signal: 4,
            epoch: 3,
            domain: &domain,
            cause: &cause,
            build_id: &[],
        };
        let info = prpsinfo(&facts);
        assert_eq!(&info[PRPSINFO_NAME..PRPSINFO_NAME + 11], b"domain.elf\0");
        assert_eq!((info[PRPSINFO_BYTES - 2], info[PRPSINFO_BYTES - 1]), (b'c', 0));
    }
}

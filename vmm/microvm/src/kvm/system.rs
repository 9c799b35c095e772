//! The system area: what the CPU itself needs in a guest, out of the program's reach.
//!
//! ```text
//! + 0x0000  GDT, TSS, IDT                      ring 0 R--
//! + 0x1000  exception stub                     ring 0 R-X
//! + 0x2000  alias of the hypercall page        ring 0 RW-, no memory behind it
//! + 0x3000  exception stacks                   ring 0 RW-
//! + 0x4000  page tables                        not mapped at all
//! ```
//!
//! Every gate switches to an exception stack through the IST, from whatever ring and with whatever
//! stack pointer the exception comes, so a frame is always at a known place. A double fault has a
//! stack of its own, so that a broken first delivery cannot break the report.

use kvm_bindings::{kvm_dtable, kvm_segment, kvm_sregs};

use super::registers::{CrashRecord, Registers};
use super::stub;
use super::tables::{PAGE, PageTables, Rights, TableError};
use platform::memory::{MemoryError, SharedMemory};

/// Bytes of the system area beside page tables.
pub const SYSTEM_FIXED_BYTES: u64 = 4 * PAGE;

const GDT: u64 = 0;
const TSS: u64 = 0x100;
const IDT: u64 = 0x200;
const STUB: u64 = PAGE;
const REPORT: u64 = STUB + stub::REPORT_OFFSET;
const STACKS: u64 = 3 * PAGE;
/// Tops of the two exception stacks.
const STACK_TOP: u64 = STACKS + PAGE;
const DOUBLE_FAULT_STACK_TOP: u64 = STACKS + PAGE / 2;

const KERNEL_CODE: u16 = 0x08;
/// Selector of the data segments of a program.
pub const USER_DATA: u16 = 0x18 | 3;
/// Selector of its code segment.
pub const USER_CODE: u16 = 0x20 | 3;
const TASK: u16 = 0x28;
const TSS_BYTES: u64 = 104;

const BREAKPOINT: u64 = 3;
const DOUBLE_FAULT: u64 = 8;
/// Bytes from a stack's top to the error code, see the stub's frame.
const FRAME_BYTES: u64 = 48;

/// PG, AM, WP, NE, ET, MP, PE.
const CR0: u64 = 0x8005_0033;
/// PAE, OSFXSR, OSXMMEXCPT.
const CR4: u64 = 0x620;
/// LME, LMA, NXE. Without SCE, `syscall` is an invalid opcode and no second way into ring 0.
const EFER: u64 = 0xd00;

/// Descriptors: null, ring 0 code and data, ring 3 data and code, all flat and marked accessed, so
/// that the CPU need not write to the table.
const DESCRIPTORS: [u64; 5] =
    [0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff, 0x00cf_f300_0000_ffff, 0x00af_fb00_0000_ffff];

/// A system area in place.
#[derive(Clone, Copy, Debug)]
pub(super) struct SystemArea {
    base: u64,
}

impl SystemArea {
    /// Writes the fixed part at `base` and maps it.
    pub(super) fn build(
        ram: &SharedMemory,
        base: u64,
        hypercall_base: u64,
        tables: &mut PageTables<'_>,
    ) -> Result<Self, TableError> {
        ram.clear(base, SYSTEM_FIXED_BYTES as usize)?;
        let area = Self { base };
        area.write_descriptors(ram)?;
        area.write_gates(ram)?;
        ram.write(base + STUB, stub::code())?;
        tables.map(base, base, PAGE, Rights::READ.system())?;
        tables.map(base + STUB, base + STUB, PAGE, Rights::EXECUTE.system())?;
        let report = Rights::WRITE.system().uncached();
        tables.map(base + REPORT, hypercall_base, PAGE, report)?;
        tables.map(base + STACKS, base + STACKS, PAGE, Rights::WRITE.system())?;
        Ok(area)
    }

    fn write_descriptors(self, ram: &SharedMemory) -> Result<(), MemoryError> {
        let base = self.base;
        for (i, descriptor) in (0..).zip(DESCRIPTORS) {
            ram.write(base + GDT + 8 * i, &u64::to_le_bytes(descriptor))?;
        }
        let tss = base + TSS;
        // A present, busy 64-bit TSS, in two slots (Intel SDM vol. 3, 8.2.3).
        let low = (TSS_BYTES - 1) | (tss & 0xff_ffff) << 16 | 0x8b << 40 | (tss >> 24 & 0xff) << 56;
        ram.write(base + GDT + u64::from(TASK), &low.to_le_bytes())?;
        ram.write(base + GDT + u64::from(TASK) + 8, &(tss >> 32).to_le_bytes())?;
        ram.write(tss + 4, &(base + STACK_TOP).to_le_bytes())?; // RSP0
        ram.write(tss + 36, &(base + STACK_TOP).to_le_bytes())?; // IST1
        ram.write(tss + 44, &(base + DOUBLE_FAULT_STACK_TOP).to_le_bytes())?; // IST2
        // An I/O permission map beyond the limit: no port is open.
        ram.write(tss + 102, &(TSS_BYTES as u16).to_le_bytes())
    }

    fn write_gates(self, ram: &SharedMemory) -> Result<(), MemoryError> {
        for vector in 0..stub::VECTORS {
            let entry = self.base + STUB + vector * stub::ENTRY_BYTES;
            let stack = if vector == DOUBLE_FAULT { 2 } else { 1 };
            // A present 64-bit interrupt gate. The program may raise a breakpoint and nothing else.
            let kind = if vector == BREAKPOINT { 0xee } else { 0x8e };
            let low = entry & 0xffff
                | u64::from(KERNEL_CODE) << 16
                | stack << 32
                | kind << 40
                | (entry >> 16 & 0xffff) << 48;
            ram.write(self.base + IDT + 16 * vector, &low.to_le_bytes())?;
            ram.write(self.base + IDT + 16 * vector + 8, &(entry >> 32).to_le_bytes())?;
        }
        Ok(())
    }

    /// Fills in what makes a vCPU run at CPL 3 on this area and the tables at `root`.
    pub(super) fn start_state(self, root: u64, sregs: &mut kvm_sregs) {
        sregs.cr0 = CR0;
        sregs.cr3 = root;
        sregs.cr4 = CR4;
        sregs.efer = EFER;
        sregs.gdt = table(self.base + GDT, u64::from(TASK) + 16);
        sregs.idt = table(self.base + IDT, 16 * stub::VECTORS);
        sregs.tr = kvm_segment {
            base: self.base + TSS,
            limit: TSS_BYTES as u32 - 1,
            selector: TASK,
            type_: 11,
            present: 1,
            ..Default::default()
        };
        sregs.ldt = kvm_segment { unusable: 1, ..Default::default() };
        user_segments(sregs);
    }

    /// The registers that the CPU pushed for `vector`, and the error code; `None` if there is no
    /// frame, because a program stored to the hypercall page what only the stub should.
    pub(super) fn frame(self, ram: &SharedMemory, vector: u32) -> Option<CrashRecord> {
        let vector = u8::try_from(vector).ok()?;
        let mut frame = [0; FRAME_BYTES as usize];
        ram.read(self.frame_address(vector), &mut frame).ok()?;
        let word = |i: usize| u64::from_le_bytes(std::array::from_fn(|k| frame[8 * i + k]));
        let code_segment = word(2) as u16;
        if ![KERNEL_CODE, USER_CODE].contains(&code_segment) {
            return None;
        }
        let registers =
            Registers { rip: word(1), rflags: word(3), rsp: word(4), general: Default::default() };
        Some(CrashRecord { vector, error_code: word(0), cr2: 0, registers })
    }

    /// Makes a frame that has been dealt with unreadable.
    pub(super) fn clear_frames(self, ram: &SharedMemory) -> Result<(), MemoryError> {
        ram.clear(self.base + STACK_TOP - FRAME_BYTES, FRAME_BYTES as usize)?;
        ram.clear(self.base + DOUBLE_FAULT_STACK_TOP - FRAME_BYTES, FRAME_BYTES as usize)
    }

    fn frame_address(self, vector: u8) -> u64 {
        let double = u64::from(vector) == DOUBLE_FAULT;
        let top = if double { DOUBLE_FAULT_STACK_TOP } else { STACK_TOP };
        self.base + top - FRAME_BYTES
    }

    /// Guest-physical address of the gate of a vector.
    #[cfg(test)]
    pub(super) fn gate(self, vector: u64) -> u64 {
        self.base + IDT + 16 * vector
    }
}

/// Code and data segments of CPL 3.
pub(super) fn user_segments(sregs: &mut kvm_sregs) {
    let data = kvm_segment {
        limit: u32::MAX,
        selector: USER_DATA,
        type_: 3,
        present: 1,
        dpl: 3,
        db: 1,
        s: 1,
        g: 1,
        ..Default::default()
    };
    sregs.cs = kvm_segment { selector: USER_CODE, type_: 11, db: 0, l: 1, ..data };
    sregs.ss = data;
    (sregs.ds, sregs.es, sregs.fs, sregs.gs) = (data, data, data, data);
}

fn table(base: u64, bytes: u64) -> kvm_dtable {
    kvm_dtable { base, limit: bytes as u16 - 1, ..Default::default() }
}

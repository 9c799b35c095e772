//! The breakpoint instruction, by which injections and debuggers stop the program.

use crate::kvm::CrashRecord;

/// The one-byte instruction that raises exception 3.
pub(super) const INT3: u8 = 0xcc;
const BREAKPOINT: u8 = 3;

/// Guest address of the `int3` that raised this exception; `None` if it is another exception. The
/// CPU itself reports the address behind the instruction.
pub(super) fn address_of_int3(record: &CrashRecord) -> Option<u64> {
    (record.vector == BREAKPOINT).then(|| record.registers.rip.wrapping_sub(1))
}

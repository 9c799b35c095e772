//! What ring 0 of a micro-VM runs: one entry for each of the 32 CPU exceptions.
//!
//! The code is assembled into the VMM's read-only data and copied into a page of the guest. It is
//! position independent: the page behind it is the [`REPORT_OFFSET`] alias of the hypercall page.
//! An entry makes the frame uniform, stores its vector and so leaves to the VMM, which never
//! returns into it; were it to, the entry halts for good. No register is changed.
//!
//! ```text
//! frame, from the stack's top down    SS  RSP  RFLAGS  CS  RIP  error code   <- RSP
//! ```

/// Bytes from one vector's entry to the next.
pub(super) const ENTRY_BYTES: u64 = 16;
/// Number of exception vectors.
pub(super) const VECTORS: u64 = 32;
/// Bytes from the stub to its own mapping of the hypercall page.
pub(super) const REPORT_OFFSET: u64 = 4096;

// Vectors 8, 10-14, 17, 21, 29 and 30 come with an error code (Intel SDM vol. 3, table 6-1; AMD APM
// vol. 2, 8.2); for the others a zero takes its place.
std::arch::global_asm!(
    ".pushsection .rodata.warmspare_stub, \"a\"",
    ".balign 16",
    ".globl warmspare_stub_start",
    ".globl warmspare_stub_end",
    "warmspare_stub_start:",
    ".set .Lvector, 0",
    ".rept {vectors}",
    ".balign 16, 0xcc",
    ".if (0x60227d00 >> .Lvector) & 1",
    ".else",
    "push 0",
    ".endif",
    "mov dword ptr [rip + warmspare_stub_start + {report}], .Lvector",
    "3: hlt",
    "jmp 3b",
    ".set .Lvector, .Lvector + 1",
    ".endr",
    ".balign 16, 0xcc",
    "warmspare_stub_end:",
    ".popsection",
    vectors = const VECTORS,
    report = const REPORT_OFFSET + shared_ring::hypercall::offset::EXCEPTION,
);

unsafe extern "C" {
    static warmspare_stub_start: u8;
    static warmspare_stub_end: u8;
}

/// The code.
pub(super) fn code() -> &'static [u8] {
    // SAFETY: both symbols bound one block of read-only data, assembled above.
    unsafe {
        let (start, end) = (&raw const warmspare_stub_start, &raw const warmspare_stub_end);
        std::slice::from_raw_parts(start, end.addr() - start.addr())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HAVE_ERROR_CODE: [u64; 10] = [8, 10, 11, 12, 13, 14, 17, 21, 29, 30];

    #[test]
    fn every_vector_has_its_entry() {
        let code = code();

        assert_eq!(code.len() as u64, VECTORS * ENTRY_BYTES);
        for vector in 0..VECTORS {
            let entry = &code[(vector * ENTRY_BYTES) as usize..][..ENTRY_BYTES as usize];
            let pushes_zero = entry.starts_with(&[0x6a, 0x00]);
            assert_eq!(pushes_zero, !HAVE_ERROR_CODE.contains(&vector), "vector {vector}");
            let store = if pushes_zero { &entry[2..12] } else { &entry[..10] };
            assert_eq!(&store[..2], [0xc7, 0x05], "a RIP-relative store, vector {vector}");
            assert_eq!(u64::from(store[6]), vector);
        }
    }

    #[test]
    fn entries_store_to_the_alias_of_the_hypercall_page() {
        let code = code();
        let displacement = i64::from(i32::from_le_bytes([code[4], code[5], code[6], code[7]]));

        let after_store = 12;
        let target = after_store + displacement;

        let expected = REPORT_OFFSET + shared_ring::hypercall::offset::EXCEPTION;
        assert_eq!(target, expected as i64);
    }
}

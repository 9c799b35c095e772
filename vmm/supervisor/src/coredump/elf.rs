//! An ELF core file for x86-64: header, program headers, notes, memory.
//!
//! ```text
//!  0       ELF header
//!  64      program headers: PT_NOTE, then a PT_LOAD for each area
//!  ...     notes
//!  4096·n  memory, each area on page boundaries; pages of zeroes are holes in the file
//! ```

use std::io::{self, Seek, SeekFrom, Write};

const HEADER_BYTES: u64 = 64;
const PROGRAM_HEADER_BYTES: u64 = 56;
const PAGE: u64 = 4096;

const ET_CORE: u16 = 4;
const EM_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;

/// Access rights of an area, as program headers encode them.
pub(super) mod flags {
    pub(in crate::coredump) const EXECUTE: u32 = 1;
    pub(in crate::coredump) const WRITE: u32 = 2;
    pub(in crate::coredump) const READ: u32 = 4;
}

/// A contiguous part of a domain's memory.
#[derive(Clone, Debug)]
pub(super) struct Area {
    /// Guest address of the first byte; physical and virtual addresses are the same.
    pub(super) address: u64,
    /// See [`flags`].
    pub(super) rights: u32,
    pub(super) bytes: Vec<u8>,
}

/// Writes a core file.
///
/// # Errors
/// The file cannot be written.
pub(super) fn write(to: &mut (impl Write + Seek), notes: &[u8], areas: &[Area]) -> io::Result<()> {
    let headers = areas.len() as u64 + 1;
    let notes_at = HEADER_BYTES + headers * PROGRAM_HEADER_BYTES;
    let mut at = (notes_at + notes.len() as u64).next_multiple_of(PAGE);
    let mut head = file_header(headers as u16);
    let segment = Segment { offset: notes_at, address: 0, len: notes.len() as u64, align: 4 };
    program_header(&mut head, PT_NOTE, 0, &segment);
    for area in areas {
        let len = area.bytes.len() as u64;
        let segment = Segment { offset: at, address: area.address, len, align: PAGE };
        program_header(&mut head, PT_LOAD, area.rights, &segment);
        at = (at + len).next_multiple_of(PAGE);
    }
    to.write_all(&head)?;
    to.write_all(notes)?;
    let mut at = notes_at + notes.len() as u64;
    for area in areas {
        at = at.next_multiple_of(PAGE);
        write_sparse(to, at, &area.bytes)?;
        at += area.bytes.len() as u64;
    }
    // The last page may be a hole; writing its last byte gives the file its length.
    if areas.last().is_some_and(|area| area.bytes.last() == Some(&0)) {
        to.seek(SeekFrom::Start(at - 1))?;
        to.write_all(&[0])?;
    }
    to.flush()
}

/// Writes the pages that are not all zero.
fn write_sparse(to: &mut (impl Write + Seek), at: u64, bytes: &[u8]) -> io::Result<()> {
    let mut position = None;
    for (page, at) in bytes.chunks(PAGE as usize).zip((at..).step_by(PAGE as usize)) {
        if page.iter().all(|byte| *byte == 0) {
            continue;
        }
        if position != Some(at) {
            to.seek(SeekFrom::Start(at))?;
        }
        to.write_all(page)?;
        position = Some(at + page.len() as u64);
    }
    Ok(())
}

fn file_header(program_headers: u16) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    // Class 64, little-endian, version 1, System V.
    out.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    out.extend(ET_CORE.to_le_bytes());
    out.extend(EM_X86_64.to_le_bytes());
    out.extend(1u32.to_le_bytes());
    out.extend(0u64.to_le_bytes()); // entry
    out.extend(HEADER_BYTES.to_le_bytes()); // program headers
    out.extend(0u64.to_le_bytes()); // section headers
    out.extend(0u32.to_le_bytes()); // flags
    out.extend((HEADER_BYTES as u16).to_le_bytes());
    out.extend((PROGRAM_HEADER_BYTES as u16).to_le_bytes());
    out.extend(program_headers.to_le_bytes());
    out.extend([0; 6]); // section header size, number, names
    out
}

/// Where a segment lies.
struct Segment {
    /// Offset in the file.
    offset: u64,
    /// Guest address.
    address: u64,
    /// Bytes.
    len: u64,
    align: u64,
}

fn program_header(out: &mut Vec<u8>, kind: u32, rights: u32, segment: &Segment) {
    let Segment { offset, address, len, align } = *segment;
    let in_memory = if kind == PT_LOAD { len } else { 0 };
    out.extend(kind.to_le_bytes());
    out.extend(rights.to_le_bytes());
    for word in [offset, address, address, len, in_memory, align] {
        out.extend(word.to_le_bytes());
    }
}

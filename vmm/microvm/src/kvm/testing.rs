//! Tiny guests for tests: assembled here, wrapped into ELF files made by hand.

use std::sync::Arc;

use shared_ring::abi::{ImageKind, ImageNote, NOTE_SECTION};
use shared_ring::layout;

use super::{Image, Mapping, MicroVm, MicroVmConfig, Protection, VmError};
use platform::memory::SharedMemory;

/// Rights of a segment in a hand-made ELF file.
pub(crate) const R: u32 = 4;
pub(crate) const W: u32 = 2;
pub(crate) const X: u32 = 1;

/// A segment of a hand-made ELF file.
pub(crate) struct Part<'a> {
    pub(crate) address: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) rights: u32,
    pub(crate) data: &'a [u8],
}

/// A hand-made ELF file.
pub(crate) struct ElfFile<'a> {
    pub(crate) entry: u64,
    pub(crate) parts: &'a [Part<'a>],
    pub(crate) note: Option<ImageNote>,
    pub(crate) functions: &'a [(&'a str, u64, u64)],
}

impl ElfFile<'_> {
    /// The bytes: header, program headers, contents, section headers.
    pub(crate) fn build(&self) -> Vec<u8> {
        let mut out = vec![0; 64 + 56 * self.parts.len()];
        for (i, part) in self.parts.iter().enumerate() {
            let offset = out.len() as u64;
            out.extend_from_slice(part.data);
            let header = &mut out[64 + 56 * i..][..56];
            header[..4].copy_from_slice(&1u32.to_le_bytes());
            header[4..8].copy_from_slice(&part.rights.to_le_bytes());
            let (file, memory) = (part.data.len() as u64, part.memory_bytes);
            let words = [offset, part.address, part.address, file, memory, 4096];
            for (k, word) in words.into_iter().enumerate() {
                header[8 + 8 * k..][..8].copy_from_slice(&word.to_le_bytes());
            }
        }
        let sections = self.sections(&mut out);
        let table = out.len() as u64;
        for section in &sections {
            out.extend_from_slice(section);
        }
        self.header(&mut out, table, sections.len() as u16);
        out
    }

    fn header(&self, out: &mut [u8], section_table: u64, sections: u16) {
        out[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1]);
        out[16..18].copy_from_slice(&2u16.to_le_bytes());
        out[18..20].copy_from_slice(&62u16.to_le_bytes());
        out[20..24].copy_from_slice(&1u32.to_le_bytes());
        out[24..32].copy_from_slice(&self.entry.to_le_bytes());
        out[32..40].copy_from_slice(&64u64.to_le_bytes());
        out[40..48].copy_from_slice(&section_table.to_le_bytes());
        let halves = [64, 56, self.parts.len() as u16, 64, sections, sections - 1];
        for (i, half) in halves.into_iter().enumerate() {
            out[52 + 2 * i..][..2].copy_from_slice(&half.to_le_bytes());
        }
    }

    /// Null, note, symbols, symbol names, section names.
    fn sections(&self, out: &mut Vec<u8>) -> Vec<[u8; 64]> {
        let mut names = vec![0];
        let mut sections = vec![[0; 64]];
        let mut section =
            |out: &mut Vec<u8>, name: &str, kind: u32, link: u32, entry: u64, data: &[u8]| {
                let mut header = [0; 64];
                header[..4].copy_from_slice(&(names.len() as u32).to_le_bytes());
                names.extend_from_slice(name.as_bytes());
                names.push(0);
                // The last section is that of the names themselves.
                let data = if data.is_empty() { names.clone() } else { data.to_vec() };
                header[4..8].copy_from_slice(&kind.to_le_bytes());
                header[24..32].copy_from_slice(&(out.len() as u64).to_le_bytes());
                header[32..40].copy_from_slice(&(data.len() as u64).to_le_bytes());
                header[40..44].copy_from_slice(&link.to_le_bytes());
                header[56..64].copy_from_slice(&entry.to_le_bytes());
                out.extend_from_slice(&data);
                sections.push(header);
            };
        if let Some(n) = self.note {
            let words = [n.magic, n.abi_version, n.kind, n.reserved].map(u32::to_le_bytes);
            section(out, NOTE_SECTION, 1, 0, 0, words.as_flattened());
        }
        let (mut symbols, mut strings) = (vec![0; 24], vec![0]);
        for (name, address, len) in self.functions {
            symbols.extend_from_slice(&(strings.len() as u32).to_le_bytes());
            symbols.extend_from_slice(&[0x12, 0, 1, 0]);
            symbols.extend_from_slice(&address.to_le_bytes());
            symbols.extend_from_slice(&len.to_le_bytes());
            strings.extend_from_slice(name.as_bytes());
            strings.push(0);
        }
        let strings_index = if self.note.is_some() { 3 } else { 2 };
        section(out, ".symtab", 2, strings_index, 24, &symbols);
        section(out, ".strtab", 3, 0, 0, &strings);
        section(out, ".shstrtab", 3, 0, 0, &[]);
        sections
    }
}

/// Declares test guests: each a block of 64-bit code, position independent.
///
/// `HYPERCALL`, `BAR` and the like are put in by the caller through constants of [`layout`].
macro_rules! guest {
    ($name:ident, $($line:expr),+ $(,)?) => {
        std::arch::global_asm!(
            ".pushsection .rodata.warmspare_test_guest, \"a\"",
            concat!(".globl warmspare_test_", stringify!($name)),
            concat!(".globl warmspare_test_", stringify!($name), "_end"),
            concat!("warmspare_test_", stringify!($name), ":"),
            $($line,)+
            concat!("warmspare_test_", stringify!($name), "_end:"),
            ".popsection",
        );

        pub(crate) fn $name() -> &'static [u8] {
            unsafe extern "C" {
                #[link_name = concat!("warmspare_test_", stringify!($name))]
                static START: u8;
                #[link_name = concat!("warmspare_test_", stringify!($name), "_end")]
                static END: u8;
            }
            // SAFETY: the labels bound one block of read-only data, assembled above.
            unsafe {
                let (start, end) = (&raw const START, &raw const END);
                std::slice::from_raw_parts(start, end.addr() - start.addr())
            }
        }
    };
}
pub(crate) use guest;

/// Where test guests have a writable data page.
pub(crate) const DATA: u64 = layout::IMAGE_BASE + 0x2000;

/// A domain image around `code`, with a page of read-only and one of writable data.
pub(crate) fn image_bytes(code: &[u8], note: Option<ImageNote>) -> Vec<u8> {
    let text = layout::IMAGE_BASE;
    let part = |address, memory_bytes, rights, data| Part { address, memory_bytes, rights, data };
    let len = code.len() as u64;
    ElfFile {
        entry: text,
        parts: &[
            part(text, len, R | X, code),
            part(text + 0x1000, 8, R, &[0x5a; 8]),
            part(DATA, 0x1000, R | W, &[0xa5; 8]),
        ],
        note,
        functions: &[("start", text, len)],
    }
    .build()
}

/// The image that [`image_bytes`] makes, with a good note.
pub(crate) fn image(code: &[u8]) -> Image {
    Image::parse(&image_bytes(code, Some(ImageNote::of(ImageKind::Driver)))).unwrap()
}

/// A machine with the memory map of a domain and one BAR page.
pub(crate) fn machine(code: &[u8]) -> (MicroVm, Arc<SharedMemory>) {
    let ram = Arc::new(SharedMemory::new(c"test", layout::RAM_BYTES).unwrap());
    (machine_on(&ram, code).unwrap(), ram)
}

/// The same on given memory.
pub(crate) fn machine_on(ram: &Arc<SharedMemory>, code: &[u8]) -> Result<MicroVm, VmError> {
    build(ram, code, &[], layout::SYSTEM_BYTES)
}

/// A machine with more mappings, or another size of system area.
pub(crate) fn machine_with(more: &[Mapping], system_bytes: u64) -> Result<MicroVm, VmError> {
    let ram = Arc::new(SharedMemory::new(c"test", layout::RAM_BYTES).unwrap());
    build(&ram, &[0x0f, 0x0b], more, system_bytes)
}

fn build(
    ram: &Arc<SharedMemory>,
    code: &[u8],
    more: &[Mapping],
    system_bytes: u64,
) -> Result<MicroVm, VmError> {
    let mapping =
        |address, len, protection, uncached| Mapping { address, len, protection, uncached };
    let stack = layout::STACK_TOP - layout::STACK_BASE;
    let mut mappings = vec![
        mapping(layout::STACK_BASE, stack, Protection::ReadWrite, false),
        mapping(layout::CONTROL_BASE, 4096, Protection::ReadOnly, false),
        mapping(layout::STATUS_BASE, 4096, Protection::ReadWrite, false),
        mapping(layout::BAR_BASE, 4096, Protection::ReadWrite, true),
    ];
    mappings.extend_from_slice(more);
    MicroVm::new(&MicroVmConfig {
        ram: ram.clone(),
        system_base: layout::SYSTEM_BASE,
        system_bytes,
        image: &image(code),
        mappings: &mappings,
        slots: &[],
        stack_top: layout::STACK_TOP,
        hypercall_base: layout::HYPERCALL_BASE,
        arguments: [11, 22],
    })
}

//! Guest images: static ELF executables for x86-64, checked and taken apart.
//!
//! An image is built by us, yet parsed as if it were not: whatever the bytes are, the answer is an
//! [`Image`] whose segments are whole, or an [`ImageError`].

use object::elf::{EM_X86_64, ET_EXEC, PF_R, PF_W, PF_X, PT_LOAD, STT_FUNC, STT_OBJECT};
use object::read::elf::{ElfFile64, FileHeader, ProgramHeader};
use object::{LittleEndian, Object, ObjectSection, ObjectSymbol, SymbolFlags};
use shared_ring::abi::{ImageNote, NOTE_SECTION};

type Elf<'a> = ElfFile64<'a, LittleEndian>;

/// Most bytes of memory that a segment may take; guards the additions that follow.
const MAX_SEGMENT_BYTES: u64 = 1 << 30;

/// Why bytes are not an image.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Not ELF, or damaged.
    #[error("not a readable ELF file")]
    Elf(#[from] object::read::Error),
    /// ELF of another kind.
    #[error("not a static x86-64 executable")]
    Kind,
    /// Nothing to load.
    #[error("the image has nothing to load")]
    Empty,
    /// A segment that cannot be.
    #[error("segment at {address:#x}: {what}")]
    Segment {
        /// Where it wants to lie.
        address: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The program does not start in its own text.
    #[error("the entry point {entry:#x} is not in executable memory")]
    Entry {
        /// Where it wants to start.
        entry: u64,
    },
}

/// Rights of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentProtection {
    /// R-X: text.
    ReadExecute,
    /// R--: read-only data.
    ReadOnly,
    /// RW-: data and bss.
    ReadWrite,
}

/// A part of an image that is to be in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Guest address of its first byte.
    pub address: u64,
    /// Bytes it takes in memory; those past `data` are zero.
    pub len: u64,
    /// Its rights.
    pub protection: SegmentProtection,
    /// Its bytes in the file.
    pub data: Vec<u8>,
}

/// A function or variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// Guest address of its first byte.
    pub address: u64,
    /// Bytes.
    pub len: u64,
}

#[derive(Debug)]
struct NamedSymbol {
    name: String,
    symbol: Symbol,
}

/// A guest program.
#[derive(Debug)]
pub struct Image {
    entry: u64,
    segments: Vec<Segment>,
    /// By address.
    symbols: Vec<NamedSymbol>,
    note: Option<ImageNote>,
    build_id: Vec<u8>,
    /// The whole file, for debuggers.
    file: Vec<u8>,
}

impl Image {
    /// Takes an ELF file apart.
    ///
    /// # Errors
    /// It is not a static x86-64 executable, or not a sound one.
    pub fn parse(bytes: &[u8]) -> Result<Self, ImageError> {
        let elf = Elf::parse(bytes)?;
        let header = elf.elf_header();
        let endian = elf.endian();
        if header.e_machine(endian) != EM_X86_64 || header.e_type(endian) != ET_EXEC {
            return Err(ImageError::Kind);
        }
        let segments = segments(&elf)?;
        let entry = elf.entry();
        let in_text = |s: &Segment| {
            s.protection == SegmentProtection::ReadExecute
                && (s.address..s.address + s.len).contains(&entry)
        };
        if !segments.iter().any(in_text) {
            return Err(ImageError::Entry { entry });
        }
        Ok(Self {
            entry,
            segments,
            symbols: symbols(&elf),
            note: note(&elf),
            build_id: build_id(&elf).unwrap_or_default(),
            file: bytes.to_vec(),
        })
    }

    /// Address of the first instruction.
    pub fn entry(&self) -> u64 {
        self.entry
    }

    /// What is to be in memory, in order of address, without overlaps.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The function or variable with this name.
    pub fn symbol(&self, name: &str) -> Option<Symbol> {
        self.symbols.iter().find(|s| s.name == name).map(|s| s.symbol)
    }

    /// The function or variable that an address lies in, and how far into it, in bytes.
    pub fn symbol_at(&self, address: u64) -> Option<(&str, u64)> {
        let after = self.symbols.partition_point(|s| s.symbol.address <= address);
        let NamedSymbol { name, symbol } = self.symbols[..after].last()?;
        let offset = address - symbol.address;
        (offset < symbol.len.max(1)).then_some((name.as_str(), offset))
    }

    /// What the image says of itself, if it is a domain's.
    pub fn note(&self) -> Option<ImageNote> {
        self.note
    }

    /// The linker's digest of the program; empty if it made none.
    pub fn build_id(&self) -> &[u8] {
        &self.build_id
    }

    /// The ELF file, with symbols and debug information.
    pub fn file(&self) -> &[u8] {
        &self.file
    }
}

fn segments(elf: &Elf<'_>) -> Result<Vec<Segment>, ImageError> {
    let endian = elf.endian();
    let mut segments = Vec::new();
    for header in elf.elf_program_headers() {
        if header.p_type(endian) == PT_LOAD && header.p_memsz(endian) > 0 {
            segments.push(segment(elf, header)?);
        }
    }
    segments.sort_by_key(|s| s.address);
    for pair in segments.windows(2) {
        if pair[0].address + pair[0].len > pair[1].address {
            let address = pair[1].address;
            return Err(ImageError::Segment { address, what: "overlaps another one" });
        }
    }
    if segments.is_empty() { Err(ImageError::Empty) } else { Ok(segments) }
}

fn segment(
    elf: &Elf<'_>,
    header: &object::elf::ProgramHeader64<LittleEndian>,
) -> Result<Segment, ImageError> {
    let endian = elf.endian();
    let address = header.p_vaddr(endian);
    let len = header.p_memsz(endian);
    let wrong = |what| ImageError::Segment { address, what };
    if len > MAX_SEGMENT_BYTES || address.checked_add(len).is_none() {
        return Err(wrong("impossibly large"));
    }
    if header.p_filesz(endian) > len {
        return Err(wrong("more bytes in the file than in memory"));
    }
    let rights = header.p_flags(endian) & (PF_R | PF_W | PF_X);
    let protection = if rights == PF_R | PF_X {
        SegmentProtection::ReadExecute
    } else if rights == PF_R {
        SegmentProtection::ReadOnly
    } else if rights == PF_R | PF_W {
        SegmentProtection::ReadWrite
    } else {
        return Err(wrong("rights other than R-X, R-- and RW-"));
    };
    let data = header.data(endian, elf.data()).map_err(|()| wrong("outside the file"))?.to_vec();
    Ok(Segment { address, len, protection, data })
}

fn symbols(elf: &Elf<'_>) -> Vec<NamedSymbol> {
    let named = |symbol: object::read::elf::ElfSymbol<'_, '_, _>| {
        let SymbolFlags::Elf { st_info, .. } = symbol.flags() else { return None };
        if ![STT_FUNC, STT_OBJECT].contains(&st_info.st_type()) {
            return None;
        }
        let name = symbol.name().ok()?.to_owned();
        Some(NamedSymbol { name, symbol: Symbol { address: symbol.address(), len: symbol.size() } })
    };
    let mut symbols: Vec<_> = elf.symbols().filter_map(named).collect();
    symbols.sort_by_key(|s| s.symbol.address);
    symbols
}

/// Content of the note that the linker makes. Its section is read by name: among the other notes is
/// ours, which has no name and no length.
fn build_id(elf: &Elf<'_>) -> Option<Vec<u8>> {
    /// Lengths, type, and the name "GNU".
    const HEADER_BYTES: usize = 16;
    let note = elf.section_by_name(".note.gnu.build-id")?.data().ok()?;
    Some(note.get(HEADER_BYTES..)?.to_vec())
}

fn note(elf: &Elf<'_>) -> Option<ImageNote> {
    ImageNote::parse(elf.section_by_name(NOTE_SECTION)?.data().ok()?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use shared_ring::abi::ImageKind;

    use super::*;
    use crate::kvm::testing::{ElfFile, Part, R, W, X};

    const TEXT: u64 = 0x4_0000;

    fn part(address: u64, memory_bytes: u64, rights: u32, data: &[u8]) -> Part<'_> {
        Part { address, memory_bytes, rights, data }
    }

    fn file(entry: u64, parts: &[Part<'_>]) -> Vec<u8> {
        let note = Some(ImageNote::of(ImageKind::Spare));
        ElfFile { entry, parts, note, functions: &[("late", TEXT + 2, 2), ("early", TEXT, 2)] }
            .build()
    }

    #[test]
    fn an_image_is_taken_apart() {
        let data = part(TEXT + 0x1000, 0x2000, R | W, &[7, 8]);
        let text = part(TEXT, 4, R | X, &[1, 2, 3, 4]);
        let image = Image::parse(&file(TEXT + 1, &[data, text])).unwrap();

        assert_eq!(
            (image.entry(), image.note()),
            (TEXT + 1, Some(ImageNote::of(ImageKind::Spare)))
        );
        let [text, data] = image.segments() else { panic!("two segments, by address") };
        assert_eq!((text.address, text.protection), (TEXT, SegmentProtection::ReadExecute));
        assert_eq!((data.len, data.protection), (0x2000, SegmentProtection::ReadWrite));
        assert_eq!((&text.data[..], &data.data[..]), (&[1, 2, 3, 4][..], &[7, 8][..]));
        assert_eq!(image.symbol("late"), Some(Symbol { address: TEXT + 2, len: 2 }));
        assert_eq!(image.symbol("never"), None);
        assert_eq!(image.symbol_at(TEXT + 3), Some(("late", 1)));
        assert_eq!(image.symbol_at(TEXT + 1), Some(("early", 1)));
        assert_eq!((image.symbol_at(TEXT - 1), image.symbol_at(TEXT + 4)), (None, None));
    }

    #[test]
    fn unsound_images_are_refused() {
        let parse = |entry, parts: &[Part<'_>]| Image::parse(&file(entry, parts)).unwrap_err();
        let text = || part(TEXT, 4, R | X, &[0x90; 4]);

        assert!(matches!(Image::parse(b"no ELF at all"), Err(ImageError::Elf(_))));
        assert!(matches!(parse(TEXT, &[]), ImageError::Empty));
        assert!(matches!(parse(TEXT + 4, &[text()]), ImageError::Entry { .. }));
        let data = part(TEXT, 4, R | W, &[0x90; 4]);
        assert!(matches!(parse(TEXT, &[data]), ImageError::Entry { entry: TEXT }));
        for (address, len, rights) in [
            (TEXT + 2, 4, R | W),
            (TEXT + 0x1000, 4, R | W | X),
            (TEXT + 0x1000, 1 << 40, R),
            (u64::MAX - 2, 8, R),
        ] {
            let error = parse(TEXT, &[text(), part(address, len, rights, &[])]);
            assert!(matches!(error, ImageError::Segment { .. }), "{error}");
        }
        let error = parse(TEXT, &[part(TEXT, 2, R | X, &[0x90; 4])]);
        assert!(matches!(error, ImageError::Segment { address: TEXT, .. }), "{error}");
    }

    proptest! {
        #[test]
        fn damaged_files_are_images_or_errors(
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
            keep in any::<prop::sample::Index>(),
        ) {
            let mut bytes = file(TEXT, &[part(TEXT, 4, R | X, &[0x90; 4]), part(0, 9, R, &[1])]);
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes.truncate(keep.index(4 * bytes.len()).max(64));
            if let Ok(image) = Image::parse(&bytes) {
                for segment in image.segments() {
                    prop_assert!(segment.data.len() as u64 <= segment.len);
                }
                image.symbol_at(TEXT);
            }
        }
    }
}

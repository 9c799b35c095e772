//! The driver's image as an injector sees it: instructions, functions, source lines.

use std::sync::{Mutex, PoisonError};

use addr2line::Context;
use addr2line::gimli::{Dwarf, EndianSlice, LittleEndian};
use iced_x86::{Decoder, DecoderOptions, Instruction};
use object::read::elf::ElfFile64;
use object::{Object, ObjectSection};

use super::kinds::FaultSegment;
use microvm::kvm::{Image, ImageError, SegmentProtection};

type Lines = Context<EndianSlice<'static, LittleEndian>>;

/// Why an image cannot be a target.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The file is no image of a domain.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The image has no such function.
    #[error("the driver's image has no function `{0}`: see its symbol table (`warmspare image`)")]
    NoFunction(String),
}

/// An instruction of the driver.
#[derive(Clone, Copy, Debug)]
pub struct Code {
    /// The decoded instruction.
    pub instruction: Instruction,
    /// Offset of the instruction in the text.
    offset: usize,
}

impl Code {
    /// Address of the instruction.
    pub fn address(&self) -> u64 {
        self.instruction.ip()
    }
}

/// A stretch of guest-physical memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemoryRange {
    /// Address of its first byte.
    pub(crate) address: u64,
    /// Bytes.
    pub(crate) len: u64,
}

/// A function of the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// The name in the symbol table.
    pub symbol: String,
    /// The name for people.
    pub name: String,
    /// Address of its first byte.
    pub address: u64,
    /// Bytes.
    pub len: u64,
}

/// The driver's image, disassembled.
pub struct Target {
    image: Image,
    text_base: u64,
    text: Vec<u8>,
    code: Vec<Code>,
    functions: Vec<Function>,
    /// The line table, read lazily, which changes it: hence the mutex.
    lines: Mutex<Option<Lines>>,
}

impl Target {
    /// Disassembles an image. The file's bytes live as long as the program.
    ///
    /// # Errors
    /// The file is no image of a domain.
    pub fn new(bytes: &'static [u8]) -> Result<Self, TargetError> {
        let image = Image::parse(bytes)?;
        let text = image.segments().iter().find(|s| s.protection == SegmentProtection::ReadExecute);
        let (text_base, text) =
            text.map_or((0, Vec::new()), |segment| (segment.address, segment.data.clone()));
        let functions = functions(&image, text_base, text.len() as u64);
        let code = functions.iter().flat_map(|f| decode(&text, text_base, f)).collect();
        Ok(Self { image, text_base, text, code, functions, lines: Mutex::new(lines(bytes)) })
    }

    /// The image.
    pub(crate) fn image(&self) -> &Image {
        &self.image
    }

    /// The image's build id, in hexadecimal.
    pub(crate) fn build_id(&self) -> String {
        hex(self.image.build_id())
    }

    /// Bytes of the driver's text.
    pub(crate) fn text_bytes(&self) -> u64 {
        self.text.len() as u64
    }

    /// The functions, by address, without overlaps.
    pub fn functions(&self) -> &[Function] {
        &self.functions
    }

    /// The function that an address lies in.
    pub(crate) fn function_at(&self, address: u64) -> Option<&Function> {
        let after = self.functions.partition_point(|f| f.address <= address);
        self.functions[..after].last().filter(|f| address < f.address + f.len)
    }

    /// The function of this name, in the symbol table or as people write it.
    ///
    /// # Errors
    /// The image has no such function.
    pub fn function(&self, name: &str) -> Result<&Function, TargetError> {
        let found = self.functions.iter().find(|f| f.symbol == name || f.name == name);
        found.ok_or_else(|| TargetError::NoFunction(name.into()))
    }

    /// All instructions of these functions; with `None`, of all functions.
    pub fn code_of(&self, functions: Option<&[Function]>) -> Vec<Code> {
        let within = |code: &&Code| match functions {
            None => true,
            Some(chosen) => {
                chosen.iter().any(|f| (f.address..f.address + f.len).contains(&code.address()))
            }
        };
        self.code.iter().filter(within).copied().collect()
    }

    /// The instruction at an address.
    pub fn code_at(&self, address: u64) -> Option<Code> {
        let found = self.code.binary_search_by_key(&address, Code::address).ok()?;
        self.code.get(found).copied()
    }

    /// The instruction that precedes another one in the image.
    pub(crate) fn code_before(&self, code: &Code) -> Option<Code> {
        let found = self.code.binary_search_by_key(&code.address(), Code::address).ok()?;
        self.code.get(found.checked_sub(1)?).copied()
    }

    /// The bytes of an instruction.
    pub fn bytes(&self, code: &Code) -> &[u8] {
        self.text.get(code.offset..code.offset + code.instruction.len()).unwrap_or_default()
    }

    /// An instruction for people: mnemonic and bytes.
    pub(crate) fn describe(&self, code: &Code) -> String {
        let mnemonic = format!("{:?}", code.instruction.mnemonic()).to_lowercase();
        format!("{mnemonic} [{}]", hex(self.bytes(code)))
    }

    /// `function+0x12`, and the function.
    pub(crate) fn symbol(&self, address: u64) -> Option<(String, String)> {
        let function = self.function_at(address)?;
        let offset = address - function.address;
        Some((format!("{}+{offset:#x}", function.name), function.name.clone()))
    }

    /// `file:line` of an address, if the line table knows it.
    pub(crate) fn source(&self, address: u64) -> Option<String> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let location = lines.as_ref()?.find_location(address).ok()??;
        let file = location.file?;
        // Relative to the workspace: the folder in which it was built must not show.
        let known = ["driver-domain/", "spare-domain/", "shared-ring/", "library/"];
        let start = known.iter().filter_map(|folder| file.find(folder)).min();
        let file = start.map_or(file, |start| &file[start..]);
        Some(format!("{file}:{}", location.line?))
    }

    /// Where a segment of the image lies; nothing for a segment that the image does not hold.
    pub(crate) fn segment(&self, segment: FaultSegment) -> Vec<MemoryRange> {
        let of = |protection: SegmentProtection| {
            self.image.segments().iter().filter(move |s| s.protection == protection)
        };
        let range = |address, len| MemoryRange { address, len };
        match segment {
            FaultSegment::Text => vec![range(self.text_base, self.text_bytes())],
            FaultSegment::Rodata => {
                of(SegmentProtection::ReadOnly).map(|s| range(s.address, s.len)).collect()
            }
            FaultSegment::Data => of(SegmentProtection::ReadWrite)
                .map(|s| range(s.address, s.data.len() as u64))
                .filter(|range| range.len > 0)
                .collect(),
            FaultSegment::Bss => of(SegmentProtection::ReadWrite)
                .map(|s| range(s.address + s.data.len() as u64, s.len - s.data.len() as u64))
                .filter(|range| range.len > 0)
                .collect(),
            FaultSegment::Stack
            | FaultSegment::Ring
            | FaultSegment::Frames
            | FaultSegment::Status
            | FaultSegment::Nic
            | FaultSegment::Descriptor
            | FaultSegment::Registers => Vec::new(),
        }
    }
}

/// The functions by address; of two at one address (folded by the linker), the first.
fn functions(image: &Image, base: u64, len: u64) -> Vec<Function> {
    let mut functions: Vec<Function> = Vec::new();
    let mut address = base;
    while address < base + len {
        let Some((name, offset)) = image.symbol_at(address) else {
            address += 1;
            continue;
        };
        let Some(symbol) = image.symbol(name).filter(|_| offset == 0) else {
            address += 1;
            continue;
        };
        functions.push(Function {
            symbol: name.to_owned(),
            name: plain(name),
            address,
            len: symbol.len,
        });
        address += symbol.len.max(1);
    }
    functions
}

fn decode(text: &[u8], base: u64, function: &Function) -> Vec<Code> {
    let start = (function.address - base) as usize;
    let Some(bytes) = text.get(start..start + function.len as usize) else { return Vec::new() };
    let mut decoder = Decoder::with_ip(64, bytes, function.address, DecoderOptions::NONE);
    let mut code = Vec::new();
    while decoder.can_decode() {
        let offset = start + decoder.position();
        let instruction = decoder.decode();
        // `ud2` and `int3` are there to fault already; padding is never executed.
        if !instruction.is_invalid() {
            code.push(Code { instruction, offset });
        }
    }
    code
}

fn lines(bytes: &'static [u8]) -> Option<Lines> {
    let elf = ElfFile64::<object::LittleEndian>::parse(bytes).ok()?;
    let section = |id: addr2line::gimli::SectionId| {
        let data = elf.section_by_name(id.name()).and_then(|section| section.data().ok());
        Ok::<_, addr2line::gimli::Error>(EndianSlice::new(data.unwrap_or_default(), LittleEndian))
    };
    Context::from_dwarf(Dwarf::load(section).ok()?).ok()
}

/// The last parts of a mangled name (Rust's legacy scheme): `_ZN4core3fmt5write17h…E` is
/// `core::fmt::write`.
fn plain(symbol: &str) -> String {
    let Some(mut rest) = symbol.strip_prefix("_ZN") else { return symbol.to_owned() };
    let mut parts = Vec::new();
    while let Some(digits) = rest.find(|c: char| !c.is_ascii_digit()).filter(|&n| n > 0) {
        let len: usize = rest[..digits].parse().unwrap_or(0);
        let Some(part) = rest.get(digits..digits + len) else { break };
        parts.push(part.trim_start_matches('_'));
        rest = &rest[digits + len..];
    }
    // The last part is a digest.
    if parts.last().is_some_and(|part| part.len() == 17 && part.starts_with('h')) {
        parts.pop();
    }
    let name = parts.join("::");
    [("$LT$", "<"), ("$GT$", ">"), ("$u20$", " "), ("$RF$", "&"), ("$C$", ","), ("..", "::")]
        .iter()
        .fold(name, |name, (from, to)| name.replace(from, to))
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes from hexadecimal.
pub(super) fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_images_are_disassembled_without_a_rest() {
        for bytes in [guest_images::DRIVER_DOMAIN, guest_images::SPARE_DOMAIN] {
            let target = Target::new(bytes).unwrap();
            let function = target.function("domain_rx_path").unwrap().clone();
            let code = target.code_of(Some(std::slice::from_ref(&function)));
            let bytes: usize = code.iter().map(|code| target.bytes(code).len()).sum();

            assert_eq!(bytes as u64, function.len);
            assert_eq!(code[0].address(), function.address);
            assert_eq!(target.symbol(function.address + 2).unwrap().0, "domain_rx_path+0x2");
            let source = target.source(function.address).unwrap();
            assert!(source.contains("-domain/src/"), "{source}");
        }
    }

    #[test]
    fn names_are_read_as_people_write_them() {
        assert_eq!(plain("_ZN4core3fmt5write17h0123456789abcdefE"), "core::fmt::write");
        assert_eq!(plain("domain_rx_path"), "domain_rx_path");
        assert_eq!(from_hex(&hex(&[0, 0xff, 7])), Some(vec![0, 0xff, 7]));
        assert_eq!(from_hex("0"), None);
    }
}

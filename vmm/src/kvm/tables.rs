//! Page tables of a micro-VM: four levels, 4 KiB pages, built before the vCPU first runs.
//!
//! Tables lie in the guest's RAM and are mapped nowhere, so the program cannot read or change them.
//! Upper levels grant everything; the last entry decides. Accessed and dirty bits are preset: the
//! CPU then never writes to a table, which shadow paging would have to trap.

use crate::memory::{MemoryError, SharedMemory};

/// Bytes of a page and of a table.
pub(super) const PAGE: u64 = 4096;
const ENTRIES: u64 = 512;
/// Four levels reach this far; the upper, negative half is not used.
const ADDRESS_END: u64 = 1 << 47;

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const WRITE_THROUGH: u64 = 1 << 3;
const CACHE_DISABLE: u64 = 1 << 4;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const NO_EXECUTE: u64 = 1 << 63;
/// Bits of an entry that hold an address.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Why a memory map cannot be.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum MapError {
    /// Two things want the same page.
    #[error("two mappings want the page at {address:#x}")]
    Overlap {
        /// The page.
        address: u64,
    },
    /// An address or a length is no multiple of the page size, or beyond what can be mapped.
    #[error("cannot map {len:#x} bytes at {address:#x}: not whole pages of the address space")]
    Range {
        /// Where.
        address: u64,
        /// How much.
        len: u64,
    },
    /// The system area has no room for another table.
    #[error("the system area of {bytes:#x} bytes is too small for the page tables")]
    SystemAreaFull {
        /// Its size.
        bytes: u64,
    },
}

/// What may be done with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rights {
    pub(super) write: bool,
    pub(super) execute: bool,
    /// Whether CPL 3 may touch it at all.
    pub(super) user: bool,
    pub(super) uncached: bool,
}

impl Rights {
    pub(super) const READ: Self =
        Self { write: false, execute: false, user: true, uncached: false };
    pub(super) const WRITE: Self = Self { write: true, ..Self::READ };
    pub(super) const EXECUTE: Self = Self { execute: true, ..Self::READ };

    /// The same for ring 0 only.
    pub(super) const fn system(self) -> Self {
        Self { user: false, ..self }
    }

    pub(super) const fn uncached(self) -> Self {
        Self { uncached: true, ..self }
    }

    fn bits(self) -> u64 {
        let bit = |condition, bits| if condition { bits } else { 0 };
        PRESENT
            | ACCESSED
            | bit(self.write, WRITABLE | DIRTY)
            | bit(self.user, USER)
            | bit(self.uncached, CACHE_DISABLE | WRITE_THROUGH)
            | bit(!self.execute, NO_EXECUTE)
    }
}

/// Why a page could not be entered.
#[derive(Debug, thiserror::Error)]
pub(super) enum TableError {
    #[error(transparent)]
    Map(#[from] MapError),
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

/// Builds tables in `ram`, whose offsets are guest-physical addresses.
pub(super) struct PageTables<'a> {
    ram: &'a SharedMemory,
    root: u64,
    next: u64,
    area: std::ops::Range<u64>,
}

impl<'a> PageTables<'a> {
    /// Empty tables, to grow in `area`.
    pub(super) fn new(
        ram: &'a SharedMemory,
        area: std::ops::Range<u64>,
    ) -> Result<Self, TableError> {
        let mut tables = Self { ram, root: area.start, next: area.start, area };
        tables.root = tables.new_table()?;
        Ok(tables)
    }

    /// Guest-physical address of the top level, for CR3.
    pub(super) fn root(&self) -> u64 {
        self.root
    }

    /// Maps `len` bytes at guest-virtual `address` to guest-physical `target`.
    pub(super) fn map(
        &mut self,
        address: u64,
        target: u64,
        len: u64,
        rights: Rights,
    ) -> Result<(), TableError> {
        let whole = (address | target | len).is_multiple_of(PAGE);
        let end = address.checked_add(len).filter(|&end| whole && end <= ADDRESS_END);
        let Some(end) = end else { return Err(MapError::Range { address, len }.into()) };
        if target.checked_add(len).is_none_or(|end| end > ADDRESS) {
            return Err(MapError::Range { address: target, len }.into());
        }
        for page in (address..end).step_by(PAGE as usize) {
            self.map_page(page, target + (page - address), rights)?;
        }
        Ok(())
    }

    fn map_page(&mut self, page: u64, target: u64, rights: Rights) -> Result<(), TableError> {
        let mut table = self.root;
        for level in [3, 2, 1] {
            let entry = entry_address(table, page, level);
            table = match read(self.ram, entry)? {
                0 => {
                    let below = self.new_table()?;
                    let bits = PRESENT | WRITABLE | USER | ACCESSED;
                    self.ram.write(entry, &(below | bits).to_le_bytes())?;
                    below
                }
                present => present & ADDRESS,
            };
        }
        let entry = entry_address(table, page, 0);
        if read(self.ram, entry)? != 0 {
            return Err(MapError::Overlap { address: page }.into());
        }
        Ok(self.ram.write(entry, &(target | rights.bits()).to_le_bytes())?)
    }

    fn new_table(&mut self) -> Result<u64, TableError> {
        let table = self.next;
        if table + PAGE > self.area.end {
            let bytes = self.area.end - self.area.start;
            return Err(MapError::SystemAreaFull { bytes }.into());
        }
        self.ram.clear(table, PAGE as usize)?;
        self.next += PAGE;
        Ok(table)
    }
}

/// Where the entry for `page` stands in a table of `level` (0 is the last).
fn entry_address(table: u64, page: u64, level: u32) -> u64 {
    let index = (page >> (12 + 9 * level)) % ENTRIES;
    table + index * 8
}

fn read(ram: &SharedMemory, address: u64) -> Result<u64, MemoryError> {
    let mut bytes = [0; 8];
    ram.read(address, &mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

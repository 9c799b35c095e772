//! Page tables of a micro-VM: four levels, 4 KiB pages, built before the vCPU first runs.
//!
//! Tables lie in the guest's RAM and are mapped nowhere, so the program cannot read or change them.
//! Upper levels grant everything; the last entry decides. Accessed and dirty bits are preset: the
//! CPU then never writes to a table, which shadow paging would have to trap.

use platform::memory::{MemoryError, SharedMemory};

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
    #[error("the system area leaves {bytes:#x} bytes for page tables, which need more")]
    SystemAreaFull {
        /// What it leaves.
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
            let bytes = self.area.end.saturating_sub(self.area.start);
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

#[cfg(test)]
pub(super) mod walk {
    //! A second, independent reading of page tables.

    use super::*;

    /// A page that tables map: virtual address, physical address, effective rights.
    pub(in crate::kvm) type Leaf = (u64, u64, Rights);

    /// Everything that is mapped, in order of address.
    pub(in crate::kvm) fn leaves(ram: &SharedMemory, root: u64) -> Vec<Leaf> {
        let all = Rights { write: true, execute: true, user: true, uncached: false };
        let mut found = Vec::new();
        walk(ram, root, 39, 0, all, &mut found);
        found
    }

    fn walk(
        ram: &SharedMemory,
        table: u64,
        shift: u32,
        base: u64,
        above: Rights,
        found: &mut Vec<Leaf>,
    ) {
        for index in 0..512 {
            let entry = read(ram, table + 8 * index).unwrap();
            if entry & 1 == 0 {
                assert_eq!(entry, 0, "an entry that is not present is blank");
                continue;
            }
            let rights = Rights {
                write: above.write && entry & 2 != 0,
                user: above.user && entry & 4 != 0,
                execute: above.execute && entry >> 63 == 0,
                uncached: entry & 0x18 == 0x18,
            };
            let (address, target) = (base | index << shift, entry & 0x000f_ffff_ffff_f000);
            if shift == 12 {
                found.push((address, target, rights));
            } else {
                assert_eq!(entry & 0x80, 0, "no large pages");
                walk(ram, target, shift - 9, address, rights, found);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const AREA: std::ops::Range<u64> = 0x1000..0x4_0000;

    fn rights() -> impl Strategy<Value = Rights> {
        any::<[bool; 4]>().prop_map(|[write, execute, user, uncached]| Rights {
            write,
            execute,
            user,
            uncached,
        })
    }

    /// Page numbers in a few regions, so that mappings share tables and collide.
    fn page() -> impl Strategy<Value = u64> {
        prop_oneof![0..0x600u64, 0xc_ff00..0xd_0100u64, 0x7_ffff_fff0..0x8_0000_0000u64]
    }

    proptest! {
        #[test]
        fn exactly_what_was_asked_for_is_mapped(
            asked in prop::collection::vec((page(), page(), 1..20u64, rights()), 1..8),
        ) {
            let ram = SharedMemory::new(c"test", 1 << 20).unwrap();
            let mut tables = PageTables::new(&ram, AREA).unwrap();
            let mut expected = BTreeMap::new();
            for (page, target, pages, rights) in asked {
                let result = tables.map(page * PAGE, target * PAGE, pages * PAGE, rights);
                let mut overlap = None;
                if (page + pages) * PAGE > ADDRESS_END {
                    prop_assert!(result.is_err());
                    continue;
                }
                for i in 0..pages {
                    let address = (page + i) * PAGE;
                    if expected.contains_key(&address) {
                        overlap = Some(address);
                        break;
                    }
                    expected.insert(address, ((target + i) * PAGE, rights));
                }
                match (result, overlap) {
                    (Ok(()), None) => {}
                    (Err(TableError::Map(MapError::Overlap { address })), Some(expected)) => {
                        prop_assert_eq!(address, expected);
                    }
                    other => prop_assert!(false, "{other:?}"),
                }
            }
            let expected: Vec<_> =
                expected.into_iter().map(|(address, (target, r))| (address, target, r)).collect();
            prop_assert_eq!(walk::leaves(&ram, tables.root()), expected);
        }
    }

    #[test]
    fn tables_stay_in_their_area() {
        let ram = SharedMemory::new(c"test", 1 << 20).unwrap();
        ram.write(0x5000, &[0xee; 4096]).unwrap();
        let mut tables = PageTables::new(&ram, 0x1000..0x5000).unwrap();

        tables.map(0, 0, PAGE, Rights::READ).unwrap();
        let full = tables.map(1 << 21, 0, PAGE, Rights::READ);

        assert!(matches!(full, Err(TableError::Map(MapError::SystemAreaFull { bytes: 0x4000 }))));
        let mut after = [0; 4096];
        ram.read(0x5000, &mut after).unwrap();
        assert_eq!(after, [0xee; 4096]);
    }
}

//! Receive addresses of guests beside those that the driver programs: the VMM's alone to write, opened
//! and shut with the other filters.
//!
//! As many as there are free receive addresses stand in these; where there are more, every unicast
//! frame comes in (RCTL.UPE), and the switchboard decides. There is no step between: the hash tables
//! are no help, because on an i210 they are for groups alone (datasheet §7.1.1.1), and on an 82576 for
//! the pools of VMDq.

use std::io;

use crate::interface::BarRegisters;
use crate::registers::{RAH_AV, RAH0, RAL0, RCTL, added_entries, rctl, receive_address};
use platform::priority_mutex::PriorityMutex;

/// Receive addresses for guests' further addresses.
const ENTRIES: usize = 7;

/// What is received beside the guests' own addresses, broadcasts and multicasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddedAddresses {
    /// Frames to these addresses.
    Listed([Option<[u8; 6]>; ENTRIES]),
    /// Every unicast frame.
    Promiscuous,
}

impl AddedAddresses {
    /// Nothing.
    pub const NONE: Self = Self::Listed([None; ENTRIES]);

    /// These addresses, or everything if they are too many for the NIC. Their order does not matter.
    pub fn of(mut macs: impl Iterator<Item = [u8; 6]>) -> Self {
        let mut listed = std::array::from_fn(|_| macs.next());
        listed.sort_unstable_by_key(|mac| (mac.is_none(), *mac));
        if macs.next().is_some() { Self::Promiscuous } else { Self::Listed(listed) }
    }

    fn listed(&self) -> [Option<[u8; 6]>; ENTRIES] {
        match self {
            Self::Listed(macs) => *macs,
            Self::Promiscuous => [None; ENTRIES],
        }
    }
}

/// What is wanted of one NIC, and how far its registers follow.
#[derive(Clone, Copy)]
struct State {
    wanted: AddedAddresses,
    /// The filters are open.
    is_open: bool,
    /// An entry may be valid.
    is_written: bool,
}

/// The added addresses of one NIC.
pub(crate) struct Added(PriorityMutex<State>);

impl Added {
    /// # Errors
    /// The system refuses a mutex.
    pub(crate) fn new() -> io::Result<Self> {
        let state = State { wanted: AddedAddresses::NONE, is_open: false, is_written: false };
        PriorityMutex::new(state).map(Self)
    }

    /// Wants these from now on.
    pub(crate) fn set(&self, bar: &impl BarRegisters, wanted: &AddedAddresses) {
        let mut state = self.0.lock();
        let before = std::mem::replace(&mut state.wanted, *wanted);
        if !state.is_open || before == *wanted {
            return;
        }
        let was_promiscuous = before == AddedAddresses::Promiscuous;
        match *wanted == AddedAddresses::Promiscuous {
            true if !was_promiscuous => bar.write(RCTL, bar.read(RCTL) | rctl::UPE),
            true => {}
            false => state.write(bar),
        }
        if was_promiscuous {
            // Behind the addresses, so that nothing is refused in between.
            bar.write(RCTL, bar.read(RCTL) & !rctl::UPE);
        }
    }

    /// The filters are open from now on.
    pub(crate) fn open(&self, bar: &impl BarRegisters) {
        let mut state = self.0.lock();
        state.is_open = true;
        if state.wanted == AddedAddresses::Promiscuous {
            bar.write(RCTL, bar.read(RCTL) | rctl::UPE);
        }
        if state.wanted != AddedAddresses::NONE || state.is_written {
            state.write(bar);
        }
    }

    /// The filters are shut from now on; RCTL is the caller's to write.
    pub(crate) fn shut(&self, bar: &impl BarRegisters) {
        let mut state = self.0.lock();
        state.is_open = false;
        if std::mem::take(&mut state.is_written) {
            added_entries().for_each(|entry| bar.write(RAH0 + 8 * entry as u32, 0));
        }
    }

    /// The units are off: what the registers hold does not matter until the filters are shut and
    /// opened again.
    pub(crate) fn forget_open(&self) {
        self.0.lock().is_open = false;
    }

    /// Returns true if RCTL.UPE has to be set.
    pub(crate) fn is_promiscuous(&self) -> bool {
        let state = self.0.lock();
        state.is_open && state.wanted == AddedAddresses::Promiscuous
    }

    /// Compares one half of a valid entry. Returns the register, what it has to hold and what it
    /// holds, if these differ.
    pub(crate) fn compare(
        &self,
        bar: &impl BarRegisters,
        number: usize,
    ) -> Option<(u32, u32, u32)> {
        let state = *self.0.lock();
        let macs = state.wanted.listed();
        let count = macs.iter().flatten().count();
        if !state.is_open || count == 0 {
            return None;
        }
        let half = number % (2 * count);
        let entry = 8 * added_entries().nth(half / 2)? as u32;
        let (low, high) = receive_address(macs[half / 2]?);
        let (register, bits, expected) = match half % 2 {
            0 => (RAL0 + entry, u32::MAX, low),
            _ => (RAH0 + entry, RAH_AV | 0xffff, high | RAH_AV),
        };
        let found = bar.read(register) & bits;
        (found != expected).then_some((register, expected, found))
    }
}

impl State {
    fn write(&mut self, bar: &impl BarRegisters) {
        self.is_written = true;
        for (entry, mac) in added_entries().zip(self.wanted.listed()) {
            let entry = 8 * entry as u32;
            // Invalid while it changes: no address of old and new halves passes.
            bar.write(RAH0 + entry, 0);
            if let Some(mac) = mac {
                let (low, high) = receive_address(mac);
                bar.write(RAL0 + entry, low);
                bar.write(RAH0 + entry, high | RAH_AV);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Mutex;

    use super::*;

    /// Registers that hold what is written.
    #[derive(Default)]
    struct Bar(Mutex<HashMap<u32, u32>>);

    impl BarRegisters for Bar {
        fn read(&self, offset: u32) -> u32 {
            self.0.lock().unwrap().get(&offset).copied().unwrap_or(0)
        }

        fn write(&self, offset: u32, value: u32) {
            self.0.lock().unwrap().insert(offset, value);
        }
    }

    impl Bar {
        fn valid(&self) -> Vec<u32> {
            let entries = (0..16).map(|entry| self.read(RAH0 + 8 * entry));
            entries.filter(|high| high & RAH_AV != 0).map(|high| high & 0xffff).collect()
        }

        fn is_promiscuous(&self) -> bool {
            self.read(RCTL) & rctl::UPE != 0
        }
    }

    fn macs(count: u8) -> AddedAddresses {
        AddedAddresses::of((1..=count).map(|n| [2, 0, 0, 0, n, 0]))
    }

    #[test]
    fn there_are_as_many_as_the_nic_has_entries() {
        assert_eq!(added_entries().count(), ENTRIES);
        assert_eq!(macs(0), AddedAddresses::NONE);
        assert!(matches!(macs(7), AddedAddresses::Listed(_)));
        assert_eq!(macs(8), AddedAddresses::Promiscuous);
    }

    #[test]
    fn they_come_and_go_with_the_filters() {
        let (bar, added) = (Bar::default(), Added::new().unwrap());
        added.set(&bar, &macs(2));
        assert_eq!(bar.valid(), [0; 0], "the filters are shut");
        added.open(&bar);
        assert_eq!(bar.valid(), [1, 2]);
        added.set(&bar, &macs(1));
        assert_eq!(bar.valid(), [1]);
        added.shut(&bar);
        assert_eq!(bar.valid(), [0; 0]);
        added.set(&bar, &macs(3));
        assert_eq!(bar.valid(), [0; 0]);
    }

    #[test]
    fn too_many_make_it_promiscuous_and_no_longer_than_that() {
        let (bar, added) = (Bar::default(), Added::new().unwrap());
        bar.write(RCTL, rctl::EN);
        added.open(&bar);
        assert!(bar.valid().is_empty() && !bar.is_promiscuous());
        added.set(&bar, &macs(8));
        assert!(bar.is_promiscuous() && added.is_promiscuous());
        added.set(&bar, &macs(7));
        assert!(!bar.is_promiscuous() && !added.is_promiscuous());
        assert_eq!((bar.valid().len(), bar.read(RCTL)), (7, rctl::EN));
    }

    #[test]
    fn a_nic_that_was_silenced_is_left_alone() {
        let (bar, added) = (Bar::default(), Added::new().unwrap());
        added.open(&bar);
        added.forget_open();
        added.set(&bar, &macs(8));
        assert!(!bar.is_promiscuous() && !added.is_promiscuous());
    }

    #[test]
    fn an_entry_that_was_spoilt_is_found() {
        let (bar, added) = (Bar::default(), Added::new().unwrap());
        let found = || (0..14).find_map(|number| added.compare(&bar, number));
        added.set(&bar, &macs(3));
        assert_eq!(found(), None, "shut");
        added.open(&bar);
        assert_eq!(found(), None);
        for register in [RAL0 + 8 * 9, RAH0 + 8 * 11] {
            bar.write(register, bar.read(register) ^ 1 << 3);
            assert_eq!(found().map(|(register, ..)| register), Some(register));
            bar.write(register, bar.read(register) ^ 1 << 3);
        }
    }
}

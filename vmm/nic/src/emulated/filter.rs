//! Receive filters (i210 datasheet §7.1.1, §8.9): which frames the NIC takes in.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::registers::{
    HASH_TABLE_WORDS, PROBE_ENTRY, RAH_AV, RECEIVE_ADDRESSES, guest_entries, rctl, receive_address,
};

/// Receive addresses and the multicast hash table.
pub(super) struct Filters {
    /// Low and high half of each.
    pub(super) addresses: [[AtomicU32; 2]; RECEIVE_ADDRESSES as usize],
    pub(super) multicast: [AtomicU32; HASH_TABLE_WORDS as usize],
}

impl Filters {
    pub(super) fn new() -> Self {
        Self {
            addresses: std::array::from_fn(|_| [AtomicU32::new(0), AtomicU32::new(0)]),
            multicast: std::array::from_fn(|_| AtomicU32::new(0)),
        }
    }

    /// What a reset leaves: the NIC's own address, valid, in the first entry.
    pub(super) fn reset(&self, mac: [u8; 6]) {
        self.addresses.iter().flatten().for_each(|half| half.store(0, Ordering::Release));
        self.multicast.iter().for_each(|word| word.store(0, Ordering::Release));
        self.accept(mac);
    }

    /// Makes `mac` the first receive address, valid.
    pub(super) fn accept(&self, mac: [u8; 6]) {
        let (low, high) = receive_address(mac);
        self.addresses[0][0].store(low, Ordering::Release);
        self.addresses[0][1].store(high | RAH_AV, Ordering::Release);
    }

    /// Makes `mac` the receive address of drills, or that one invalid.
    pub(super) fn accept_probes(&self, mac: Option<[u8; 6]>) {
        let (low, high) = mac.map_or((0, 0), receive_address);
        let valid = if mac.is_some() { RAH_AV } else { 0 };
        // Invalid while it changes: no address of old and new halves passes.
        let [own_low, own_high] = &self.addresses[PROBE_ENTRY];
        own_high.store(0, Ordering::Release);
        own_low.store(low, Ordering::Release);
        own_high.store(high | valid, Ordering::Release);
    }

    /// Makes the further guests' addresses valid that the driver has programmed, up to an empty entry.
    pub(super) fn accept_others(&self) {
        for entry in guest_entries().skip(1) {
            let [low, high] = &self.addresses[entry];
            if low.load(Ordering::Acquire) | high.load(Ordering::Acquire) == 0 {
                break;
            }
            high.fetch_or(RAH_AV, Ordering::AcqRel);
        }
    }

    /// Makes the receive addresses of guests and probes invalid.
    pub(super) fn refuse(&self) {
        for entry in guest_entries().chain([PROBE_ENTRY]) {
            self.addresses[entry][1].fetch_and(!RAH_AV, Ordering::AcqRel);
        }
    }

    /// Returns true if a frame to `destination` is taken in, with RCTL as it is.
    pub(super) fn pass(&self, destination: [u8; 6], receive_control: u32) -> bool {
        let on = |bit| receive_control & bit != 0;
        if destination == [0xff; 6] {
            return on(rctl::BAM) || self.is_own(destination);
        }
        if destination[0] & 1 != 0 {
            return on(rctl::MPE)
                || self.is_own(destination)
                || self.is_hashed(destination, receive_control);
        }
        on(rctl::UPE) || self.is_own(destination)
    }

    fn is_own(&self, destination: [u8; 6]) -> bool {
        let (low, high) = receive_address(destination);
        self.addresses.iter().any(|[own_low, own_high]| {
            own_high.load(Ordering::Acquire) & (RAH_AV | 0xffff) == high | RAH_AV
                && own_low.load(Ordering::Acquire) == low
        })
    }

    /// Twelve bits of the address, which ones RCTL.MO says, choose a bit of the table.
    fn is_hashed(&self, destination: [u8; 6], receive_control: u32) -> bool {
        let shift = [4, 3, 2, 0][(receive_control >> rctl::MO_SHIFT & 3) as usize];
        let high_bytes = u16::from_le_bytes([destination[4], destination[5]]);
        let hash = usize::from(high_bytes >> shift & 0xfff);
        self.multicast[hash / 32].load(Ordering::Acquire) >> (hash % 32) & 1 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: [u8; 6] = [2, 0, 0, 1, 2, 3];
    const OTHER: [u8; 6] = [2, 0, 0, 1, 2, 4];
    const GROUP: [u8; 6] = [1, 0, 0x5e, 0, 0x12, 0x34];
    const EVERYONE: [u8; 6] = [0xff; 6];

    fn filters() -> Filters {
        let filters = Filters::new();
        filters.reset(OWN);
        filters
    }

    #[test]
    fn after_reset_only_the_own_address_passes() {
        let passes = [OWN, OTHER, GROUP, EVERYONE].map(|to| filters().pass(to, 0));
        assert_eq!(passes, [true, false, false, false]);
    }

    #[test]
    fn each_bit_opens_its_own_kind() {
        let kinds = |bits| [OTHER, GROUP, EVERYONE].map(|to| filters().pass(to, bits));
        assert_eq!(kinds(rctl::UPE), [true, false, false]);
        assert_eq!(kinds(rctl::MPE), [false, true, false]);
        assert_eq!(kinds(rctl::BAM), [false, false, true]);
    }

    #[test]
    fn an_address_that_is_not_valid_does_not_count() {
        let filters = filters();
        filters.refuse();
        assert!(!filters.pass(OWN, 0));
        filters.accept(OWN);
        assert!(filters.pass(OWN, 0));
    }

    #[test]
    fn a_second_address_comes_and_goes() {
        let filters = filters();
        filters.refuse();
        filters.accept_probes(Some(OTHER));
        assert_eq!([OWN, OTHER].map(|to| filters.pass(to, 0)), [false, true]);
        filters.accept_probes(None);
        assert!(!filters.pass(OTHER, 0));
    }

    #[test]
    fn further_guests_are_accepted_and_refused_with_the_first() {
        let filters = filters();
        filters.refuse();
        let (low, high) = receive_address(OTHER);
        filters.addresses[2][0].store(low, Ordering::Relaxed);
        filters.addresses[2][1].store(high, Ordering::Relaxed);
        assert!(!filters.pass(OTHER, 0));
        filters.accept_others();
        assert_eq!([OTHER, [0; 6]].map(|to| filters.pass(to, 0)), [true, false]);
        filters.refuse();
        assert!(!filters.pass(OTHER, 0));
    }

    #[test]
    fn later_entries_count_too() {
        let filters = filters();
        let (low, high) = receive_address(OTHER);
        filters.addresses[15][0].store(low, Ordering::Relaxed);
        filters.addresses[15][1].store(high | RAH_AV, Ordering::Relaxed);
        assert!(filters.pass(OTHER, 0));
    }

    #[test]
    fn the_hash_takes_the_bits_that_the_offset_says() {
        for (offset, hash) in [(0_u32, 0x341), (1, 0x682), (2, 0xd04), (3, 0x412)] {
            let filters = filters();
            filters.multicast[hash / 32].store(1 << (hash % 32), Ordering::Relaxed);
            assert!(filters.pass(GROUP, offset << rctl::MO_SHIFT), "offset {offset}");
            assert!(!filters.pass([1, 0, 0x5e, 0, 0, 0], offset << rctl::MO_SHIFT));
        }
    }
}

//! The application guests of one pair of NICs: whose a frame is, and their ports.
//!
//! | destination | from the wire | from a guest |
//! |---|---|---|
//! | a guest's address | that guest | that guest alone; it never reaches the wire |
//! | broadcast, multicast | every guest | every other guest, and the wire |
//! | any other | no guest, or the guest if there is only one | the wire |
//!
//! A frame from the wire whose source is a guest's address is that guest's own, which has come back
//! through the other port.
//!
//! A guest that is not here (its rings do not run) may be at another machine. Then it is reached
//! over the wire like any other host, and what comes from its address is not its own come back.
//!
//! Invariant: the number of guests and their addresses never change.

use shared_ring::layout::MAX_GUESTS;
use vm_memory::VolatileSlice;

use crate::guest_set::GuestSet;
use crate::port::{Delivery, GuestPort, TX_RING};

/// One guest.
pub(crate) struct Guest {
    pub(crate) mac: [u8; 6],
    pub(crate) port: GuestPort,
    /// Its rings run, or its last frames are still under way.
    is_here: bool,
}

/// All guests: at least one, at most [`MAX_GUESTS`].
pub(crate) struct Guests(Vec<Guest>);

impl Guests {
    /// Guests with these addresses, whose frames have at most so many bytes.
    pub(crate) fn new(macs: &[[u8; 6]], longest_bytes: usize) -> Self {
        let guest = |mac: &[u8; 6]| Guest {
            mac: *mac,
            port: GuestPort::new(longest_bytes),
            is_here: false,
        };
        Self(macs.iter().take(MAX_GUESTS).map(guest).collect())
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_single(&self) -> bool {
        self.0.len() == 1
    }

    /// Notes that a guest is here from now on, or is not any more.
    pub(crate) fn set_here(&mut self, guest: usize, is_here: bool) {
        self[guest].is_here = is_here;
    }

    /// The guest that is here and whose address this is.
    pub(crate) fn owner(&self, mac: &[u8]) -> Option<usize> {
        self.0.iter().position(|guest| guest.mac == mac && guest.is_here)
    }

    /// The guests that get a frame from the wire with this destination.
    pub(crate) fn of_wire(&self, destination: &[u8]) -> GuestSet {
        if self.is_single() || destination[0] & 1 != 0 {
            return GuestSet::first(self.count());
        }
        // One that is not here too, so that its frames are counted as what they are.
        let target = self.0.iter().position(|guest| guest.mac == destination);
        target.map_or(GuestSet::NONE, GuestSet::of)
    }

    /// The guests that get a guest's frame with this destination, beside the wire or instead of it.
    pub(crate) fn of_guest(&self, from: usize, destination: &[u8]) -> GuestSet {
        if self.is_single() {
            return GuestSet::NONE;
        }
        let all = match destination[0] & 1 {
            0 => self.owner(destination).map_or(GuestSet::NONE, GuestSet::of),
            _ => self.here(),
        };
        all.without(GuestSet::of(from))
    }

    fn here(&self) -> GuestSet {
        let here = (0..self.count()).filter(|guest| self[*guest].is_here);
        here.fold(GuestSet::NONE, |set, guest| set.with(GuestSet::of(guest)))
    }

    /// Returns true if a guest's transmit ring is there.
    pub(crate) fn is_connected(&self, guest: usize) -> bool {
        self[guest].port.has_ring(TX_RING)
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Guest> {
        self.0.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> std::slice::IterMut<'_, Guest> {
        self.0.iter_mut()
    }

    /// Copies a frame into a guest's memory.
    pub(crate) fn deliver(
        &mut self,
        guest: usize,
        head: &[u8],
        rest: &[VolatileSlice<'_>],
        malformed: &mut u64,
    ) -> Delivery {
        self[guest].port.deliver(head, rest, malformed)
    }
}

impl std::ops::Index<usize> for Guests {
    type Output = Guest;

    fn index(&self, guest: usize) -> &Guest {
        &self.0[guest]
    }
}

impl std::ops::IndexMut<usize> for Guests {
    fn index_mut(&mut self, guest: usize) -> &mut Guest {
        &mut self.0[guest]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const B: [u8; 6] = [2, 0, 0, 0, 0, 2];
    const C: [u8; 6] = [2, 0, 0, 0, 0, 3];
    const GROUP: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];

    /// Guests that are all here.
    fn guests(macs: &[[u8; 6]]) -> Guests {
        let mut guests = Guests::new(macs, 1526);
        (0..guests.count()).for_each(|guest| guests.set_here(guest, true));
        guests
    }

    fn numbers(set: GuestSet) -> Vec<usize> {
        set.each().collect()
    }

    #[test]
    fn frames_of_the_wire_go_to_whom_they_are_for() {
        let guests = guests(&[A, B, C]);
        let to = |mac: [u8; 6]| numbers(guests.of_wire(&mac));
        assert_eq!([to(A), to(C), to([2; 6])], [vec![0], vec![2], vec![]]);
        assert_eq!([to(GROUP), to([0xff; 6])], [vec![0, 1, 2], vec![0, 1, 2]]);
        assert_eq!((guests.owner(&B), guests.owner(&[2; 6])), (Some(1), None));
    }

    #[test]
    fn a_single_guest_gets_what_its_nic_takes_in() {
        let guests = guests(&[A]);
        assert_eq!(numbers(guests.of_wire(&[2; 6])), [0]);
        assert!(guests.of_guest(0, &[0xff; 6]).is_empty());
    }

    #[test]
    fn frames_of_a_guest_never_come_back_to_it() {
        let guests = guests(&[A, B, C]);
        let to = |mac: [u8; 6]| numbers(guests.of_guest(1, &mac));
        assert_eq!([to(A), to(B), to([2; 6])], [vec![0], vec![], vec![]]);
        assert_eq!([to(GROUP), to([0xff; 6])], [vec![0, 2], vec![0, 2]]);
    }

    #[test]
    fn a_guest_that_is_not_here_is_a_host_on_the_wire() {
        let mut guests = guests(&[A, B, C]);
        guests.set_here(1, false);
        assert!(guests.of_guest(0, &B).is_empty(), "the wire");
        assert_eq!(numbers(guests.of_guest(0, &GROUP)), [2], "and the wire");
        assert_eq!(guests.owner(&B), None, "what it sends there is for its siblings");
        assert_eq!(numbers(guests.of_wire(&B)), [1], "counted as for nobody");
        guests.set_here(1, true);
        assert_eq!((numbers(guests.of_guest(0, &B)), guests.owner(&B)), (vec![1], Some(1)));
    }

    #[test]
    fn the_most_guests_there_can_be_are_a_set() {
        let macs: Vec<_> = (0..MAX_GUESTS as u8).map(|n| [2, 0, 0, 0, 0, n]).collect();
        let all = guests(&macs).of_wire(&[0xff; 6]);
        assert_eq!(all.count() as usize, MAX_GUESTS);
    }
}

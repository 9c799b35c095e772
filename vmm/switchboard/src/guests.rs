//! The application guests of one pair of NICs: whose a frame is, and their ports.
//!
//! | destination | from the wire | from a guest |
//! |---|---|---|
//! | a guest's address | that guest | that guest alone; it never reaches the wire |
//! | broadcast, multicast | every guest | every other guest, and the wire |
//! | any other | promiscuous guests; the guest if there is only one, with one address | other promiscuous guests, and the wire |
//!
//! A frame from the wire whose source is a guest's own address is that guest's, which has come back
//! through the other port. Addresses that a guest has beside its own come and go ([`senders`]).
//!
//! A guest that is not here (its rings do not run) may be at another machine. Then it is reached
//! over the wire like any other host, and what comes from its addresses is not its own come back.
//!
//! Invariant: the number of guests and their own addresses never change.

mod senders;

use shared_ring::layout::MAX_GUESTS;
use vm_memory::VolatileSlice;

pub(crate) use self::senders::{Admitted, Sender};
use crate::guest_set::GuestSet;
use crate::macs::{EgressRules, FurtherMacs, key_of};
use crate::port::{Delivery, GuestPort, TX_RING};

/// One guest.
pub(crate) struct Guest {
    pub(crate) mac: [u8; 6],
    pub(crate) port: GuestPort,
    /// Its addresses beside its own.
    pub(crate) further: FurtherMacs,
    egress: EgressRules,
    /// Its rings run, or its last frames are still under way.
    is_here: bool,
}

impl Guest {
    fn new(mac: [u8; 6], longest_bytes: usize) -> Self {
        let (further, egress) = (FurtherMacs::default(), EgressRules::default());
        Self { mac, port: GuestPort::new(longest_bytes), further, egress, is_here: false }
    }

    /// Returns true if the guest has this address.
    fn has(&self, mac: &[u8]) -> bool {
        self.mac == mac || self.further.has(key_of(mac))
    }
}

/// Where a guest's frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// The guests that get it.
    pub(crate) guests: GuestSet,
    /// Whether it goes to the wire.
    pub(crate) wire: bool,
}

/// All guests: at least one, at most [`MAX_GUESTS`].
pub(crate) struct Guests {
    list: Vec<Guest>,
    /// Time of the frames that follow, `CLOCK_MONOTONIC` nanoseconds.
    now_ns: u64,
}

impl Guests {
    /// Guests with these addresses, whose frames have at most so many bytes.
    pub(crate) fn new(macs: &[[u8; 6]], longest_bytes: usize) -> Self {
        let guests = macs.iter().take(MAX_GUESTS).map(|mac| Guest::new(*mac, longest_bytes));
        Self { list: guests.collect(), now_ns: 0 }
    }

    pub(crate) fn count(&self) -> usize {
        self.list.len()
    }

    pub(crate) fn is_single(&self) -> bool {
        self.list.len() == 1
    }

    /// Notes that a guest is here from now on, or is not any more.
    pub(crate) fn set_here(&mut self, guest: usize, is_here: bool) {
        self[guest].is_here = is_here;
    }

    /// The guest that is here and whose address this is.
    pub(crate) fn owner(&self, mac: &[u8]) -> Option<usize> {
        self.list.iter().position(|guest| guest.is_here && guest.has(mac))
    }

    /// The guests that get a frame from the wire with this destination.
    pub(crate) fn of_wire(&self, destination: &[u8]) -> GuestSet {
        let gets_all = self.is_single() && self.list[0].further.is_none();
        if gets_all || destination[0] & 1 != 0 {
            return GuestSet::first(self.count());
        }
        // One that is not here too, so that its frames are counted as what they are.
        let target = self.list.iter().position(|guest| guest.has(destination));
        target.map_or_else(|| self.promiscuous(), GuestSet::of)
    }

    /// Where a guest's frame with this destination goes.
    pub(crate) fn of_guest(&self, from: usize, destination: &[u8]) -> Route {
        if self.is_single() {
            return Route { guests: GuestSet::NONE, wire: true };
        }
        let is_group = destination[0] & 1 != 0;
        let owner = if is_group { None } else { self.owner(destination) };
        let guests = match owner {
            Some(guest) => GuestSet::of(guest),
            None if is_group => self.here(),
            None => self.promiscuous(),
        };
        let guests = guests.without(GuestSet::of(from));
        Route { guests, wire: owner.is_none_or(|owner| owner == from) }
    }

    fn here(&self) -> GuestSet {
        self.set_of(|guest| guest.is_here)
    }

    /// The guests that get what is nobody's.
    fn promiscuous(&self) -> GuestSet {
        self.set_of(|guest| guest.is_here && guest.further.takes_all())
    }

    fn set_of(&self, wanted: impl Fn(&Guest) -> bool) -> GuestSet {
        let all = self.list.iter().enumerate().filter(|(_, guest)| wanted(guest));
        all.fold(GuestSet::NONE, |set, (number, _)| set.with(GuestSet::of(number)))
    }

    /// Returns true if a guest's transmit ring is there.
    pub(crate) fn is_connected(&self, guest: usize) -> bool {
        self[guest].port.has_ring(TX_RING)
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Guest> {
        self.list.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> std::slice::IterMut<'_, Guest> {
        self.list.iter_mut()
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
        &self.list[guest]
    }
}

impl std::ops::IndexMut<usize> for Guests {
    fn index_mut(&mut self, guest: usize) -> &mut Guest {
        &mut self.list[guest]
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
        let route = guests.of_guest(0, &[0xff; 6]);
        assert_eq!(route, Route { guests: GuestSet::NONE, wire: true });
    }

    #[test]
    fn frames_of_a_guest_never_come_back_to_it() {
        let guests = guests(&[A, B, C]);
        let to = |mac: [u8; 6]| numbers(guests.of_guest(1, &mac).guests);
        assert_eq!([to(A), to(B), to([2; 6])], [vec![0], vec![], vec![]]);
        assert_eq!([to(GROUP), to([0xff; 6])], [vec![0, 2], vec![0, 2]]);
        let wire = [A, B, [2; 6], GROUP].map(|mac| guests.of_guest(1, &mac).wire);
        assert_eq!(wire, [false, true, true, true]);
    }

    #[test]
    fn a_guest_that_is_not_here_is_a_host_on_the_wire() {
        let mut guests = guests(&[A, B, C]);
        guests.set_here(1, false);
        let route = guests.of_guest(0, &B);
        assert_eq!(route, Route { guests: GuestSet::NONE, wire: true });
        let route = guests.of_guest(0, &GROUP);
        assert_eq!(route, Route { guests: GuestSet::of(2), wire: true });
        assert_eq!(guests.owner(&B), None, "what it sends there is for its siblings");
        assert_eq!(numbers(guests.of_wire(&B)), [1], "counted as for nobody");
        guests.set_here(1, true);
        assert_eq!((guests.of_guest(0, &B).guests, guests.owner(&B)), (GuestSet::of(1), Some(1)));
    }

    #[test]
    fn the_most_guests_there_can_be_are_a_set() {
        let macs: Vec<_> = (0..MAX_GUESTS as u8).map(|n| [2, 0, 0, 0, 0, n]).collect();
        let all = guests(&macs).of_wire(&[0xff; 6]);
        assert_eq!(all.count() as usize, MAX_GUESTS);
    }
}

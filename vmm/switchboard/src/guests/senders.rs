//! Who sends: which sources a guest may use, and whose an address is that guests have beside their
//! own.
//!
//! An address is with the guest that sent from it last. When it is heard from elsewhere, it has moved
//! there, as the virtual address of two routers does, and its guest gets that frame. But while two
//! ports are open, and for a while after a takeover, it is the guest's own frame that has come back
//! through the other port.

use super::{Guest, Guests};
use crate::guest_set::GuestSet;
use crate::macs::{GuestRules, MacRule, Refusal, Stations, Tags, is_station, key_of, kind_of};

/// Who sent a frame that came from the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    /// None of the guests.
    Other,
    /// This guest, from its own address.
    Guest(usize),
    /// A guest has, or had, this address beside its own.
    Station(usize),
}

impl Guests {
    /// Applies the topology's rules, one for each guest.
    pub(crate) fn set_rules(&mut self, rules: &[GuestRules]) {
        let lists = |key: &u64| {
            let listed = rules.iter().filter_map(|rules| match &rules.macs {
                MacRule::List(macs) => Some(macs.iter().filter(|mac| key_of(&mac[..]) == *key)),
                MacRule::One | MacRule::Learn | MacRule::Promiscuous => None,
            });
            listed.flatten().count()
        };
        for (guest, rules) in self.0.iter_mut().zip(rules) {
            guest.stations = Stations::new(&rules.macs, |key| lists(&key) == 1);
            guest.egress = rules.egress;
        }
    }

    /// Why a frame with this head is not to be let out, if it is not.
    #[inline]
    pub(crate) fn refuse(&mut self, from: usize, head: &[u8], now_ns: u64) -> Option<Refusal> {
        if let Some(kind) = kind_of(head)
            && !self.0[from].egress.allow(kind)
        {
            return Some(kind);
        }
        let admitted = self.0[from].mac == head[6..12] || self.admits(from, head, now_ns);
        (!admitted).then_some(Refusal::Source)
    }

    /// Returns true if a guest may send from this source, which is not its own address.
    fn admits(&mut self, from: usize, head: &[u8], now_ns: u64) -> bool {
        let source = key_of(&head[6..12]);
        let stations = &mut self.0[from].stations;
        if stations.is_none() || !is_station(source) {
            return false;
        }
        let tags = Tags::of(head);
        if stations.hear(source, tags, now_ns) {
            return true;
        }
        if self.is_reserved(from, source) {
            return false;
        }
        let stations = &mut self.0[from].stations;
        let taken = stations.take(source, tags, now_ns);
        let may_send = taken || stations.takes_all();
        if taken {
            self.others(from).for_each(|guest| guest.stations.leave(source));
        }
        may_send
    }

    fn others(&mut self, than: usize) -> impl Iterator<Item = &mut Guest> {
        let all = self.0.iter_mut().enumerate();
        all.filter(move |(guest, _)| *guest != than).map(|(_, guest)| guest)
    }

    /// Returns true if an address is another guest's own, or listed for another one alone.
    fn is_reserved(&mut self, from: usize, source: u64) -> bool {
        let is_its =
            |guest: &mut Guest| key_of(&guest.mac) == source || guest.stations.is_exclusive(source);
        self.others(from).any(is_its)
    }

    /// The guest that has this address beside its own.
    pub(super) fn station_owner(&self, mac: &[u8]) -> Option<usize> {
        let key = key_of(mac);
        self.0.iter().position(|guest| guest.stations.has(key))
    }

    /// The guests that get what is nobody's.
    pub(super) fn promiscuous(&self) -> GuestSet {
        let all = self.0.iter().enumerate().filter(|(_, guest)| guest.stations.takes_all());
        all.fold(GuestSet::NONE, |set, (guest, _)| set.with(GuestSet::of(guest)))
    }

    /// Who sent a frame of the wire with this source.
    #[inline]
    pub(crate) fn sender(&self, source: &[u8]) -> Sender {
        if let Some(guest) = self.0.iter().position(|guest| guest.mac == source) {
            return Sender::Guest(guest);
        }
        self.station_owner(source).map_or(Sender::Other, Sender::Station)
    }

    /// Somebody on the wire sends from an address that a guest had.
    pub(crate) fn leave(&mut self, guest: usize, source: &[u8]) {
        self.0[guest].stations.leave(key_of(source));
    }

    /// A frame of a guest from this address, beside its own, has come round to a port that is left.
    pub(crate) fn note_return(&mut self, guest: usize, source: &[u8]) {
        self.0[guest].stations.note_return(key_of(source));
    }

    /// Forgets addresses that were silent for long.
    #[inline]
    pub(crate) fn age(&mut self, now_ns: u64) {
        self.0.iter_mut().for_each(|guest| guest.stations.age(now_ns));
    }

    /// When [`Self::age`] has something to look at.
    pub(crate) fn age_due_ns(&self) -> Option<u64> {
        self.0.iter().filter_map(|guest| guest.stations.age_due_ns()).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: [[u8; 6]; 3] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 3]];
    const BEHIND: [u8; 6] = [2, 0, 0, 0, 1, 1];
    const VIRTUAL: [u8; 6] = [0, 0, 0x5e, 0, 1, 51];
    const ELSEWHERE: [u8; 6] = [2, 0, 0, 0, 9, 9];

    fn guests(macs: [MacRule; 3]) -> Guests {
        let mut guests = Guests::new(&OWN);
        let rules = macs.map(|macs| GuestRules { macs, ..GuestRules::default() });
        guests.set_rules(&rules);
        guests
    }

    fn head(source: [u8; 6]) -> [u8; 42] {
        let mut head = [0; 42];
        head[..6].copy_from_slice(&ELSEWHERE);
        head[6..12].copy_from_slice(&source);
        head[12] = 8;
        head
    }

    fn may_send(guests: &mut Guests, from: usize, source: [u8; 6]) -> bool {
        guests.refuse(from, &head(source), 0).is_none()
    }

    fn wire(guests: &Guests, to: [u8; 6]) -> Vec<usize> {
        guests.of_wire(&to).each().collect()
    }

    #[test]
    fn only_what_the_rule_says_is_let_out() {
        let list = MacRule::List(vec![VIRTUAL]);
        let mut guests = guests([MacRule::One, list, MacRule::Learn]);
        let mut sends = |from, source| may_send(&mut guests, from, source);
        assert_eq!([0, 1, 2].map(|from| sends(from, OWN[from])), [true; 3]);
        assert_eq!([0, 1, 2].map(|from| sends(from, BEHIND)), [false, false, true]);
        assert_eq!([0, 1, 2].map(|from| sends(from, VIRTUAL)), [false, true, false]);
        assert!(!sends(2, OWN[0]), "another guest's own address");
        assert!(!sends(2, [1, 0, 0, 0, 0, 1]) && !sends(2, [0; 6]), "no station's address");
    }

    #[test]
    fn what_is_for_a_guests_stations_goes_to_that_guest() {
        let list = MacRule::List(vec![VIRTUAL]);
        let mut guests = guests([MacRule::One, list, MacRule::Learn]);
        assert_eq!(wire(&guests, VIRTUAL), [1], "before it has sent from it");
        assert_eq!(wire(&guests, BEHIND), [0; 0]);
        may_send(&mut guests, 2, BEHIND);
        assert_eq!(wire(&guests, BEHIND), [2]);
        let route = guests.of_guest(0, &BEHIND);
        assert_eq!((route.guests, route.wire), (GuestSet::of(2), false));
    }

    #[test]
    fn one_guest_gets_what_is_nobodys_and_none_what_is_anothers() {
        let mut guests = guests([MacRule::One, MacRule::Promiscuous, MacRule::Learn]);
        assert!(may_send(&mut guests, 1, BEHIND));
        may_send(&mut guests, 2, VIRTUAL);
        let to = [ELSEWHERE, BEHIND, OWN[0], OWN[2], VIRTUAL];
        assert_eq!(to.map(|to| wire(&guests, to)[0]), [1, 1, 0, 2, 2]);
        let route = guests.of_guest(0, &ELSEWHERE);
        assert_eq!((route.guests, route.wire), (GuestSet::of(1), true));
        assert!(guests.of_guest(1, &ELSEWHERE).guests.is_empty(), "nothing comes back");
    }

    #[test]
    fn the_virtual_address_of_two_routers_is_with_the_one_that_sends() {
        let list = || MacRule::List(vec![VIRTUAL]);
        let mut guests = guests([list(), list(), MacRule::Learn]);
        assert_eq!(wire(&guests, VIRTUAL), [0; 0], "none has it yet");
        assert!(may_send(&mut guests, 0, VIRTUAL));
        assert_eq!(wire(&guests, VIRTUAL), [0]);
        assert!(may_send(&mut guests, 1, VIRTUAL));
        assert_eq!(wire(&guests, VIRTUAL), [1]);
        assert_eq!(guests.sender(&VIRTUAL), Sender::Station(1));
        guests.leave(1, &VIRTUAL);
        assert_eq!(guests.sender(&VIRTUAL), Sender::Other);
        assert!(may_send(&mut guests, 2, VIRTUAL), "two lists reserve it for neither");
    }

    #[test]
    fn a_single_guest_with_more_addresses_gets_only_what_is_for_them() {
        let mut guests = Guests::new(&OWN[..1]);
        assert_eq!(wire(&guests, ELSEWHERE), [0]);
        guests.set_rules(&[GuestRules { macs: MacRule::Learn, ..GuestRules::default() }]);
        assert_eq!(wire(&guests, ELSEWHERE), [0; 0]);
        may_send(&mut guests, 0, BEHIND);
        assert_eq!([OWN[0], BEHIND, [0xff; 6]].map(|to| wire(&guests, to)[0]), [0, 0, 0]);
    }

    #[test]
    fn ageing_is_asked_for_when_it_is_due() {
        let mut guests = guests([MacRule::One, MacRule::Learn, MacRule::Learn]);
        assert_eq!(guests.age_due_ns(), None);
        may_send(&mut guests, 1, BEHIND);
        let due = guests.age_due_ns().unwrap();
        guests.age(due);
        assert_eq!((guests.age_due_ns(), guests.sender(&BEHIND)), (None, Sender::Other));
    }
}

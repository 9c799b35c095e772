//! Who sends: which sources a guest may use, and whose an address is that guests have beside their
//! own.
//!
//! An address is with the guest that sent from it last. When it is heard from elsewhere, it has moved
//! there, as the virtual address of two routers does, and its guest gets that frame. But while two
//! ports are open, and for a while after a takeover, it is the guest's own frame that has come back
//! through the other port.

use super::{Guest, Guests};
use crate::macs::{FurtherMacs, GuestRules, MacRule, Refusal, is_unicast, key_of, kind_of};

/// How a guest's frame is let out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admitted {
    /// The guest has the address that it comes from.
    Known,
    /// The guest may send from any address, and there is no place to remember this one.
    Passing,
}

/// Who sent a frame that came from the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    /// None of the guests that are here.
    Other,
    /// This guest, from its own address.
    Guest(usize),
    /// This guest has, or had, the address beside its own.
    Further(usize),
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
        for (guest, rules) in self.list.iter_mut().zip(rules) {
            guest.further = FurtherMacs::new(&rules.macs, |key| lists(&key) == 1);
            guest.egress = rules.egress;
        }
    }

    /// Sets the time of the frames that follow, and forgets addresses that were silent for long.
    #[inline]
    pub(crate) fn tick(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
        self.list.iter_mut().for_each(|guest| guest.further.age(now_ns));
    }

    /// When [`Self::tick`] has addresses to look at.
    pub(crate) fn due_ns(&self) -> Option<u64> {
        self.list.iter().filter_map(|guest| guest.further.age_due_ns()).min()
    }

    /// Lets a guest's frame with this head out, and learns its source if it is new.
    ///
    /// # Errors
    /// It is not to be let out.
    #[inline]
    pub(crate) fn admit(&mut self, from: usize, head: &[u8]) -> Result<Admitted, Refusal> {
        if let Some(kind) = kind_of(head)
            && !self.list[from].egress.allow(kind)
        {
            return Err(kind);
        }
        if self.list[from].mac == head[6..12] {
            return Ok(Admitted::Known);
        }
        self.admit_further(from, &head[6..12]).ok_or(Refusal::Source)
    }

    /// The same of a source that is not the guest's own address.
    fn admit_further(&mut self, from: usize, source: &[u8]) -> Option<Admitted> {
        let (source, now_ns) = (key_of(source), self.now_ns);
        let further = &mut self.list[from].further;
        if further.is_none() || !is_unicast(source) {
            return None;
        }
        if further.hear(source, now_ns) {
            return Some(Admitted::Known);
        }
        if self.is_reserved(from, source) {
            return None;
        }
        let further = &mut self.list[from].further;
        if !further.take(source, now_ns) {
            return further.takes_all().then_some(Admitted::Passing);
        }
        self.others(from).for_each(|guest| guest.further.leave(source));
        Some(Admitted::Known)
    }

    fn others(&mut self, than: usize) -> impl Iterator<Item = &mut Guest> {
        let all = self.list.iter_mut().enumerate();
        all.filter(move |(guest, _)| *guest != than).map(|(_, guest)| guest)
    }

    /// Returns true if an address is another guest's own, or listed for another one alone.
    fn is_reserved(&mut self, from: usize, source: u64) -> bool {
        let is_its =
            |guest: &mut Guest| key_of(&guest.mac) == source || guest.further.is_exclusive(source);
        self.others(from).any(is_its)
    }

    /// Who sent a frame of the wire with this source.
    #[inline]
    pub(crate) fn sender(&self, source: &[u8]) -> Sender {
        match self.owner(source) {
            None => Sender::Other,
            Some(guest) if self.list[guest].mac == source => Sender::Guest(guest),
            Some(guest) => Sender::Further(guest),
        }
    }

    /// Somebody on the wire sends from an address that a guest had.
    pub(crate) fn leave(&mut self, guest: usize, source: &[u8]) {
        self.list[guest].further.leave(key_of(source));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest_set::GuestSet;

    const OWN: [[u8; 6]; 3] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 3]];
    const BEHIND: [u8; 6] = [2, 0, 0, 0, 1, 1];
    const VIRTUAL: [u8; 6] = [0, 0, 0x5e, 0, 1, 51];
    const ELSEWHERE: [u8; 6] = [2, 0, 0, 0, 9, 9];

    fn here(macs: &[[u8; 6]]) -> Guests {
        let mut guests = Guests::new(macs, 1526);
        (0..guests.count()).for_each(|guest| guests.set_here(guest, true));
        guests
    }

    fn guests(macs: [MacRule; 3]) -> Guests {
        let mut guests = here(&OWN);
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
        guests.admit(from, &head(source)).is_ok()
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
        assert!(!sends(2, [1, 0, 0, 0, 0, 1]) && !sends(2, [0; 6]), "no host's address");
    }

    #[test]
    fn what_is_for_a_guests_further_addresses_goes_to_that_guest() {
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
        assert_eq!(guests.sender(&VIRTUAL), Sender::Further(1));
        guests.leave(1, &VIRTUAL);
        assert_eq!(guests.sender(&VIRTUAL), Sender::Other);
        assert!(may_send(&mut guests, 2, VIRTUAL), "two lists reserve it for neither");
    }

    #[test]
    fn a_single_guest_with_more_addresses_gets_only_what_is_for_them() {
        let mut guests = here(&OWN[..1]);
        assert_eq!(wire(&guests, ELSEWHERE), [0]);
        guests.set_rules(&[GuestRules { macs: MacRule::Learn, ..GuestRules::default() }]);
        assert_eq!(wire(&guests, ELSEWHERE), [0; 0]);
        may_send(&mut guests, 0, BEHIND);
        assert_eq!([OWN[0], BEHIND, [0xff; 6]].map(|to| wire(&guests, to)[0]), [0, 0, 0]);
    }

    #[test]
    fn ageing_is_asked_for_when_it_is_due() {
        let mut guests = guests([MacRule::One, MacRule::Learn, MacRule::Learn]);
        assert_eq!(guests.due_ns(), None);
        may_send(&mut guests, 1, BEHIND);
        let due = guests.due_ns().unwrap();
        guests.tick(due);
        assert_eq!((guests.due_ns(), guests.sender(&BEHIND)), (None, Sender::Other));
    }

    #[test]
    fn the_addresses_of_a_guest_that_is_not_here_are_hosts_on_the_wire() {
        let list = MacRule::List(vec![VIRTUAL]);
        let mut guests = guests([MacRule::One, list, MacRule::Promiscuous]);
        assert!(may_send(&mut guests, 1, VIRTUAL));
        guests.set_here(1, false);
        assert_eq!(guests.sender(&VIRTUAL), Sender::Other);
        let route = guests.of_guest(0, &VIRTUAL);
        assert_eq!((route.guests, route.wire), (GuestSet::of(2), true));
        assert_eq!(wire(&guests, VIRTUAL), [1], "counted as for nobody");
        guests.set_here(2, false);
        assert!(guests.of_guest(0, &ELSEWHERE).guests.is_empty());
    }

    #[test]
    fn a_source_without_a_place_passes_from_a_promiscuous_guest_alone() {
        let mut guests = guests([MacRule::One, MacRule::Promiscuous, MacRule::Learn]);
        let source = |n: usize| [2, 1, 1, 1, 1, n as u8];
        for from in [1, 2] {
            for n in 0..crate::limits::FURTHER_MACS {
                let source = [2, from as u8, 1, 1, 1, n as u8];
                assert_eq!(guests.admit(from, &head(source)), Ok(Admitted::Known));
            }
        }
        assert_eq!(guests.admit(1, &head(source(99))), Ok(Admitted::Passing));
        assert_eq!(guests.admit(2, &head(source(99))), Err(Refusal::Source));
    }
}

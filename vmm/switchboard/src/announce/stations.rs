//! What is known of one guest: its stations (a MAC address in a VLAN), the addresses and groups of
//! each, and which of their announcements are still to go out.
//!
//! A round of announcements goes through the stations with the busiest first: one announcement of
//! each, then the groups, then what other addresses there are. So each address and each VLAN is back
//! soon, however many addresses another one has.
//!
//! An IP address is at one of the guest's MAC addresses in a VLAN, the one that spoke for it last.
//!
//! Invariants: the first station is the guest's own MAC address without tags, and stays; a table
//! never grows past [`STATIONS`], and the station that was heard longest ago makes room; a station
//! that was forgotten leaves a vacant place, which no frame finds and no announcement tells of.

use std::cmp::Reverse;

use platform::budget::VLAN_AGE;

use super::addresses::{Addresses, GLANCE_BYTES, LEARN_BYTES};
use super::announcement::Announcement;
use super::groups::Groups;
use super::neighbours::{Heard, Ip};
use super::report_frames::{Sources, next_report};
use super::reports::{self, Group, REPORT_BYTES};
use super::station::{Key, Station};
use crate::limits::STATIONS;
use crate::vlan::{TAGS_BYTES, Tags, untagged};

const HINTS: usize = 128;
/// Stations looked at in each millisecond for who else has an address, so that a flood of claims
/// costs others little; what is claimed beyond that is not heard.
const LOOKS_EACH: usize = 32 * STATIONS;
/// Stations added in each millisecond, so that a flood of new tags or addresses costs others little;
/// frames of more are not learned from.
const ADDS_EACH: usize = STATIONS / 4;
/// Of a vacant place. No host has it.
const VACANT: Key = ([0; 6], Tags::NONE);

/// What is known of a guest. Plain data; nothing here allocates after [`Stations::new`].
#[derive(Debug)]
pub(super) struct Stations {
    list: Vec<Station>,
    /// Where a station is likely to be, by [`hint`].
    hints: [u8; HINTS],
    /// Those that are announced, the busiest first.
    order: Vec<u8>,
    groups: Groups,
    /// How many stations may still be looked at in this millisecond.
    looks_left: usize,
    /// How many may still be added in it.
    adds_left: usize,
    /// Something is to be announced.
    pending: bool,
}

impl Stations {
    /// Of a guest with this MAC address.
    pub(super) fn new(mac: [u8; 6]) -> Self {
        let mut list = Vec::with_capacity(STATIONS);
        list.push(Station::new((mac, Tags::NONE)));
        Self {
            list,
            hints: [0; HINTS],
            order: Vec::with_capacity(STATIONS),
            groups: Groups::new(),
            looks_left: LOOKS_EACH,
            adds_left: ADDS_EACH,
            pending: false,
        }
    }

    /// Looks at a frame that the guest sends from an address that it has: `glance` is its head,
    /// zero-padded; `peek` gets more of it for the few frames that need that, and returns how much
    /// there was.
    #[inline]
    pub(super) fn learn(
        &mut self,
        glance: &[u8; GLANCE_BYTES],
        now_s: u32,
        peek: impl Fn(&mut [u8]) -> usize,
    ) {
        let (key, at) = key_of(glance);
        let is_first = key == self.list[0].key();
        let Some(number) = (if is_first { Some(0) } else { self.find_or_add(key, now_s) }) else {
            return;
        };
        self.list[number].hear(now_s);
        if at == 12 {
            self.learn_from(number, (glance, at), now_s, peek);
        } else {
            let mut head = [0; GLANCE_BYTES + TAGS_BYTES];
            peek(&mut head);
            self.learn_from(number, (&untagged(&head, at), at), now_s, peek);
        }
    }

    #[inline]
    fn learn_from(
        &mut self,
        number: usize,
        (glance, at): (&[u8; GLANCE_BYTES], usize),
        now_s: u32,
        peek: impl Fn(&mut [u8]) -> usize,
    ) {
        if reports::may_be(glance) {
            self.learn_groups(number, at, &peek);
        }
        let new = self.list[number].addresses.learn(glance, now_s, || {
            let mut head = [0; LEARN_BYTES + TAGS_BYTES];
            peek(&mut head);
            untagged(&head, at)
        });
        if let Some(address) = new {
            if let Ip::V6(address) = address {
                self.groups.join(number, Group::solicited_node(address));
            }
            let (mac, tags) = self.list[number].key();
            self.each_other(mac, tags, |addresses| addresses.forget(address));
        }
    }

    /// Has a look at the addresses of all stations in a VLAN but those with this MAC address.
    fn each_other(&mut self, mac: [u8; 6], tags: Tags, look: impl Fn(&mut Addresses)) {
        let Some(looks_left) = self.looks_left.checked_sub(self.list.len()) else { return };
        self.looks_left = looks_left;
        let others = self.list.iter_mut().filter(|it| it.tags == tags && it.mac != mac);
        others.for_each(|station| look(&mut station.addresses));
    }

    /// Reads a report of groups.
    #[cold]
    fn learn_groups(&mut self, number: usize, at: usize, peek: &impl Fn(&mut [u8]) -> usize) {
        let mut frame = [0; REPORT_BYTES + TAGS_BYTES];
        let len = peek(&mut frame);
        frame.copy_within(at..len.max(at), 12);
        let len = len.saturating_sub(at - 12);
        let groups = &mut self.groups;
        reports::read(&frame[..len], |change| groups.note(number, &change));
    }

    fn find(&self, key: Key) -> Option<usize> {
        let is_it = |station: &Station| station.key() == key;
        let likely = usize::from(self.hints[hint(key)]);
        if self.list.get(likely).is_some_and(is_it) {
            return Some(likely);
        }
        self.list.iter().position(is_it)
    }

    fn find_or_add(&mut self, key: Key, now_s: u32) -> Option<usize> {
        let number = self.find(key).or_else(|| self.add(key, now_s))?;
        self.hints[hint(key)] = number as u8;
        Some(number)
    }

    /// Adds a station, in place of the one that was heard longest ago if there is no room. `None` if
    /// there were too many in this millisecond.
    #[cold]
    fn add(&mut self, key: Key, now_s: u32) -> Option<usize> {
        self.adds_left = self.adds_left.checked_sub(1)?;
        let vacant = self.list.iter().position(|station| station.key() == VACANT);
        let number = vacant.unwrap_or_else(|| self.make_room(now_s));
        self.list[number] = Station::new(key);
        Some(number)
    }

    /// A place that was not taken before, or the one of the station that was heard longest ago.
    fn make_room(&mut self, now_s: u32) -> usize {
        if self.list.len() < STATIONS {
            self.list.push(Station::new(VACANT));
            return self.list.len() - 1;
        }
        let age = |number: &usize| {
            let station = &self.list[*number];
            let age_s = station.heard_s.map(|heard_s| now_s.saturating_sub(heard_s));
            (age_s, Reverse(station.frames))
        };
        let oldest = (1..STATIONS).max_by_key(age).unwrap_or(1);
        self.forget(oldest);
        oldest
    }

    /// Forgets a station.
    fn forget(&mut self, number: usize) {
        self.groups.forget(number);
        self.order.retain(|it| usize::from(*it) != number);
        self.list[number] = Station::new(VACANT);
    }

    /// Forgets the stations with MAC addresses beside the guest's own, but for those that it has.
    pub(super) fn retain(&mut self, has: impl Fn(&[u8; 6]) -> bool) {
        for number in 1..self.list.len() {
            let Station { mac, .. } = self.list[number];
            if mac != self.list[0].mac && mac != VACANT.0 && !has(&mac) {
                self.forget(number);
            }
        }
    }

    /// Somebody else has said something in a VLAN.
    pub(super) fn hear_other(&mut self, tags: Tags, heard: &Heard, now_s: u32) {
        self.each_other(heard.by, tags, |addresses| {
            if let Some(address) = heard.claimed {
                addresses.forget(address);
            }
            if let Some(address) = heard.asked {
                addresses.ask(address, now_s);
            }
        });
    }

    /// The guest's rings have stopped. Whoever uses them next may have other addresses.
    pub(super) fn forget_addresses(&mut self) {
        self.list.iter_mut().for_each(|station| station.addresses = Addresses::new());
    }

    /// A millisecond is over.
    pub(super) fn refill(&mut self) {
        self.groups.refill();
        self.looks_left = LOOKS_EACH;
        self.adds_left = ADDS_EACH;
    }

    /// Everything is to be announced.
    pub(super) fn mark_all(&mut self, now_s: u32) {
        self.find_order(now_s);
        let Self { list, order, groups, .. } = self;
        order.iter().for_each(|number| list[usize::from(*number)].mark_all(now_s));
        groups.set_pending(|station| order.contains(&(station as u8)));
        self.pending = true;
    }

    /// Finds out which stations are announced, and in which order: those that the guest uses, and its
    /// own MAC address in any case.
    fn find_order(&mut self, now_s: u32) {
        let Self { list, order, .. } = self;
        let newest_s = list.iter().filter_map(|station| station.heard_s).max();
        let is_used = |station: &Station| {
            let age_s = newest_s.zip(station.heard_s).map(|(newest_s, heard_s)| newest_s - heard_s);
            age_s.is_some_and(|age_s| age_s <= VLAN_AGE.as_secs() as u32)
        };
        order.clear();
        order.extend((0..list.len()).filter(|number| is_used(&list[*number])).map(|n| n as u8));
        let is_own = |number: &usize| list[*number].mac == list[0].mac;
        if !order.iter().any(|number| is_own(&usize::from(*number))) {
            let own = (0..list.len()).filter(is_own).max_by_key(|number| list[*number].heard_s);
            order.push(own.unwrap_or(0) as u8);
        }
        order.sort_unstable_by_key(|number| {
            let station = &list[usize::from(*number)];
            Reverse((station.weight(now_s), station.heard_s))
        });
    }

    /// Nothing is to be announced any more. Returns true if something was.
    pub(super) fn stop(&mut self) -> bool {
        let was = std::mem::take(&mut self.pending);
        if was {
            self.list.iter_mut().for_each(|station| station.pending = 0);
            self.groups.set_pending(|_| false);
        }
        was
    }

    /// Returns true if something is to be announced.
    #[inline]
    pub(super) fn is_pending(&self) -> bool {
        self.pending
    }

    /// The next announcement of the round. Nothing is to be announced any more if there is none.
    pub(super) fn next(&mut self, now_s: u32) -> Option<Announcement> {
        if !self.pending {
            return None;
        }
        let next = self
            .next_of(|station| station.is_fresh && station.pending != 0, now_s)
            .or_else(|| self.next_report(now_s))
            .or_else(|| self.next_of(|station| station.pending != 0, now_s));
        self.pending = next.is_some() && self.has_more();
        next
    }

    fn has_more(&mut self) -> bool {
        self.list.iter().any(|station| station.pending != 0)
            || self.groups.list().iter().any(|group| group.pending)
    }

    fn next_of(&mut self, wanted: impl Fn(&Station) -> bool, now_s: u32) -> Option<Announcement> {
        let Self { list, order, .. } = self;
        order.iter().find_map(|number| {
            let station = &mut list[usize::from(*number)];
            if wanted(station) { station.take(now_s) } else { None }
        })
    }

    fn next_report(&mut self, now_s: u32) -> Option<Announcement> {
        let Self { list, order, groups, .. } = self;
        if !groups.list().iter().any(|group| group.pending) {
            return None;
        }
        order.iter().find_map(|number| {
            let number = usize::from(*number);
            let station = &list[number];
            let sources = Sources {
                v4: station.addresses.any_v4(now_s).unwrap_or_default(),
                v6: station.addresses.link_local(now_s).unwrap_or_default(),
            };
            next_report((number, station.mac, station.tags), &sources, groups.list())
        })
    }

    /// A planned switch begins: nothing has come round to the port that is left.
    pub(super) fn forget_returned(&mut self) {
        self.list.iter_mut().for_each(|station| station.returned = false);
    }

    /// A frame of the guest with this head has come in at the port that was left.
    pub(super) fn note_returned(&mut self, head: &[u8]) {
        if let Some(number) = self.find(key_of(head).0) {
            self.list[number].returned = true;
        }
    }

    /// Returns true if frames of all stations that are announced have.
    pub(super) fn have_returned(&self) -> bool {
        let mut announced = self.order.iter().map(|number| &self.list[usize::from(*number)]);
        !self.order.is_empty() && announced.all(|station| station.returned)
    }
}

/// The station that a frame with this head comes from, and where the EtherType is.
#[inline]
fn key_of(head: &[u8]) -> (Key, usize) {
    let (tags, at) = Tags::read(head);
    let mac = head.get(6..).and_then(|rest| rest.first_chunk());
    ((mac.copied().unwrap_or_default(), tags), at)
}

/// A small number that differs for most stations of a guest.
#[inline]
fn hint((mac, tags): Key) -> usize {
    let [.., a, b] = mac;
    (tags.hint() as usize ^ usize::from(a) << 3 ^ usize::from(b)) % HINTS
}

#[cfg(test)]
mod tests;

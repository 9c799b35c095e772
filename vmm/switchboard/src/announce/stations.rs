//! What is known of one guest: its stations (a MAC address in a VLAN), the addresses and groups of
//! each, and which of their announcements are still to go out.
//!
//! A round of announcements goes through the stations with the busiest first: one announcement of
//! each, then the groups, then what other addresses there are. So each VLAN is back soon, however
//! many addresses another one has.
//!
//! Invariants: the first station is the guest's MAC address without tags, and stays; a table never
//! grows past [`STATIONS`], and the station that was heard longest ago makes room.

use platform::budget::VLAN_AGE;

use super::addresses::{Addresses, GLANCE_BYTES, LEARN_BYTES};
use super::announcement::{Announced, Announcement};
use super::groups::Groups;
use super::neighbours::Heard;
use super::report_frames::{Sources, next_report};
use super::reports::{self, Group, REPORT_BYTES};
use super::vlan::{TAGS_BYTES, Tags, untagged};
use crate::limits::{ADDRESSES, STATIONS};

/// Places of a station's announcements: all addresses of both families, then the frame without one.
const NAMELESS: usize = 2 * ADDRESSES;
const HINTS: usize = 64;

/// One station.
#[derive(Debug)]
struct Station {
    mac: [u8; 6],
    tags: Tags,
    addresses: Addresses,
    /// Frames that it sent, each second worth half as much as the next.
    frames: u32,
    /// When it was heard last, seconds; `None` if it never was.
    heard_s: Option<u32>,
    /// Places to be announced, as bits.
    pending: u32,
    /// Nothing of it was announced in this round.
    is_fresh: bool,
    /// A frame of it has come in at the port that was left.
    returned: bool,
}

impl Station {
    fn new(mac: [u8; 6], tags: Tags) -> Self {
        Self {
            mac,
            tags,
            addresses: Addresses::new(),
            frames: 0,
            heard_s: None,
            pending: 0,
            is_fresh: false,
            returned: false,
        }
    }

    /// Counts a frame that it sends.
    #[inline]
    fn hear(&mut self, now_s: u32) {
        if self.heard_s != Some(now_s) {
            self.frames = self.weight(now_s);
            self.heard_s = Some(now_s);
            self.addresses.look_again();
        }
        self.frames = self.frames.saturating_add(1);
    }

    /// What the frames that it sent are worth now.
    fn weight(&self, now_s: u32) -> u32 {
        let age_s = self.heard_s.map_or(0, |heard_s| now_s.saturating_sub(heard_s));
        self.frames.checked_shr(age_s).unwrap_or(0)
    }

    /// All places that there is something to announce at, as bits.
    fn all(&self, now_s: u32) -> u32 {
        let known = (0..NAMELESS).filter(|place| self.addresses.at(*place, now_s).is_some());
        match known.fold(0, |bits, place| bits | 1 << place) {
            0 => 1 << NAMELESS,
            bits => bits,
        }
    }

    /// The announcement of the next place that is pending.
    fn take(&mut self, now_s: u32) -> Option<Announcement> {
        let mut what = None;
        while self.pending != 0 && what.is_none() {
            let place = self.pending.trailing_zeros() as usize;
            self.pending &= self.pending - 1;
            what = match place {
                NAMELESS => Some(Announced::Nothing),
                place => self.addresses.at(place, now_s),
            };
        }
        // Its addresses may have gone elsewhere meanwhile; it is announced all the same.
        let was_fresh = std::mem::take(&mut self.is_fresh);
        let what = what.or(was_fresh.then_some(Announced::Nothing))?;
        Some(Announcement::new((self.mac, self.tags), what))
    }
}

/// What is known of a guest. Plain data; nothing here allocates after [`Stations::new`].
#[derive(Debug)]
pub(super) struct Stations {
    list: Vec<Station>,
    /// Where a station is likely to be, by [`Tags::hint`].
    hints: [u8; HINTS],
    /// Those that are announced, the busiest first.
    order: Vec<u8>,
    groups: Groups,
    /// Something is to be announced.
    pending: bool,
}

impl Stations {
    pub(super) fn new(mac: [u8; 6]) -> Self {
        let mut list = Vec::with_capacity(STATIONS);
        list.push(Station::new(mac, Tags::NONE));
        let order = Vec::with_capacity(STATIONS);
        Self { list, hints: [0; HINTS], order, groups: Groups::new(), pending: false }
    }

    /// Returns true if the guest sends from this address.
    #[inline]
    fn is_own(&self, mac: &[u8]) -> bool {
        self.list[0].mac == mac
    }

    /// Looks at a frame that the guest sends: `glance` is its head, zero-padded; `peek` gets more
    /// of it for the few frames that need that, and returns how much there was.
    #[inline]
    pub(super) fn learn(
        &mut self,
        glance: &[u8; GLANCE_BYTES],
        now_s: u32,
        peek: impl Fn(&mut [u8]) -> usize,
    ) {
        if !self.is_own(&glance[6..12]) {
            return;
        }
        let (tags, at) = Tags::read(glance);
        let number = match at {
            12 => 0,
            _ => self.find_or_add(tags, now_s),
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
            self.groups.join(number, Group::solicited_node(address));
        }
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

    fn find(&self, tags: Tags) -> Option<usize> {
        let hint = usize::from(self.hints[tags.hint() as usize % HINTS]);
        let is_it = |station: &Station| station.tags == tags;
        if self.list.get(hint).is_some_and(is_it) {
            return Some(hint);
        }
        self.list.iter().position(is_it)
    }

    fn find_or_add(&mut self, tags: Tags, now_s: u32) -> usize {
        let number = self.find(tags).unwrap_or_else(|| self.add(tags, now_s));
        self.hints[tags.hint() as usize % HINTS] = number as u8;
        number
    }

    /// Adds a station, in place of the one that was heard longest ago if there is no room.
    #[cold]
    fn add(&mut self, tags: Tags, now_s: u32) -> usize {
        let station = Station::new(self.list[0].mac, tags);
        if self.list.len() < STATIONS {
            self.list.push(station);
            return self.list.len() - 1;
        }
        let age = |number: &usize| {
            let station = &self.list[*number];
            (
                station.heard_s.map(|heard_s| now_s.saturating_sub(heard_s)),
                u32::MAX - station.frames,
            )
        };
        let oldest = (1..STATIONS).max_by_key(age).unwrap_or(1);
        self.groups.forget(oldest);
        self.list[oldest] = station;
        oldest
    }

    /// Somebody else has said something in a VLAN.
    pub(super) fn hear_other(&mut self, tags: Tags, heard: &Heard, now_s: u32) {
        if self.is_own(&heard.by) {
            return;
        }
        let Some(number) = self.find(tags) else { return };
        let addresses = &mut self.list[number].addresses;
        if let Some(address) = heard.claimed {
            addresses.forget(address);
        }
        if let Some(address) = heard.asked {
            addresses.ask(address, now_s);
        }
    }

    /// The guest's rings have stopped. Whoever uses them next may have other addresses.
    pub(super) fn forget_addresses(&mut self) {
        self.list.iter_mut().for_each(|station| station.addresses = Addresses::new());
    }

    /// A millisecond is over.
    pub(super) fn refill(&mut self) {
        self.groups.refill();
    }

    /// Everything is to be announced.
    pub(super) fn mark_all(&mut self, now_s: u32) {
        let Self { list, order, groups, .. } = self;
        let newest_s = list.iter().filter_map(|station| station.heard_s).max();
        let is_used = |station: &Station| {
            let age_s = newest_s.zip(station.heard_s).map(|(newest_s, heard_s)| newest_s - heard_s);
            age_s.is_some_and(|age_s| age_s <= VLAN_AGE.as_secs() as u32)
        };
        order.clear();
        order.extend((0..list.len()).filter(|number| is_used(&list[*number])).map(|n| n as u8));
        if order.is_empty() {
            order.push(0);
        }
        order.sort_unstable_by_key(|number| {
            let station = &list[usize::from(*number)];
            std::cmp::Reverse((station.weight(now_s), station.heard_s))
        });
        for number in order.iter() {
            let station = &mut list[usize::from(*number)];
            (station.pending, station.is_fresh) = (station.all(now_s), true);
        }
        groups.set_pending(|station| order.contains(&(station as u8)));
        self.pending = true;
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

    /// A frame of the guest has come in at the port that was left.
    pub(super) fn note_returned(&mut self, tags: Tags) {
        if let Some(number) = self.find(tags) {
            self.list[number].returned = true;
        }
    }

    /// Returns true if frames of all stations that are announced have.
    pub(super) fn have_returned(&self) -> bool {
        let mut announced = self.order.iter().map(|number| &self.list[usize::from(*number)]);
        !self.order.is_empty() && announced.all(|station| station.returned)
    }
}

#[cfg(test)]
mod tests;

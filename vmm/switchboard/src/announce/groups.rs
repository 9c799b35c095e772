//! The multicast groups that a guest has joined, remembered from its reports (IGMP, MLD).
//!
//! A switch that snoops forwards a group to the ports from which it was reported, and a guest
//! reports again only when it is asked, up to minutes later. So the groups are reported for it
//! when it has a new port.
//!
//! Each group is remembered with what the guest wants of it: any source (exclude mode; which
//! sources it excludes does not matter, it leaves those out itself), or a few sources (include
//! mode). A guest that names more sources than fit is taken to want any.
//!
//! Invariants: a table never grows past [`GROUPS`], and the group that was noted first makes room;
//! no more than [`CHANGES_EACH`] changes are looked at between two calls of [`Groups::refill`].

use super::reports::{Change, Group, Kind};

/// Groups remembered of each guest.
pub(super) const GROUPS: usize = 128;
/// Sources remembered of each group.
const SOURCES: usize = 4;
/// Changes looked at in each millisecond, so that a guest that does nothing but report costs
/// others little; the rest is not remembered until it is reported again.
const CHANGES_EACH: u32 = 2 * GROUPS as u32;

/// What a guest wants of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Membership {
    /// Number of the guest's station that joined.
    pub(super) station: usize,
    pub(super) group: Group,
    /// Version of the protocol in which it was reported: 1 to 3 for IGMP, 1 and 2 for MLD.
    pub(super) version: u8,
    sources: [[u8; 16]; SOURCES],
    /// How many of them it wants; `None` for any.
    wanted: Option<usize>,
    /// It is to be reported.
    pub(super) pending: bool,
}

impl Membership {
    fn new(station: usize, group: Group, version: u8) -> Self {
        let sources = [[0; 16]; SOURCES];
        Self { station, group, version, sources, wanted: Some(0), pending: false }
    }

    /// The sources that it wants; `None` for any.
    pub(super) fn sources(&self) -> Option<&[[u8; 16]]> {
        self.wanted.map(|count| &self.sources[..count])
    }

    fn add(&mut self, source: [u8; 16]) {
        let Some(count) = self.wanted else { return };
        if self.sources[..count].contains(&source) {
            return;
        }
        match self.sources.get_mut(count) {
            Some(place) => {
                *place = source;
                self.wanted = Some(count + 1);
            }
            None => self.wanted = None,
        }
    }

    fn remove(&mut self, source: [u8; 16]) {
        let Some(count) = self.wanted else { return };
        if let Some(place) = self.sources[..count].iter().position(|it| *it == source) {
            self.sources.swap(place, count - 1);
            self.wanted = Some(count - 1);
        }
    }

    fn change(&mut self, change: &Change<'_>) {
        match change.kind {
            Kind::Exclude => self.wanted = None,
            Kind::Include => {
                self.wanted = Some(0);
                change.sources().for_each(|source| self.add(source));
            }
            Kind::Allow => change.sources().for_each(|source| self.add(source)),
            Kind::Block => change.sources().for_each(|source| self.remove(source)),
        }
    }
}

/// The groups of a guest. Plain data; nothing here allocates after [`Groups::new`].
#[derive(Debug)]
pub(super) struct Groups {
    list: Vec<Membership>,
    /// The entry that makes room next.
    oldest: usize,
    changes_left: u32,
}

impl Groups {
    pub(super) fn new() -> Self {
        Self { list: Vec::with_capacity(GROUPS), oldest: 0, changes_left: CHANGES_EACH }
    }

    /// A millisecond is over.
    pub(super) fn refill(&mut self) {
        self.changes_left = CHANGES_EACH;
    }

    /// Notes what a station reports of a group.
    pub(super) fn note(&mut self, station: usize, change: &Change<'_>) {
        if self.changes_left == 0 || !change.group.is_reported() {
            return;
        }
        self.changes_left -= 1;
        let known = self.find(station, change.group);
        if known.is_none() && change.takes_away() {
            return;
        }
        let place = known
            .unwrap_or_else(|| self.add(Membership::new(station, change.group, change.version)));
        let member = &mut self.list[place];
        member.version = change.version;
        member.change(change);
        if member.wanted == Some(0) {
            self.remove(place);
        }
    }

    /// Has a group reported that the station needs, if it is not known to be in it.
    pub(super) fn join(&mut self, station: usize, group: Group) {
        if self.find(station, group).is_none() {
            let is_sibling = |it: &&Membership| it.station == station && it.group.is_alike(group);
            let version = self.list.iter().find(is_sibling).map(|it| it.version);
            let newest = Membership::new(station, group, version.unwrap_or(group.newest_version()));
            self.add(Membership { wanted: None, ..newest });
        }
    }

    /// Forgets the groups of a station.
    pub(super) fn forget(&mut self, station: usize) {
        self.list.retain(|it| it.station != station);
        self.oldest = 0;
    }

    /// Sets whether the groups of some stations are to be reported.
    pub(super) fn set_pending(&mut self, pending: impl Fn(usize) -> bool) {
        self.list.iter_mut().for_each(|it| it.pending = pending(it.station));
    }

    pub(super) fn list(&mut self) -> &mut [Membership] {
        &mut self.list
    }

    fn find(&self, station: usize, group: Group) -> Option<usize> {
        self.list.iter().position(|it| it.group == group && it.station == station)
    }

    /// Adds an entry, in place of the oldest if there is no room. Returns its place.
    fn add(&mut self, member: Membership) -> usize {
        if self.list.len() < GROUPS {
            self.list.push(member);
            return self.list.len() - 1;
        }
        let place = self.oldest;
        self.oldest = (self.oldest + 1) % GROUPS;
        self.list[place] = member;
        place
    }

    fn remove(&mut self, place: usize) {
        // In order, so that the oldest stays at the front.
        self.list.remove(place);
        self.oldest = 0;
    }
}

#[cfg(test)]
mod tests;

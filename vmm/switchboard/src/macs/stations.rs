//! The MAC addresses of a guest beside its own: stations behind it, such as containers, or the
//! virtual address of a router.
//!
//! A *listed* address stays for ever; the guest has it *here* or not. A *learned* one is entered when
//! the guest first sends from it, and leaves when the guest has not for [`STATION_AGE`], or when
//! somebody else sends from it. Where all places are taken, the one that was silent for longest makes
//! room, unless it spoke within [`STATION_GRACE`]: so a flood of source addresses costs little, and
//! does not push out stations that speak.
//!
//! Invariant: nothing here allocates after [`Stations::new`].

use platform::budget::{STATION_AGE, STATION_GRACE};

use super::Tags;
use super::rule::MacRule;
use crate::limits::STATIONS;

const AGE_NS: u64 = STATION_AGE.as_nanos() as u64;
const GRACE_NS: u64 = STATION_GRACE.as_nanos() as u64;

/// Which addresses come in beside the listed ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Others {
    None,
    Learned,
    /// Learned, and those for which there is no place are let through.
    All,
}

/// What is known of one address.
#[derive(Clone, Copy, Debug)]
struct Station {
    /// When the guest sent from it last; 0 if it has not yet.
    heard_ns: u64,
    /// Of the frame heard last.
    tags: Tags,
    /// The guest has it now, as far as anybody has heard.
    here: bool,
    listed: bool,
    /// A frame from it has come round to the port that a planned switch leaves.
    returned: bool,
}

/// The addresses of one guest beside its own.
#[derive(Debug)]
pub(crate) struct Stations {
    others: Others,
    /// The addresses as numbers; the entry of each has the same place.
    keys: Vec<u64>,
    entries: Vec<Station>,
    /// Listed for this guest alone, so that no other may send from them.
    exclusive: Vec<u64>,
    /// Place of the address heard last, so that most frames need one comparison.
    last: usize,
    /// Before this none of the addresses has been silent for long enough to be pushed out.
    push_ns: u64,
    /// When the first learned address may have come of age; `None` if there is none.
    age_ns: Option<u64>,
    /// Addresses pushed out so far.
    pushed_out: u64,
    changed: bool,
}

impl Default for Stations {
    fn default() -> Self {
        Self::new(&MacRule::One, |_| true)
    }
}

impl Stations {
    /// By this rule; `is_exclusive` says whether a listed address is listed for no other guest.
    pub(crate) fn new(rule: &MacRule, is_exclusive: impl Fn(u64) -> bool) -> Self {
        let (others, listed) = match rule {
            MacRule::One => (Others::None, &[][..]),
            MacRule::List(macs) => (Others::None, &macs[..macs.len().min(STATIONS)]),
            MacRule::Learn => (Others::Learned, &[][..]),
            MacRule::Promiscuous => (Others::All, &[][..]),
        };
        let room = if *rule == MacRule::One { 0 } else { STATIONS };
        let (mut keys, mut entries) = (Vec::with_capacity(room), Vec::with_capacity(room));
        let mut exclusive = Vec::with_capacity(listed.len());
        for key in listed.iter().map(|mac| super::key_of(mac)) {
            let here = is_exclusive(key);
            keys.push(key);
            entries.push(Station { here, listed: true, ..Station::new(0, Tags::NONE) });
            exclusive.extend(here.then_some(key));
        }
        Self {
            others,
            changed: !keys.is_empty(),
            keys,
            entries,
            exclusive,
            last: 0,
            push_ns: 0,
            age_ns: None,
            pushed_out: 0,
        }
    }

    /// Returns true if the guest has its own address and never another.
    #[inline]
    pub(crate) fn is_none(&self) -> bool {
        self.others == Others::None && self.keys.is_empty()
    }

    /// Returns true if the guest may send from any address, and gets what is nobody's.
    #[inline]
    pub(crate) fn takes_all(&self) -> bool {
        self.others == Others::All
    }

    /// Returns true if the address is listed for this guest and for no other.
    pub(crate) fn is_exclusive(&self, key: u64) -> bool {
        self.exclusive.contains(&key)
    }

    #[inline]
    fn place(&self, key: u64) -> Option<usize> {
        self.keys.iter().position(|known| *known == key)
    }

    /// Returns true if the guest has this address now.
    #[inline]
    pub(crate) fn has(&self, key: u64) -> bool {
        self.place(key).is_some_and(|place| self.entries[place].here)
    }

    /// The guest sends from this address. Returns true if it has it.
    #[inline]
    pub(crate) fn hear(&mut self, key: u64, tags: Tags, now_ns: u64) -> bool {
        if self.keys.get(self.last) != Some(&key) {
            let Some(place) = self.place(key) else { return false };
            self.last = place;
        }
        let station = &mut self.entries[self.last];
        (station.heard_ns, station.tags) = (now_ns, tags);
        station.here
    }

    /// Takes in an address that the guest sends from and did not have, and that is reserved for
    /// nobody else. Returns true if it has the address now.
    pub(crate) fn take(&mut self, key: u64, tags: Tags, now_ns: u64) -> bool {
        if let Some(place) = self.place(key) {
            self.entries[place] = Station { listed: true, ..Station::new(now_ns, tags) };
            self.changed = true;
            return true;
        }
        if self.others == Others::None || !self.make_room(now_ns) {
            return false;
        }
        self.keys.push(key);
        self.entries.push(Station::new(now_ns, tags));
        self.age_ns.get_or_insert(now_ns + AGE_NS);
        self.changed = true;
        true
    }

    /// Sees to it that there is a free place. Returns false if there can be none yet.
    fn make_room(&mut self, now_ns: u64) -> bool {
        if self.keys.len() < STATIONS {
            return true;
        }
        if now_ns < self.push_ns {
            return false;
        }
        let oldest = (0..self.keys.len()).min_by_key(|place| self.entries[*place].heard_ns);
        let Some(oldest) = oldest else { return false };
        self.push_ns = self.entries[oldest].heard_ns + GRACE_NS;
        if now_ns < self.push_ns {
            return false;
        }
        self.pushed_out += 1;
        self.remove(oldest);
        true
    }

    fn remove(&mut self, place: usize) {
        self.keys.swap_remove(place);
        self.entries.swap_remove(place);
        self.changed = true;
    }

    /// Somebody else sends from this address: the guest has it no more.
    pub(crate) fn leave(&mut self, key: u64) {
        let Some(place) = self.place(key) else { return };
        match self.entries[place] {
            Station { listed: false, .. } => self.remove(place),
            Station { here: true, .. } => {
                self.entries[place].here = false;
                self.changed = true;
            }
            Station { .. } => {}
        }
    }

    /// Forgets learned addresses that the guest has not sent from for long.
    pub(crate) fn age(&mut self, now_ns: u64) {
        if self.age_ns.is_none_or(|due| due > now_ns) {
            return;
        }
        for place in (0..self.keys.len()).rev() {
            let Station { listed, heard_ns, .. } = self.entries[place];
            if !listed && heard_ns + AGE_NS <= now_ns {
                self.remove(place);
            }
        }
        let learned = self.entries.iter().filter(|station| !station.listed);
        self.age_ns = learned.map(|station| station.heard_ns + AGE_NS).min();
    }

    /// Forgets all learned addresses, and that the others were used: the guest has gone.
    pub(crate) fn forget_learned(&mut self) {
        for place in (0..self.keys.len()).rev() {
            match self.entries[place].listed {
                true => self.entries[place].heard_ns = 0,
                false => self.remove(place),
            }
        }
        self.age_ns = None;
    }

    /// When [`Self::age`] has something to look at.
    pub(crate) fn age_due_ns(&self) -> Option<u64> {
        self.age_ns
    }

    /// A planned switch watches a port that it leaves from now on.
    pub(crate) fn watch_returns(&mut self) {
        self.entries.iter_mut().for_each(|station| station.returned = false);
    }

    /// A frame of the guest from this address has come round to that port.
    pub(crate) fn note_return(&mut self, key: u64) {
        if let Some(place) = self.place(key) {
            self.entries[place].returned = true;
        }
    }

    /// Returns true if a frame from each address has come round that is announced.
    pub(crate) fn have_returned(&self) -> bool {
        self.entries.iter().all(|station| station.returned || !station.is_in_use())
    }

    /// The addresses that the guest has now.
    pub(crate) fn here(&self) -> impl Iterator<Item = u64> {
        self.keys.iter().zip(&self.entries).filter(|(_, it)| it.here).map(|(key, _)| *key)
    }

    /// Those of them that the guest has sent from, and that are announced for that: with the tags and
    /// the time of its last frame from each.
    pub(crate) fn in_use(&self) -> impl Iterator<Item = (u64, Tags, u64)> {
        let all = self.keys.iter().zip(&self.entries);
        all.filter(|(_, it)| it.is_in_use()).map(|(key, it)| (*key, it.tags, it.heard_ns))
    }

    /// Addresses that had to make room so far.
    pub(crate) fn pushed_out(&self) -> u64 {
        self.pushed_out
    }

    /// Returns true if something has changed since the last call.
    #[inline]
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }
}

impl Station {
    fn new(heard_ns: u64, tags: Tags) -> Self {
        Self { heard_ns, tags, here: true, listed: false, returned: false }
    }

    fn is_in_use(&self) -> bool {
        self.here && self.heard_ns > 0
    }
}

#[cfg(test)]
mod tests;

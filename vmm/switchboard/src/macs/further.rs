//! The MAC addresses of a guest beside its own: those of containers behind it, or the virtual
//! address of a router.
//!
//! A *listed* address stays for ever; the guest holds it or not. A *learned* one is entered when
//! the guest first sends from it, and leaves when the guest has not for [`MAC_AGE`], or when
//! somebody else sends from it. Where all places are taken, the one that was silent for longest makes
//! room, unless it spoke within [`MAC_GRACE`]: so a flood of source addresses costs little, and
//! does not push out addresses that speak.
//!
//! Invariant: nothing here allocates after [`FurtherMacs::new`].

use platform::budget::{MAC_AGE, MAC_GRACE};

use super::rule::MacRule;
use crate::limits::FURTHER_MACS;

const AGE_NS: u64 = MAC_AGE.as_nanos() as u64;
const GRACE_NS: u64 = MAC_GRACE.as_nanos() as u64;

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
struct Entry {
    /// When the guest sent from it last; 0 if it has not yet.
    heard_ns: u64,
    /// The guest has it now, as far as anybody has heard.
    held: bool,
    listed: bool,
}

/// The addresses of one guest beside its own.
#[derive(Debug)]
pub(crate) struct FurtherMacs {
    others: Others,
    /// The addresses as numbers; the entry of each has the same place.
    keys: Vec<u64>,
    entries: Vec<Entry>,
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

impl Default for FurtherMacs {
    fn default() -> Self {
        Self::new(&MacRule::One, |_| true)
    }
}

impl FurtherMacs {
    /// By this rule; `is_exclusive` says whether a listed address is listed for no other guest.
    pub(crate) fn new(rule: &MacRule, is_exclusive: impl Fn(u64) -> bool) -> Self {
        let (others, listed) = match rule {
            MacRule::One => (Others::None, &[][..]),
            MacRule::List(macs) => (Others::None, &macs[..macs.len().min(FURTHER_MACS)]),
            MacRule::Learn => (Others::Learned, &[][..]),
            MacRule::Promiscuous => (Others::All, &[][..]),
        };
        let room = if *rule == MacRule::One { 0 } else { FURTHER_MACS };
        let (mut keys, mut entries) = (Vec::with_capacity(room), Vec::with_capacity(room));
        let mut exclusive = Vec::with_capacity(listed.len());
        for key in listed.iter().map(|mac| super::key_of(mac)) {
            let held = is_exclusive(key);
            keys.push(key);
            entries.push(Entry { heard_ns: 0, held, listed: true });
            exclusive.extend(held.then_some(key));
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
        self.place(key).is_some_and(|place| self.entries[place].held)
    }

    /// The guest sends from this address. Returns true if it has it.
    #[inline]
    pub(crate) fn hear(&mut self, key: u64, now_ns: u64) -> bool {
        if self.keys.get(self.last) != Some(&key) {
            let Some(place) = self.place(key) else { return false };
            self.last = place;
        }
        let entry = &mut self.entries[self.last];
        entry.heard_ns = now_ns;
        entry.held
    }

    /// Takes in an address that the guest sends from and did not have, and that is reserved for
    /// nobody else. Returns true if it has the address now.
    pub(crate) fn take(&mut self, key: u64, now_ns: u64) -> bool {
        if let Some(place) = self.place(key) {
            self.entries[place] = Entry { heard_ns: now_ns, held: true, listed: true };
            self.changed = true;
            return true;
        }
        if self.others == Others::None || !self.make_room(now_ns) {
            return false;
        }
        self.keys.push(key);
        self.entries.push(Entry { heard_ns: now_ns, held: true, listed: false });
        self.age_ns.get_or_insert(now_ns + AGE_NS);
        self.changed = true;
        true
    }

    /// Sees to it that there is a free place. Returns false if there can be none yet.
    fn make_room(&mut self, now_ns: u64) -> bool {
        if self.keys.len() < FURTHER_MACS {
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
            Entry { listed: false, .. } => self.remove(place),
            Entry { held: true, .. } => {
                self.entries[place].held = false;
                self.changed = true;
            }
            Entry { .. } => {}
        }
    }

    /// Forgets learned addresses that the guest has not sent from for long.
    pub(crate) fn age(&mut self, now_ns: u64) {
        if self.age_ns.is_none_or(|due| due > now_ns) {
            return;
        }
        for place in (0..self.keys.len()).rev() {
            let Entry { listed, heard_ns, .. } = self.entries[place];
            if !listed && heard_ns + AGE_NS <= now_ns {
                self.remove(place);
            }
        }
        let learned = self.entries.iter().filter(|entry| !entry.listed);
        self.age_ns = learned.map(|entry| entry.heard_ns + AGE_NS).min();
    }

    /// Forgets all learned addresses: the guest has gone.
    pub(crate) fn forget_learned(&mut self) {
        for place in (0..self.keys.len()).rev() {
            if !self.entries[place].listed {
                self.remove(place);
            }
        }
        self.age_ns = None;
    }

    /// When [`Self::age`] has something to look at.
    pub(crate) fn age_due_ns(&self) -> Option<u64> {
        self.age_ns
    }

    /// The addresses that the guest has now.
    pub(crate) fn held(&self) -> impl Iterator<Item = u64> {
        self.keys.iter().zip(&self.entries).filter(|(_, it)| it.held).map(|(key, _)| *key)
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

#[cfg(test)]
mod tests;

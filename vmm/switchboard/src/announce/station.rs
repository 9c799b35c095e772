//! One station: a MAC address in a VLAN, the IP addresses that it has there, and which of its
//! announcements are still to go out.

use super::addresses::Addresses;
use super::announcement::{Announced, Announcement};
use crate::limits::ADDRESSES;
use crate::vlan::Tags;

/// Places of a station's announcements: all addresses of both families, then the frame without one.
const NAMELESS: usize = 2 * ADDRESSES;

/// What tells stations of a guest apart: a MAC address, and a VLAN.
pub(super) type Key = ([u8; 6], Tags);

/// One station.
#[derive(Debug)]
pub(super) struct Station {
    pub(super) mac: [u8; 6],
    pub(super) tags: Tags,
    pub(super) addresses: Addresses,
    /// Frames that it sent, each second worth half as much as the next.
    pub(super) frames: u32,
    /// When it was heard last, seconds; `None` if it never was.
    pub(super) heard_s: Option<u32>,
    /// Places to be announced, as bits.
    pub(super) pending: u32,
    /// Nothing of it was announced in this round.
    pub(super) is_fresh: bool,
    /// A frame of it has come in at the port that was left.
    pub(super) returned: bool,
}

impl Station {
    pub(super) fn new((mac, tags): Key) -> Self {
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

    pub(super) fn key(&self) -> Key {
        (self.mac, self.tags)
    }

    /// Counts a frame that it sends.
    #[inline]
    pub(super) fn hear(&mut self, now_s: u32) {
        if self.heard_s != Some(now_s) {
            self.frames = self.weight(now_s);
            self.heard_s = Some(now_s);
            self.addresses.look_again();
        }
        self.frames = self.frames.saturating_add(1);
    }

    /// What the frames that it sent are worth now.
    pub(super) fn weight(&self, now_s: u32) -> u32 {
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

    /// Everything is to be announced.
    pub(super) fn mark_all(&mut self, now_s: u32) {
        (self.pending, self.is_fresh) = (self.all(now_s), true);
    }

    /// The announcement of the next place that is pending.
    pub(super) fn take(&mut self, now_s: u32) -> Option<Announcement> {
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
        Some(Announcement::new(self.key(), what))
    }
}

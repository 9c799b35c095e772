//! When each guest is announced, and in which buffer: frames from each of the guest's MAC addresses
//! that teach switches which port it is behind now, and hosts that its addresses are still its own.
//!
//! After a takeover each of the guests' stations, addresses and groups is announced at once and
//! again by the schedule ([`Stations`] says in which order). Only the first frame of each guest goes
//! before what the guests themselves have to send; the others follow a few at a time and the guests
//! in turn, so that no frame of theirs waits behind more than [`PACE_FRAMES`] of them.
//!
//! A NIC of a domain that failed may still be reading a buffer, so none is written without need: an
//! announcement goes into a buffer that holds it already, or else into the one that was written
//! longest ago.
//!
//! Invariants: nothing is announced of a guest that is not here; it is owed the announcement
//! instead, until it is here again. Only free buffers are written.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use platform::budget::{ANNOUNCE_AGAIN, ANNOUNCE_PACE, MAX_ANNOUNCE_AGAIN};

use super::addresses::{GLANCE_BYTES, LEARN_BYTES};
use super::neighbours::{Heard, may_say};
use super::stations::Stations;
use crate::tx_buffers::{ANNOUNCE_BUFFERS, FIRST_RESERVED};
use crate::tx_pool::Reserved;
use crate::vlan::{TAGS_BYTES, Tags, untagged};

/// Announcements posted at a time.
const PACE_FRAMES: usize = 2;

/// How the guests are announced after a takeover, and how drills' probes are tagged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnounceConfig {
    /// When announcements follow the first, which goes at once; ascending, at most
    /// [`MAX_ANNOUNCE_AGAIN`].
    pub again: Vec<Duration>,
    /// VLAN of drills' probes, 1 to 4094, where the network between the NICs takes only tagged
    /// frames.
    pub probe_vlan: Option<u16>,
}

impl Default for AnnounceConfig {
    fn default() -> Self {
        Self { again: ANNOUNCE_AGAIN.to_vec(), probe_vlan: None }
    }
}

/// What is known of a guest.
struct Known {
    stations: Stations,
    /// Its rings run. A guest whose rings do not may have moved to another machine, and the network
    /// must not be told otherwise.
    is_here: bool,
    /// It is to be announced when it is here again.
    owed: bool,
}

/// Learns the guests' addresses and announces them. Plain data; the switchboard's thread is its one
/// writer.
pub(crate) struct Announcer {
    guests: Vec<Known>,
    again: Vec<Duration>,
    since_ns: u64,
    /// Repetitions that are done.
    done: usize,
    /// When the next pending announcements may go.
    pace_ns: u64,
    /// The guest that is next in turn.
    turn: usize,
    /// Time of the frames that follow, milliseconds and whole seconds.
    now_ms: u64,
    now_s: u32,
    /// What each buffer holds, as a keyed hash.
    written: [Option<u64>; ANNOUNCE_BUFFERS],
    /// The buffer behind the one that was written last.
    next: usize,
    keys: RandomState,
}

/// What the guests' frames and others' say.
impl Announcer {
    pub(crate) fn new(macs: &[[u8; 6]], config: &AnnounceConfig) -> Self {
        let mut again = config.again.clone();
        again.truncate(MAX_ANNOUNCE_AGAIN);
        let done = again.len();
        let known =
            |mac: &[u8; 6]| Known { stations: Stations::new(*mac), is_here: false, owed: false };
        Self {
            guests: macs.iter().map(known).collect(),
            again,
            since_ns: 0,
            done,
            pace_ns: 0,
            turn: 0,
            now_ms: 0,
            now_s: 0,
            written: [None; ANNOUNCE_BUFFERS],
            next: 0,
            keys: RandomState::new(),
        }
    }

    /// Learns from a frame that a guest sends, from an address that it has unless it is only let
    /// through: `glance` is its head, zero-padded; `peek` gets more of it for the few frames that
    /// need that, and returns how much there was.
    #[inline]
    pub(crate) fn learn(
        &mut self,
        (guest, has_source): (usize, bool),
        glance: &[u8; GLANCE_BYTES],
        peek: impl Fn(&mut [u8]) -> usize,
    ) {
        let now_s = self.now_s;
        if has_source {
            self.guests[guest].stations.learn(glance, now_s, &peek);
        }
        // Guests can take over each other's addresses, too.
        if self.guests.len() > 1 && glance[0] & 1 != 0 {
            self.hear_sibling(guest, peek);
        }
    }

    /// Learns from a group frame that one guest sends what it means for the others.
    fn hear_sibling(&mut self, guest: usize, peek: impl Fn(&mut [u8]) -> usize) {
        let mut head = [0; LEARN_BYTES + TAGS_BYTES];
        let len = peek(&mut head);
        let (tags, at) = Tags::read(&head);
        if may_say(&head[..len], at) {
            self.hear_all_but(Some(guest), tags, &untagged(&head, at));
        }
    }

    /// Learns from a frame of the wire, which is in a VLAN and is given without tags, zero-padded.
    pub(crate) fn hear(&mut self, tags: Tags, frame: &[u8; LEARN_BYTES]) {
        self.hear_all_but(None, tags, frame);
    }

    fn hear_all_but(&mut self, speaker: Option<usize>, tags: Tags, frame: &[u8; LEARN_BYTES]) {
        let Some(heard) = Heard::read(frame) else { return };
        let now_s = self.now_s;
        for (number, known) in self.guests.iter_mut().enumerate() {
            if speaker != Some(number) {
                known.stations.hear_other(tags, &heard, now_s);
            }
        }
    }

    /// Forgets what is known of a guest's addresses beside its own, but for those that it has.
    pub(crate) fn retain(&mut self, guest: usize, has: impl Fn(&[u8; 6]) -> bool) {
        self.guests[guest].stations.retain(has);
    }

    /// Notes that a guest's rings run from now on, or do not any more.
    pub(crate) fn set_here(&mut self, guest: usize, is_here: bool) {
        let now_s = self.now_s;
        let known = &mut self.guests[guest];
        known.is_here = is_here;
        if !is_here {
            known.owed |= known.stations.stop();
            known.stations.forget_addresses();
            known.stations.retain(|_| false);
        } else if std::mem::take(&mut known.owed) {
            known.stations.mark_all(now_s);
        }
    }

    /// Watches for the guests' frames at a port that is left, from now on.
    pub(crate) fn forget_returned(&mut self) {
        self.guests.iter_mut().for_each(|guest| guest.stations.forget_returned());
    }

    /// A guest's frame with this head has come in there.
    pub(crate) fn note_returned(&mut self, guest: usize, head: &[u8]) {
        self.guests[guest].stations.note_returned(head);
    }

    /// Returns true if frames of all stations have, of those guests that are here.
    pub(crate) fn have_returned(&self) -> bool {
        self.guests.iter().all(|guest| !guest.is_here || guest.stations.have_returned())
    }
}

/// Announcing.
impl Announcer {
    /// Stops announcing.
    pub(crate) fn stop(&mut self) {
        self.done = self.again.len();
        for guest in &mut self.guests {
            guest.stations.stop();
        }
    }

    /// The guests have a new port since `now_ns`: everything is to be announced, now and again.
    pub(crate) fn start(&mut self, now_ns: u64) {
        self.set_time(now_ns);
        self.since_ns = now_ns;
        self.done = 0;
        self.mark_all(|_| true);
        self.pace_ns = now_ns;
    }

    /// One guest is to be announced now. Whoever asks for that repeats it.
    pub(crate) fn start_one(&mut self, guest: usize, now_ns: u64) {
        self.set_time(now_ns);
        let (now_s, known) = (self.now_s, &mut self.guests[guest]);
        match known.is_here {
            true => known.stations.mark_all(now_s),
            false => known.owed = true,
        }
        self.pace_ns = self.pace_ns.max(now_ns);
    }

    /// Has all announcements of the guests that are `wanted` go out.
    fn mark_all(&mut self, wanted: impl Fn(&Stations) -> bool) {
        let now_s = self.now_s;
        for guest in &mut self.guests {
            match guest.is_here {
                true if wanted(&guest.stations) => guest.stations.mark_all(now_s),
                true => {}
                false => guest.owed = true,
            }
        }
    }

    /// Addresses are judged by their age, also after a sleep.
    fn set_time(&mut self, now_ns: u64) {
        self.now_s = self.now_s.max((now_ns / 1_000_000_000) as u32);
    }

    /// Puts one announcement of each guest before everything that waits. Returns how many that
    /// were.
    pub(crate) fn lead(&mut self, buffers: &mut Reserved<'_>) -> u64 {
        (0..self.guests.len()).map(|guest| u64::from(self.queue_next(guest, buffers, true))).sum()
    }

    fn is_pending(&self) -> bool {
        self.guests.iter().any(|guest| guest.stations.is_pending())
    }

    /// When there is something to do next.
    pub(crate) fn due_ns(&self) -> Option<u64> {
        let paced_ns = self.is_pending().then_some(self.pace_ns);
        [paced_ns, self.repetition_ns()].into_iter().flatten().min()
    }

    /// When everything is announced once more.
    fn repetition_ns(&self) -> Option<u64> {
        self.again.get(self.done).map(|after| self.since_ns + after.as_nanos() as u64)
    }

    /// Sets the time of the frames that follow, and queues the announcements that are due. Returns
    /// how many that were.
    pub(crate) fn tick(&mut self, buffers: &mut Reserved<'_>, now_ns: u64) -> u64 {
        let now_ms = now_ns / 1_000_000;
        if std::mem::replace(&mut self.now_ms, now_ms) != now_ms {
            self.set_time(now_ns);
            self.guests.iter_mut().for_each(|guest| guest.stations.refill());
        }
        if self.repetition_ns().is_some_and(|due_ns| due_ns <= now_ns) {
            // A guest that has many is still at it; the others do not wait for it.
            self.mark_all(|stations| !stations.is_pending());
            self.done += 1;
        }
        if !self.is_pending() || self.pace_ns > now_ns {
            return 0;
        }
        self.pace_ns = now_ns + ANNOUNCE_PACE.as_nanos() as u64;
        let mut posted = 0;
        for _ in 0..PACE_FRAMES {
            let Some(guest) = self.next_in_turn() else { break };
            posted += u64::from(self.queue_next(guest, buffers, false));
        }
        posted
    }

    fn next_in_turn(&mut self) -> Option<usize> {
        let count = self.guests.len();
        let next = (0..count).map(|n| (self.turn + n) % count);
        let guest = next.into_iter().find(|guest| self.guests[*guest].stations.is_pending())?;
        self.turn = (guest + 1) % count;
        Some(guest)
    }

    /// Queues the next announcement of a guest, unless all buffers are still on their way.
    fn queue_next(&mut self, guest: usize, buffers: &mut Reserved<'_>, first: bool) -> bool {
        let now_s = self.now_s;
        let Some(announcement) = self.guests[guest].stations.next(now_s) else { return false };
        let content = self.keys.hash_one(announcement.bytes());
        let Some(copy) = self.find_buffer(buffers, content) else { return false };
        if self.written[copy] != Some(content) {
            buffers.write(buffer(copy), announcement.bytes());
            self.written[copy] = Some(content);
            self.next = (copy + 1) % ANNOUNCE_BUFFERS;
        }
        buffers.queue(buffer(copy), announcement.bytes().len(), first);
        true
    }

    /// A free buffer with this content, or else the one that was written longest ago.
    fn find_buffer(&self, buffers: &Reserved<'_>, content: u64) -> Option<usize> {
        let is_free = |copy: &usize| buffers.is_free(buffer(*copy));
        let holds = |copy: &usize| self.written[*copy] == Some(content);
        (0..ANNOUNCE_BUFFERS).filter(holds).find(is_free).or_else(|| {
            (0..ANNOUNCE_BUFFERS).map(|n| (self.next + n) % ANNOUNCE_BUFFERS).find(is_free)
        })
    }
}

fn buffer(copy: usize) -> u16 {
    FIRST_RESERVED + copy as u16
}

#[cfg(test)]
mod tests;

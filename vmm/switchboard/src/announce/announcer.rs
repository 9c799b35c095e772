//! When each guest is announced, and in which buffer: frames from the guest's MAC that teach
//! switches which port it is behind now, and hosts that its addresses are still its own.
//!
//! After a takeover each of the guests' addresses is announced at once and again by the schedule.
//! Only the first frame of each guest goes before what the guests themselves have to send; the
//! others follow a few at a time, so that no frame of theirs waits behind more than [`PACE_FRAMES`]
//! of them.
//!
//! A NIC of a domain that failed may still be reading a buffer, so none is written without need: an
//! announcement goes into a buffer that holds it already, or else into the one that was written
//! longest ago.
//!
//! Invariants: nothing is announced of a guest that is not here; it is owed the announcement
//! instead, until it is here again. Only free buffers are written.

use std::time::Duration;

use platform::budget::{ANNOUNCE_AGAIN, ANNOUNCE_PACE, MAX_ANNOUNCE_AGAIN};

use super::addresses::Addresses;
use super::announcement::{Announced, Announcement};
use crate::guest_set::GuestSet;
use crate::limits::ADDRESSES;
use crate::tx_buffers::{ANNOUNCE_BUFFERS, ANNOUNCEMENTS_EACH, FIRST_RESERVED};
use crate::tx_pool::Reserved;

/// Places of a guest's announcements: all addresses of both families, then the frame without one.
const NAMELESS: usize = ANNOUNCEMENTS_EACH - 1;
const _: () = assert!(NAMELESS == 2 * ADDRESSES);
/// Announcements posted at a time.
const PACE_FRAMES: usize = 2;

/// How the guests are announced after a takeover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnounceConfig {
    /// When announcements follow the first, which goes at once; ascending, at most
    /// [`MAX_ANNOUNCE_AGAIN`].
    pub again: Vec<Duration>,
}

impl Default for AnnounceConfig {
    fn default() -> Self {
        Self { again: ANNOUNCE_AGAIN.to_vec() }
    }
}

/// What a buffer holds: the announcement of a guest, of a place and a version of its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Written {
    guest: usize,
    place: usize,
    version: u32,
}

/// What is known of a guest.
struct Known {
    mac: [u8; 6],
    addresses: Addresses,
    /// Places to be announced, as bits.
    pending: u32,
    /// Its rings run. A guest whose rings do not may have moved to another machine, and the network
    /// must not be told otherwise.
    is_here: bool,
    /// It is to be announced when it is here again.
    owed: bool,
}

impl Known {
    /// All places that there is something to announce at, as bits.
    fn all(&self) -> u32 {
        let known = (0..NAMELESS).filter(|place| self.addresses.at(*place).is_some());
        match known.fold(0, |bits, place| bits | 1 << place) {
            0 => 1 << NAMELESS,
            bits => bits,
        }
    }
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
    written: [Option<Written>; ANNOUNCE_BUFFERS],
    /// The buffer behind the one that was written last.
    next: usize,
}

impl Announcer {
    pub(crate) fn new(macs: &[[u8; 6]], config: &AnnounceConfig) -> Self {
        let mut again = config.again.clone();
        again.truncate(MAX_ANNOUNCE_AGAIN);
        let done = again.len();
        let known = |mac: &[u8; 6]| Known {
            mac: *mac,
            addresses: Addresses::new(*mac),
            pending: 0,
            is_here: false,
            owed: false,
        };
        Self {
            guests: macs.iter().map(known).collect(),
            again,
            since_ns: 0,
            done,
            pace_ns: 0,
            written: [None; ANNOUNCE_BUFFERS],
            next: 0,
        }
    }

    /// What is known of a guest's addresses.
    pub(crate) fn addresses(&mut self, guest: usize) -> &mut Addresses {
        &mut self.guests[guest].addresses
    }

    /// Stops announcing.
    pub(crate) fn stop(&mut self) {
        self.done = self.again.len();
        self.guests.iter_mut().for_each(|guest| guest.pending = 0);
    }

    /// The guests have a new port since `now_ns`: all addresses are to be announced, now and again.
    pub(crate) fn start(&mut self, now_ns: u64) {
        self.since_ns = now_ns;
        self.done = 0;
        self.mark_all();
        self.pace_ns = now_ns;
    }

    /// One guest is to be announced now. Whoever asks for that repeats it.
    pub(crate) fn start_one(&mut self, guest: usize, now_ns: u64) {
        let known = &mut self.guests[guest];
        match known.is_here {
            true => known.pending = known.all(),
            false => known.owed = true,
        }
        self.pace_ns = self.pace_ns.max(now_ns);
    }

    fn mark_all(&mut self) {
        for guest in &mut self.guests {
            match guest.is_here {
                true => guest.pending = guest.all(),
                false => guest.owed = true,
            }
        }
    }

    /// Notes that a guest's rings run from now on, or do not any more.
    pub(crate) fn set_here(&mut self, guest: usize, is_here: bool) {
        let known = &mut self.guests[guest];
        known.is_here = is_here;
        if !is_here {
            known.owed |= std::mem::take(&mut known.pending) != 0;
        } else if std::mem::take(&mut known.owed) {
            known.pending = known.all();
        }
    }

    /// Guests whose rings run, which are those that are announced.
    pub(crate) fn here(&self) -> GuestSet {
        let here = (0..self.guests.len()).filter(|guest| self.guests[*guest].is_here);
        here.fold(GuestSet::NONE, |set, guest| set.with(GuestSet::of(guest)))
    }

    /// Puts one announcement of each guest before everything that waits. Returns how many that
    /// were.
    pub(crate) fn lead(&mut self, buffers: &mut Reserved<'_>) -> u64 {
        (0..self.guests.len()).map(|guest| u64::from(self.queue_next(guest, buffers, true))).sum()
    }

    fn first_pending(&self) -> Option<usize> {
        self.guests.iter().position(|guest| guest.pending != 0)
    }

    /// When there is something to do next.
    pub(crate) fn due_ns(&self) -> Option<u64> {
        if self.first_pending().is_some() {
            return Some(self.pace_ns);
        }
        self.again.get(self.done).map(|after| self.since_ns + after.as_nanos() as u64)
    }

    /// Queues the announcements that are due. Returns how many that were.
    pub(crate) fn tick(&mut self, buffers: &mut Reserved<'_>, now_ns: u64) -> u64 {
        if self.due_ns().is_none_or(|due| due > now_ns) {
            return 0;
        }
        if self.first_pending().is_none() {
            self.mark_all();
            self.done += 1;
        }
        self.pace_ns = now_ns + ANNOUNCE_PACE.as_nanos() as u64;
        let mut posted = 0;
        for _ in 0..PACE_FRAMES {
            let Some(guest) = self.first_pending() else { break };
            posted += u64::from(self.queue_next(guest, buffers, false));
        }
        posted
    }

    /// Queues the next place of a guest that is pending, unless all buffers are still on their way.
    fn queue_next(&mut self, guest: usize, buffers: &mut Reserved<'_>, first: bool) -> bool {
        let known = &mut self.guests[guest];
        if known.pending == 0 {
            return false;
        }
        let place = known.pending.trailing_zeros() as usize;
        known.pending &= known.pending - 1;
        let what = match place {
            NAMELESS => Announced::Nothing,
            place => match known.addresses.at(place) {
                Some(what) => what,
                None => return false,
            },
        };
        let announcement = Announcement::new(known.mac, what);
        let content = Written { guest, place, version: known.addresses.version() };
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
    fn find_buffer(&self, buffers: &Reserved<'_>, content: Written) -> Option<usize> {
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
mod tests {
    use super::*;
    use crate::tx_pool::TxPool;
    use microvm::domain::DomainSlot;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
    const MS: u64 = 1_000_000;

    fn announcer() -> (Announcer, TxPool) {
        let pool = DomainSlot::new_tx_pool().unwrap();
        let mut announcer = Announcer::new(&[MAC], &AnnounceConfig::default());
        announcer.set_here(0, true);
        (announcer, TxPool::new(pool, 1))
    }

    /// An ARP request of the guest for an address of its own.
    fn claim(announcer: &mut Announcer, last: u8) {
        let frame = Announcement::new(MAC, Announced::V4([10, 0, 0, last]));
        announcer.addresses(0).learn(frame.bytes().first_chunk().unwrap(), || unreachable!());
    }

    #[test]
    fn each_repetition_is_due_once() {
        let (mut announcer, mut tx) = announcer();
        assert_eq!(announcer.due_ns(), None);
        announcer.start(MS);
        assert_eq!(announcer.lead(&mut tx.reserved()), 1);
        assert_eq!(announcer.due_ns(), Some(2 * MS));
        assert_eq!(announcer.tick(&mut tx.reserved(), 2 * MS - 1), 0);
        assert_eq!(announcer.tick(&mut tx.reserved(), 2 * MS), 1);
        assert_eq!(announcer.tick(&mut tx.reserved(), 2 * MS), 0);
        assert_eq!(announcer.due_ns(), Some(6 * MS));
    }

    #[test]
    fn every_address_is_announced_a_few_at_a_time() {
        let (mut announcer, mut tx) = announcer();
        (1..=5).for_each(|last| claim(&mut announcer, last));
        announcer.start(0);
        assert_eq!(announcer.lead(&mut tx.reserved()), 1);
        assert_eq!(announcer.tick(&mut tx.reserved(), 0), 2);
        assert_eq!(announcer.tick(&mut tx.reserved(), 0), 0, "not before the pace allows");
        let due = announcer.due_ns().unwrap();
        assert_eq!(announcer.tick(&mut tx.reserved(), due), 2);
        assert_eq!(announcer.due_ns(), Some(MS));
    }

    #[test]
    fn what_is_still_on_its_way_is_not_posted_without_end() {
        let (mut announcer, mut tx) = announcer();
        for _ in 0..ANNOUNCE_BUFFERS {
            announcer.start(0);
            assert_eq!(announcer.lead(&mut tx.reserved()), 1);
        }
        announcer.start(0);
        assert_eq!(announcer.lead(&mut tx.reserved()), 0);
        assert_eq!(announcer.tick(&mut tx.reserved(), MS), 0);
        assert_eq!(announcer.due_ns(), Some(5 * MS));
    }

    #[test]
    fn each_guest_is_announced_first() {
        let macs = [MAC, [2, 0, 0, 0, 0, 10]];
        let (_, mut tx) = announcer();
        let mut announcer = Announcer::new(&macs, &AnnounceConfig::default());
        (0..2).for_each(|guest| announcer.set_here(guest, true));
        (1..=3).for_each(|last| claim(&mut announcer, last));
        announcer.start(0);
        assert_eq!(announcer.lead(&mut tx.reserved()), 2);
        assert_eq!(announcer.tick(&mut tx.reserved(), 0), 2, "the first guest's other addresses");
        assert_eq!(announcer.due_ns(), Some(MS));
        let written: Vec<_> = announcer.written.iter().flatten().map(|w| w.guest).collect();
        assert_eq!(written, [0, 1, 0, 0]);
    }

    #[test]
    fn a_guest_that_is_announced_alone_is_announced_once() {
        let macs = [MAC, [2, 0, 0, 0, 0, 10]];
        let (_, mut tx) = announcer();
        let mut announcer = Announcer::new(&macs, &AnnounceConfig::default());
        (0..2).for_each(|guest| announcer.set_here(guest, true));
        announcer.start_one(1, MS);
        assert_eq!(announcer.tick(&mut tx.reserved(), MS), 1);
        let written: Vec<_> = announcer.written.iter().flatten().map(|w| w.guest).collect();
        assert_eq!((written, announcer.due_ns()), (vec![1], None));
    }

    #[test]
    fn a_guest_that_has_left_is_announced_when_it_is_back() {
        let (mut announcer, mut tx) = announcer();
        claim(&mut announcer, 1);
        announcer.start(0);
        announcer.set_here(0, false);
        assert_eq!(
            (announcer.lead(&mut tx.reserved()), announcer.tick(&mut tx.reserved(), MS)),
            (0, 0)
        );
        announcer.start(2 * MS);
        assert_eq!(announcer.lead(&mut tx.reserved()), 0);
        while announcer.due_ns().is_some() {
            assert_eq!(announcer.tick(&mut tx.reserved(), 1000 * MS), 0);
        }
        announcer.set_here(0, true);
        assert_eq!(announcer.tick(&mut tx.reserved(), 2000 * MS), 1);
        announcer.set_here(0, false);
        announcer.set_here(0, true);
        assert_eq!(announcer.due_ns(), None, "nothing has happened since");
    }

    #[test]
    fn a_buffer_is_written_again_only_for_something_else() {
        let (mut announcer, mut tx) = announcer();
        announcer.start(0);
        announcer.lead(&mut tx.reserved());
        tx.ledger.fail(Some(0));
        announcer.start(MS);
        announcer.lead(&mut tx.reserved());
        assert_eq!(announcer.written.iter().flatten().count(), 1);
    }
}

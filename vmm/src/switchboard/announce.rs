//! Announcements: frames from the guest's MAC that teach switches which port it is behind now, and
//! hosts that its addresses are still its own.
//!
//! After a takeover each of the guest's addresses is announced at once and again by the schedule.
//! Only the first frame goes before what the guest itself has to send; the others follow a few at a
//! time, so that no frame of the guest's waits behind more than [`PACE_FRAMES`] of them.
//!
//! | transmit buffers | for |
//! |---|---|
//! | `0..FIRST_RESERVED` | the guest's frames |
//! | four for each place in the table of addresses, four for the frame without one | announcements |
//! | [`QUESTION_BUFFER`], [`ANSWER_BUFFER`] | drills |

use std::time::Duration;

use shared_ring::layout::TX_BUFFERS;

use super::addresses::{ADDRESSES, Addresses};
use super::announcement::{Announced, Announcement};
use super::transmit::TxPool;
use crate::budget::{ANNOUNCE_AGAIN, ANNOUNCE_PACE};

/// Places of announcements: all addresses of both families, and the frame without one.
const PLACES: usize = 2 * ADDRESSES + 1;
/// The frame without an address.
const NAMELESS: usize = 2 * ADDRESSES;
/// Buffers of each place: some may still be unconfirmed when the next repetition is due.
const COPIES: usize = 4;
/// Announcements posted at a time.
const PACE_FRAMES: usize = 2;
const ANNOUNCE_BUFFERS: usize = PLACES * COPIES;
/// First buffer that is not the guest's.
pub(crate) const FIRST_RESERVED: u16 = (TX_BUFFERS - ANNOUNCE_BUFFERS - 2) as u16;
const FIRST_ANNOUNCE: u16 = FIRST_RESERVED;
/// What a drilled spare sends.
pub(crate) const QUESTION_BUFFER: u16 = TX_BUFFERS as u16 - 2;
/// What the active domain answers.
pub(crate) const ANSWER_BUFFER: u16 = TX_BUFFERS as u16 - 1;

/// Most repetitions of a schedule.
pub const MAX_AGAIN: usize = 16;

/// How the guest is announced after a takeover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnounceConfig {
    /// When announcements follow the one at once; ascending, at most [`MAX_AGAIN`].
    pub again: Vec<Duration>,
}

impl Default for AnnounceConfig {
    fn default() -> Self {
        Self { again: ANNOUNCE_AGAIN.to_vec() }
    }
}

/// Learns the guest's addresses and announces them.
pub(crate) struct Announcer {
    mac: [u8; 6],
    pub(crate) addresses: Addresses,
    again: Vec<Duration>,
    since_ns: u64,
    /// Repetitions done.
    done: usize,
    /// Places to be announced, as bits.
    pending: u32,
    /// When the next of them may go.
    pace_ns: u64,
    /// Version of the addresses that each buffer was written from; 0 for none.
    written: [u32; ANNOUNCE_BUFFERS],
}

impl Announcer {
    pub(crate) fn new(mac: [u8; 6], config: &AnnounceConfig) -> Self {
        let mut again = config.again.clone();
        again.truncate(MAX_AGAIN);
        let done = again.len();
        Self {
            mac,
            addresses: Addresses::new(mac),
            again,
            since_ns: 0,
            done,
            pending: 0,
            pace_ns: 0,
            written: [0; ANNOUNCE_BUFFERS],
        }
    }

    /// Nothing is announced any more.
    pub(crate) fn stop(&mut self) {
        self.done = self.again.len();
        self.pending = 0;
    }

    /// The guest has a new port since `now_ns`: everything is to be announced, now and again.
    pub(crate) fn start(&mut self, now_ns: u64) {
        self.since_ns = now_ns;
        self.done = 0;
        self.pending = self.all();
        self.pace_ns = now_ns;
    }

    /// Puts one announcement before everything that waits. Says how many that were.
    pub(crate) fn lead(&mut self, tx: &mut TxPool) -> u64 {
        u64::from(self.post_next(tx, true))
    }

    fn all(&self) -> u32 {
        let known = (0..NAMELESS).filter(|place| self.addresses.at(*place).is_some());
        match known.fold(0, |bits, place| bits | 1 << place) {
            0 => 1 << NAMELESS,
            bits => bits,
        }
    }

    /// When there is something to do next.
    pub(crate) fn due_ns(&self) -> Option<u64> {
        if self.pending != 0 {
            return Some(self.pace_ns);
        }
        self.again.get(self.done).map(|after| self.since_ns + after.as_nanos() as u64)
    }

    /// Posts what is due; says how many.
    pub(crate) fn tick(&mut self, tx: &mut TxPool, now_ns: u64) -> u64 {
        if self.due_ns().is_none_or(|due| due > now_ns) {
            return 0;
        }
        if self.pending == 0 {
            self.pending = self.all();
            self.done += 1;
        }
        self.pace_ns = now_ns + ANNOUNCE_PACE.as_nanos() as u64;
        (0..PACE_FRAMES).map(|_| u64::from(self.post_next(tx, false))).sum()
    }

    /// Posts the next place that is pending, unless all its buffers are still on their way.
    fn post_next(&mut self, tx: &mut TxPool, first: bool) -> bool {
        if self.pending == 0 {
            return false;
        }
        let place = self.pending.trailing_zeros() as usize;
        self.pending &= self.pending - 1;
        let what = match place {
            NAMELESS => Announced::Nothing,
            place => match self.addresses.at(place) {
                Some(what) => what,
                None => return false,
            },
        };
        let copies = place * COPIES..(place + 1) * COPIES;
        let Some(copy) = copies.into_iter().find(|copy| tx.is_free(buffer(*copy))) else {
            return false;
        };
        let announcement = Announcement::new(self.mac, what);
        // Buffers that a NIC may still be reading, of a domain that failed, are not written without
        // need.
        if std::mem::replace(&mut self.written[copy], self.addresses.version())
            != self.addresses.version()
        {
            tx.write_reserved(buffer(copy), announcement.bytes());
        }
        tx.post_reserved(buffer(copy), announcement.bytes().len(), first);
        true
    }
}

fn buffer(copy: usize) -> u16 {
    FIRST_ANNOUNCE + copy as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::DomainSlot;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
    const MS: u64 = 1_000_000;

    fn announcer() -> (Announcer, TxPool) {
        let pool = DomainSlot::new_tx_pool().unwrap();
        (Announcer::new(MAC, &AnnounceConfig::default()), TxPool::new(pool))
    }

    /// An ARP request of the guest for an address of its own.
    fn claim(announcer: &mut Announcer, last: u8) {
        let frame = Announcement::new(MAC, Announced::V4([10, 0, 0, last]));
        announcer.addresses.learn(frame.bytes().first_chunk().unwrap(), || unreachable!());
    }

    #[test]
    fn each_repetition_is_due_once() {
        let (mut announcer, mut tx) = announcer();
        assert_eq!(announcer.due_ns(), None);
        announcer.start(MS);
        assert_eq!(announcer.lead(&mut tx), 1);
        assert_eq!(announcer.due_ns(), Some(2 * MS));
        assert_eq!(announcer.tick(&mut tx, 2 * MS - 1), 0);
        assert_eq!(announcer.tick(&mut tx, 2 * MS), 1);
        assert_eq!(announcer.tick(&mut tx, 2 * MS), 0);
        assert_eq!(announcer.due_ns(), Some(6 * MS));
    }

    #[test]
    fn every_address_is_announced_a_few_at_a_time() {
        let (mut announcer, mut tx) = announcer();
        (1..=5).for_each(|last| claim(&mut announcer, last));
        announcer.start(0);
        assert_eq!(announcer.lead(&mut tx), 1);
        assert_eq!(announcer.tick(&mut tx, 0), 2);
        assert_eq!(announcer.tick(&mut tx, 0), 0, "not before the pace allows");
        let due = announcer.due_ns().unwrap();
        assert_eq!(announcer.tick(&mut tx, due), 2);
        assert_eq!(announcer.due_ns(), Some(MS));
    }

    #[test]
    fn what_is_still_on_its_way_is_not_posted_without_end() {
        let (mut announcer, mut tx) = announcer();
        for _ in 0..COPIES {
            announcer.start(0);
            assert_eq!(announcer.lead(&mut tx), 1);
        }
        assert_eq!(announcer.tick(&mut tx, MS), 0);
        assert_eq!(announcer.due_ns(), Some(5 * MS));
    }
}

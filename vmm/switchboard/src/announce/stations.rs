//! Announcing the addresses that guests have beside their own: each by a reverse ARP request with the
//! VLAN tags of its last frame, which teaches switches its port and disturbs no other tables.
//!
//! They go when the guests' own addresses have been announced once, those heard last before the
//! others, [`PACE_FRAMES`] at a time, and again by the same schedule. They have buffers of their own,
//! written as [`super::announcer`] says.
//!
//! Invariant: only free buffers are written, and nothing here allocates after the start.

use std::time::Duration;

use platform::budget::{ANNOUNCE_PACE, MAX_ANNOUNCE_AGAIN};
use shared_ring::layout::MAX_GUESTS;

use super::announcement::{Announced, Announcement};
use super::announcer::AnnounceConfig;
use crate::limits::STATIONS;
use crate::macs::{TAG_BYTES, Tags, mac_of};
use crate::tx_buffers::{FIRST_STATION, STATION_BUFFERS};
use crate::tx_pool::Reserved;

/// Announcements posted at a time.
const PACE_FRAMES: usize = 8;
/// Bytes of both MAC addresses, behind which tags stand.
const ADDRESS_BYTES: usize = 12;
/// Bytes of a reverse ARP request, padded.
const REQUEST_BYTES: usize = 60;

/// An address: as a number, with the tags and the time of its last frame.
pub(crate) type Heard = (u64, Tags, u64);

/// Announces the guests' further addresses.
pub(crate) struct StationAnnouncer {
    again: Vec<Duration>,
    since_ns: u64,
    /// Repetitions that are done.
    done: usize,
    /// The addresses are to be put in the queue.
    wanted: bool,
    /// Those that wait, the next one last.
    queue: Vec<Heard>,
    /// When the next ones may go.
    pace_ns: u64,
    /// What each buffer holds.
    written: [Option<(u64, Tags)>; STATION_BUFFERS],
    /// The buffer behind the one that was written last.
    next: usize,
}

impl StationAnnouncer {
    pub(crate) fn new(config: &AnnounceConfig) -> Self {
        let mut again = config.again.clone();
        again.truncate(MAX_ANNOUNCE_AGAIN);
        Self {
            since_ns: 0,
            done: again.len(),
            again,
            wanted: false,
            queue: Vec::with_capacity(MAX_GUESTS * STATIONS),
            pace_ns: 0,
            written: [None; STATION_BUFFERS],
            next: 0,
        }
    }

    /// Stops announcing.
    pub(crate) fn stop(&mut self) {
        self.done = self.again.len();
        self.wanted = false;
        self.queue.clear();
    }

    /// The guests have a new port since `now_ns`: all is to be announced, now and again.
    pub(crate) fn start(&mut self, now_ns: u64) {
        (self.since_ns, self.pace_ns) = (now_ns, now_ns);
        self.done = 0;
        self.wanted = true;
    }

    /// When there is something to do next.
    pub(crate) fn due_ns(&self) -> Option<u64> {
        if self.wanted || !self.queue.is_empty() {
            return Some(self.pace_ns);
        }
        self.again.get(self.done).map(|after| self.since_ns + after.as_nanos() as u64)
    }

    /// Queues the announcements that are due; `stations` are those of guests that are here. Returns
    /// how many that were.
    pub(crate) fn tick<S: Iterator<Item = Heard>>(
        &mut self,
        buffers: &mut Reserved<'_>,
        now_ns: u64,
        stations: impl FnOnce() -> S,
    ) -> u64 {
        if self.due_ns().is_none_or(|due| due > now_ns) {
            return 0;
        }
        if self.queue.is_empty() {
            self.done += usize::from(!self.wanted);
            self.wanted = false;
            self.queue.extend(stations().take(MAX_GUESTS * STATIONS));
            self.queue.sort_unstable_by_key(|(_, _, heard_ns)| *heard_ns);
        }
        self.pace_ns = now_ns + ANNOUNCE_PACE.as_nanos() as u64;
        let posted = (0..PACE_FRAMES).take_while(|_| self.queue_next(buffers)).count();
        posted as u64
    }

    /// Queues the next one, unless all buffers are still on their way.
    fn queue_next(&mut self, buffers: &mut Reserved<'_>) -> bool {
        let Some((key, tags, _)) = self.queue.last().copied() else { return false };
        let content = (key, tags);
        let Some(place) = self.find_buffer(buffers, content) else { return false };
        self.queue.pop();
        let (bytes, len) = request(key, tags);
        if self.written[place] != Some(content) {
            buffers.write(buffer(place), &bytes[..len]);
            self.written[place] = Some(content);
            self.next = (place + 1) % STATION_BUFFERS;
        }
        buffers.queue(buffer(place), len, false);
        true
    }

    /// A free buffer with this content, or else the one that was written longest ago.
    fn find_buffer(&self, buffers: &Reserved<'_>, content: (u64, Tags)) -> Option<usize> {
        let is_free = |place: &usize| buffers.is_free(buffer(*place));
        let holds = |place: &usize| self.written[*place] == Some(content);
        (0..STATION_BUFFERS).filter(holds).find(is_free).or_else(|| {
            (0..STATION_BUFFERS).map(|n| (self.next + n) % STATION_BUFFERS).find(is_free)
        })
    }
}

fn buffer(place: usize) -> u16 {
    FIRST_STATION + place as u16
}

/// The frame, and its length.
fn request(key: u64, tags: Tags) -> ([u8; REQUEST_BYTES + TAG_BYTES], usize) {
    let untagged = Announcement::new(mac_of(key), Announced::Nothing);
    let (addresses, rest) = untagged.bytes().split_at(ADDRESS_BYTES);
    let mut bytes = [0; REQUEST_BYTES + TAG_BYTES];
    let mut len = 0;
    for part in [addresses, tags.bytes(), rest] {
        bytes[len..len + part.len()].copy_from_slice(part);
        len += part.len();
    }
    (bytes, len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tx_pool::TxPool;
    use microvm::domain::DomainSlot;

    const MS: u64 = 1_000_000;

    fn announcer() -> (StationAnnouncer, TxPool) {
        let pool = DomainSlot::new_tx_pool().unwrap();
        (StationAnnouncer::new(&AnnounceConfig::default()), TxPool::new(pool, 1))
    }

    fn stations(count: u64) -> impl Iterator<Item = Heard> {
        (1..=count).map(|key| (key << 1, Tags::NONE, key))
    }

    #[test]
    fn each_address_is_announced_at_once_and_by_the_schedule() {
        let (mut announcer, mut tx) = announcer();
        assert_eq!(announcer.due_ns(), None);
        announcer.start(MS);
        assert_eq!(announcer.tick(&mut tx.reserved(), MS, || stations(3)), 3);
        assert_eq!(announcer.due_ns(), Some(2 * MS));
        assert_eq!(announcer.tick(&mut tx.reserved(), 2 * MS, || stations(2)), 2);
        announcer.stop();
        assert_eq!(announcer.due_ns(), None);
    }

    #[test]
    fn many_go_a_few_at_a_time_and_none_is_lost_for_want_of_buffers() {
        let (mut announcer, mut tx) = announcer();
        announcer.start(0);
        let mut posted = 0;
        while posted < STATION_BUFFERS as u64 {
            let due = announcer.due_ns().unwrap();
            let now = announcer.tick(&mut tx.reserved(), due, || stations(64));
            assert!(now > 0 && now <= PACE_FRAMES as u64);
            posted += now;
        }
        let due = announcer.due_ns().unwrap();
        assert!(due < MS, "the first of them within a millisecond");
        assert_eq!(announcer.tick(&mut tx.reserved(), due, || stations(0)), 0);
        assert_eq!(announcer.queue.len(), 64 - STATION_BUFFERS);
        assert!(announcer.due_ns().unwrap() > due, "it waits");
    }

    #[test]
    fn the_frame_carries_the_tags_of_the_station() {
        let mut head = [0; 42];
        head[12..20].copy_from_slice(&[0x88, 0xa8, 0, 7, 0x81, 0, 0, 5]);
        let (bytes, len) = request(0x0200_0000_0009, Tags::of(&head));
        assert_eq!(len, 68);
        assert_eq!(bytes[6..12], [2, 0, 0, 0, 0, 9]);
        assert_eq!(bytes[12..22], [0x88, 0xa8, 0, 7, 0x81, 0, 0, 5, 0x80, 0x35]);
    }
}

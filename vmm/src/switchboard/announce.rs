//! Announcements: frames from the guest's MAC that teach switches which port it is behind now.

use shared_ring::layout::{BUFFER_BYTES, TX_BUFFERS};

use crate::budget::ANNOUNCE_AGAIN;
use crate::memory::{MemoryError, SharedMemory};

/// Transmit buffers kept for announcements: one at a takeover and one for each repetition. They are
/// never the guest's, so a takeover needs no free buffer.
pub(crate) const ANNOUNCE_BUFFERS: usize = 1 + ANNOUNCE_AGAIN.len();

/// First of them; the guest's frames use those below.
pub(crate) const FIRST_ANNOUNCE_BUFFER: u16 = (TX_BUFFERS - ANNOUNCE_BUFFERS) as u16;

/// Bytes of an announcement: the shortest Ethernet frame.
pub(crate) const ANNOUNCE_BYTES: usize = 60;

/// A reverse ARP request (RFC 903) for the guest's own MAC, to everybody. It carries no IP address,
/// so it disturbs nobody's tables but those of switches, which is what live migration uses it for.
pub(crate) fn frame(mac: [u8; 6]) -> [u8; ANNOUNCE_BYTES] {
    let mut frame = [0; ANNOUNCE_BYTES];
    frame[..6].fill(0xff);
    frame[6..12].copy_from_slice(&mac);
    frame[12..14].copy_from_slice(&0x8035u16.to_be_bytes());
    frame[14..16].copy_from_slice(&1u16.to_be_bytes()); // hardware: Ethernet
    frame[16..18].copy_from_slice(&0x0800u16.to_be_bytes()); // protocol: IPv4
    frame[18] = 6;
    frame[19] = 4;
    frame[20..22].copy_from_slice(&3u16.to_be_bytes()); // request reverse
    frame[22..28].copy_from_slice(&mac);
    frame[32..38].copy_from_slice(&mac);
    frame
}

/// Writes the announcement into all its buffers, once: the content never changes, so a NIC that is
/// still reading one after its domain failed reads the right bytes.
pub(crate) fn write(pool: &SharedMemory, mac: [u8; 6]) -> Result<(), MemoryError> {
    let frame = frame(mac);
    (FIRST_ANNOUNCE_BUFFER..TX_BUFFERS as u16)
        .try_for_each(|buffer| pool.write(u64::from(buffer) * BUFFER_BYTES as u64, &frame))
}

/// When announcements follow a takeover.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    since_ns: u64,
    done: usize,
}

impl Schedule {
    /// Nothing to announce.
    pub(crate) fn idle() -> Self {
        Self { since_ns: 0, done: ANNOUNCE_AGAIN.len() }
    }

    /// The first went out at `now_ns`.
    pub(crate) fn start(now_ns: u64) -> Self {
        Self { since_ns: now_ns, done: 0 }
    }

    /// When the next is due.
    pub(crate) fn due_ns(&self) -> Option<u64> {
        ANNOUNCE_AGAIN.get(self.done).map(|after| self.since_ns + after.as_nanos() as u64)
    }

    /// Whether one is due; it counts as done then.
    pub(crate) fn take(&mut self, now_ns: u64) -> bool {
        let due = self.due_ns().is_some_and(|due| due <= now_ns);
        self.done += usize::from(due);
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announcement_is_a_broadcast_from_the_guest() {
        let mac = [2, 0, 0, 0, 0, 9];
        let frame = frame(mac);
        assert_eq!(frame[..6], [0xff; 6]);
        assert_eq!(frame[6..12], mac);
        assert_eq!(frame[12..14], [0x80, 0x35]);
        assert_eq!(frame[32..38], mac);
    }

    #[test]
    fn each_repetition_is_due_once() {
        let mut schedule = Schedule::start(1_000);
        assert!(!schedule.take(1_000));
        assert!(schedule.take(1_000 + 1_000_000));
        assert!(!schedule.take(1_000 + 1_000_000));
        assert!(schedule.take(u64::MAX));
        assert!(schedule.take(u64::MAX));
        assert_eq!(schedule.due_ns(), None);
        assert!(!Schedule::idle().take(u64::MAX));
    }
}

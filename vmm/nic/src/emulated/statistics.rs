//! Statistics registers (i210 datasheet §8.18). All clear when they are read and stop at their
//! highest value; the octet counters take two registers, and the read of the high one clears both.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use shared_ring::igb_registers::{self as reg, PRC64, PTC64, QUEUE_STATISTICS, STATISTICS};

const WORDS: usize = 0x130 / 4;
const FRAME_CHECK_BYTES: usize = 4;
/// Lowest length of each size class, and how far its counter is from the first.
const SIZE_CLASSES: [usize; 6] = [64, 65, 128, 256, 512, 1024];

/// A counter of one register, by its offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Counter {
    /// Missed: no room on the chip.
    Mpc = reg::MPC,
    /// Good packets received.
    Gprc = reg::GPRC,
    /// Broadcasts received.
    Bprc = reg::BPRC,
    /// Multicasts received.
    Mprc = reg::MPRC,
    /// Good packets transmitted.
    Gptc = reg::GPTC,
    /// No receive descriptor was free.
    Rnbc = reg::RNBC,
    /// Too long.
    Roc = reg::ROC,
    /// All packets received.
    Tpr = reg::TPR,
    /// All packets transmitted.
    Tpt = reg::TPT,
    /// Multicasts transmitted.
    Mptc = reg::MPTC,
    /// Broadcasts transmitted.
    Bptc = reg::BPTC,
    /// Segmentation contexts transmitted.
    Tsctc = reg::TSCTC,
    /// Packets that reached the host.
    Rpthc = reg::RPTHC,
    /// Good packets of the host transmitted.
    Hgptc = reg::HGPTC,
}

/// Low halves of the octet counters: good received, good transmitted, all received, all sent.
const OCTETS: [u32; 4] = [reg::GORCL, reg::GOTCL, reg::TORL, reg::TOTL];
/// Per-queue counters as offsets from the first: packets received, packets sent, octets received,
/// octets sent. They wrap, and reading leaves them alone.
const QUEUE: [u32; 4] = [0x00, 0x04, 0x08, 0x24];

/// All statistics of a NIC.
pub(super) struct Statistics {
    words: [AtomicU32; WORDS],
    octets: [AtomicU64; 4],
    queue: [AtomicU32; 4],
}

impl Statistics {
    pub(super) fn new() -> Self {
        Self {
            words: std::array::from_fn(|_| AtomicU32::new(0)),
            octets: std::array::from_fn(|_| AtomicU64::new(0)),
            queue: std::array::from_fn(|_| AtomicU32::new(0)),
        }
    }

    /// A read of the register at `offset`, with its side effect; `None` if it is none of these.
    pub(super) fn read(&self, offset: u32) -> Option<u32> {
        if let Some(place) = QUEUE.iter().position(|from| QUEUE_STATISTICS + from == offset) {
            return Some(self.queue[place].load(Ordering::Relaxed));
        }
        let word = self.words.get((offset.checked_sub(STATISTICS)? / 4) as usize)?;
        if let Some(place) = OCTETS.iter().position(|&low| low == offset) {
            return Some(self.octets[place].load(Ordering::Relaxed) as u32);
        }
        if let Some(place) = OCTETS.iter().position(|&low| low + 4 == offset) {
            return Some((self.octets[place].swap(0, Ordering::Relaxed) >> 32) as u32);
        }
        Some(word.swap(0, Ordering::Relaxed))
    }

    /// Reads and clears a counter.
    pub(super) fn take(&self, counter: Counter) -> u32 {
        self.word(counter as u32).swap(0, Ordering::Relaxed)
    }

    pub(super) fn clear(&self) {
        self.words.iter().for_each(|word| word.store(0, Ordering::Relaxed));
        self.octets.iter().for_each(|octets| octets.store(0, Ordering::Relaxed));
        self.queue.iter().for_each(|counter| counter.store(0, Ordering::Relaxed));
    }

    pub(super) fn count(&self, counter: Counter) {
        saturating_increment(self.word(counter as u32));
    }

    /// Every packet that the MAC saw, whether it passed the filters or not.
    pub(super) fn count_seen(&self, frame_bytes: usize) {
        self.count(Counter::Tpr);
        self.octets[2].fetch_add(on_wire(frame_bytes), Ordering::Relaxed);
    }

    /// A packet that passed the filters and found room.
    pub(super) fn count_received(&self, frame: &[u8]) {
        let octets = on_wire(frame.len());
        self.count(Counter::Gprc);
        self.count(Counter::Rpthc);
        self.count_group(frame, Counter::Bprc, Counter::Mprc);
        saturating_increment(self.word(PRC64 + size_class(octets)));
        self.octets[0].fetch_add(octets, Ordering::Relaxed);
        self.queue[0].fetch_add(1, Ordering::Relaxed);
        self.queue[2].fetch_add(octets as u32, Ordering::Relaxed);
    }

    /// A packet that went onto the wire.
    pub(super) fn count_sent(&self, frame: &[u8]) {
        let octets = on_wire(frame.len());
        for counter in [Counter::Gptc, Counter::Tpt, Counter::Hgptc] {
            self.count(counter);
        }
        self.count_group(frame, Counter::Bptc, Counter::Mptc);
        saturating_increment(self.word(PTC64 + size_class(octets)));
        self.octets[1].fetch_add(octets, Ordering::Relaxed);
        self.octets[3].fetch_add(octets, Ordering::Relaxed);
        self.queue[1].fetch_add(1, Ordering::Relaxed);
        self.queue[3].fetch_add(octets as u32, Ordering::Relaxed);
    }

    fn count_group(&self, frame: &[u8], broadcast: Counter, multicast: Counter) {
        if frame.starts_with(&[0xff; 6]) {
            self.count(broadcast);
        } else if frame.first().is_some_and(|byte| byte & 1 != 0) {
            self.count(multicast);
        }
    }

    fn word(&self, offset: u32) -> &AtomicU32 {
        &self.words[((offset - STATISTICS) / 4) as usize]
    }
}

/// Bytes that the registers count for a frame: the frame check sequence is one of them.
fn on_wire(frame_bytes: usize) -> u64 {
    (frame_bytes + FRAME_CHECK_BYTES) as u64
}

/// How far the counter of this size is from the first of its kind.
fn size_class(octets: u64) -> u32 {
    let class = SIZE_CLASSES.iter().rposition(|&least| octets >= least as u64).unwrap_or(0);
    class as u32 * 4
}

fn saturating_increment(word: &AtomicU32) {
    // Only the engine adds; a reader's swap in between is seen by the exchange.
    let _ = word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |value| value.checked_add(1));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_clear_on_read_and_stop_at_the_top() {
        let statistics = Statistics::new();
        statistics.word(Counter::Gptc as u32).store(u32::MAX - 1, Ordering::Relaxed);
        statistics.count_sent(&[0; 60]);
        statistics.count_sent(&[0; 60]);
        assert_eq!(statistics.read(0x4080), Some(u32::MAX));
        assert_eq!(statistics.read(0x4080), Some(0));
    }

    #[test]
    fn octets_clear_with_their_high_half() {
        let statistics = Statistics::new();
        statistics.octets[0].store(u64::from(u32::MAX), Ordering::Relaxed);
        statistics.count_received(&[0; 60]);
        assert_eq!(statistics.read(0x4088), Some(63));
        assert_eq!(statistics.read(0x408c), Some(1));
        assert_eq!((statistics.read(0x4088), statistics.read(0x408c)), (Some(0), Some(0)));
    }

    #[test]
    fn queue_counters_stay() {
        let statistics = Statistics::new();
        statistics.count_received(&[0; 60]);
        assert_eq!(statistics.read(0x1_0010), Some(1));
        assert_eq!(statistics.read(0x1_0010), Some(1));
        assert_eq!(statistics.read(0x1_0018), Some(64));
    }

    #[test]
    fn sizes_fall_into_their_classes() {
        let statistics = Statistics::new();
        for bytes in [60, 61, 123, 124, 1514] {
            statistics.count_sent(&vec![0; bytes]);
        }
        let classes: Vec<_> = (0..6).map(|class| statistics.read(0x40d8 + 4 * class)).collect();
        assert_eq!(classes, [1, 2, 1, 0, 0, 1].map(Some));
    }

    #[test]
    fn other_offsets_are_none_of_these() {
        let statistics = Statistics::new();
        assert_eq!(statistics.read(0x3ffc), None);
        assert_eq!(statistics.read(0x4130), None);
    }
}

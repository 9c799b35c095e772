//! The sender's ledger: what was sent when and what came back when, which is the truth as a user of
//! the service sees it.

/// In place of a time: nothing came back.
const MISSING: u64 = 0;

/// Everything the sender saw.
#[derive(Debug, Default)]
pub struct Ledger {
    /// When datagram *n* was sent, `CLOCK_MONOTONIC` nanoseconds.
    sent_ns: Vec<u64>,
    /// When its first echo came back, [`MISSING`] if none did.
    echoed_ns: Vec<u64>,
    /// Times of all first echoes, in the order of arrival.
    arrivals_ns: Vec<u64>,
    duplicated: u64,
    damaged: u64,
    corrupted: u64,
}

/// The time between two successive echoes, `CLOCK_MONOTONIC` nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gap {
    /// When the last echo before it came back.
    pub from_ns: u64,
    /// When the first echo after it came back.
    pub to_ns: u64,
}

impl Gap {
    /// How long it was, in nanoseconds.
    pub fn length_ns(&self) -> u64 {
        self.to_ns - self.from_ns
    }
}

/// Percentiles of the time between successive echoes, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Gaps {
    /// Median.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Largest.
    pub max: f64,
}

impl Ledger {
    /// A ledger with room for so many datagrams before it must grow.
    pub fn with_capacity(datagrams: usize) -> Self {
        Self {
            sent_ns: Vec::with_capacity(datagrams),
            echoed_ns: Vec::with_capacity(datagrams),
            arrivals_ns: Vec::with_capacity(datagrams),
            ..Self::default()
        }
    }

    /// Number of the next datagram.
    pub fn next_number(&self) -> u64 {
        self.sent_ns.len() as u64
    }

    /// Notes that datagram [`Self::next_number`] is sent.
    pub fn sent(&mut self, at_ns: u64) {
        self.sent_ns.push(at_ns);
        self.echoed_ns.push(MISSING);
    }

    /// Notes that an echo came back whole.
    pub fn echoed(&mut self, number: u64, at_ns: u64) {
        match usize::try_from(number).ok().and_then(|n| self.echoed_ns.get_mut(n)) {
            Some(echo) if *echo == MISSING => {
                *echo = at_ns;
                self.arrivals_ns.push(at_ns);
            }
            Some(_) => self.duplicated += 1,
            // A number that was never sent.
            None => self.corrupted += 1,
        }
    }

    /// Notes a frame for the sender that was damaged, as its checksums say.
    pub fn damaged(&mut self) {
        self.damaged += 1;
    }

    /// Notes a frame for the sender that was not what it had sent, although its checksums are right.
    pub fn corrupted(&mut self) {
        self.corrupted += 1;
    }

    /// Datagrams sent.
    pub fn total_sent(&self) -> u64 {
        self.sent_ns.len() as u64
    }

    /// Datagrams that came back at least once.
    pub fn total_echoed(&self) -> u64 {
        self.arrivals_ns.len() as u64
    }

    /// Second and further echoes.
    pub fn total_duplicated(&self) -> u64 {
        self.duplicated
    }

    /// Damaged or foreign frames.
    pub fn total_corrupted(&self) -> u64 {
        self.damaged + self.corrupted
    }

    /// Damaged or foreign frames that no checksum would have caught.
    pub fn total_uncaught(&self) -> u64 {
        self.corrupted
    }

    /// Returns true if the newest datagram has come back.
    pub fn is_settled(&self) -> bool {
        self.echoed_ns.last().is_none_or(|&at| at != MISSING)
    }

    /// Datagrams sent in a span of time.
    pub fn sent_between(&self, from_ns: u64, to_ns: u64) -> u64 {
        let first = self.sent_ns.partition_point(|&at| at < from_ns);
        let last = self.sent_ns.partition_point(|&at| at < to_ns);
        (last - first) as u64
    }

    /// Datagrams sent in a span of time that never came back.
    pub fn lost_between(&self, from_ns: u64, to_ns: u64) -> u64 {
        let first = self.sent_ns.partition_point(|&at| at < from_ns);
        let last = self.sent_ns.partition_point(|&at| at < to_ns);
        self.echoed_ns[first..last].iter().filter(|&&at| at == MISSING).count() as u64
    }

    /// The longest time between two successive echoes that overlaps a span. A silence that never
    /// ends counts up to the last datagram that was sent.
    pub fn longest_gap(&self, from_ns: u64, to_ns: u64) -> Option<Gap> {
        let first = self.arrivals_ns.partition_point(|&at| at <= from_ns).saturating_sub(1);
        let last = self.arrivals_ns.partition_point(|&at| at < to_ns);
        let end = self.sent_ns.last().copied().unwrap_or(0);
        let arrivals = &self.arrivals_ns[first..];
        arrivals
            .iter()
            .take(last.saturating_sub(first).max(1))
            .enumerate()
            .map(|(i, &at)| Gap {
                from_ns: at,
                to_ns: arrivals.get(i + 1).copied().unwrap_or(end.max(at)),
            })
            .max_by_key(Gap::length_ns)
    }

    /// How long each datagram that came back was under way, in nanoseconds, shortest first.
    pub fn round_trips_ns(&self) -> Vec<u64> {
        let pairs = self.sent_ns.iter().zip(&self.echoed_ns);
        let back = pairs.filter(|(_, echoed)| **echoed != MISSING);
        let mut all: Vec<u64> = back.map(|(sent, echoed)| echoed.saturating_sub(*sent)).collect();
        all.sort_unstable();
        all
    }

    /// The median of them, microseconds; 0 if nothing came back.
    pub fn round_trip_us(&self) -> f64 {
        percentile(&self.round_trips_ns(), 0.50).map_or(0.0, |ns| ns as f64 / 1000.0)
    }

    /// Percentiles of the gaps of the whole run.
    pub fn gaps(&self) -> Gaps {
        let mut all: Vec<u64> = self.arrivals_ns.windows(2).map(|pair| pair[1] - pair[0]).collect();
        all.sort_unstable();
        let micros = |ns: u64| ns as f64 / 1000.0;
        Gaps {
            p50: percentile(&all, 0.50).map_or(0.0, micros),
            p99: percentile(&all, 0.99).map_or(0.0, micros),
            max: all.last().copied().map_or(0.0, micros),
        }
    }
}

/// The value that a share of `sorted` does not exceed (nearest rank); `None` if `sorted` is empty.
pub fn percentile<T: Copy>(sorted: &[T], share: f64) -> Option<T> {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Echoes 100 ns after each datagram, sent at the given times; `lost` never come back.
    fn ledger(sent: &[u64], lost: &[usize]) -> Ledger {
        let mut ledger = Ledger::default();
        for &at in sent {
            ledger.sent(at);
        }
        for (n, &at) in sent.iter().enumerate() {
            if !lost.contains(&n) {
                ledger.echoed(n as u64, at + 100);
            }
        }
        ledger
    }

    #[test]
    fn a_gap_is_measured_between_the_echoes_around_it() {
        let ledger = ledger(&[1000, 2000, 3000, 4000, 5000], &[2]);
        assert_eq!(ledger.longest_gap(2500, 3500), Some(Gap { from_ns: 2100, to_ns: 4100 }));
        assert_eq!(ledger.lost_between(2500, 3500), 1);
        assert_eq!(ledger.lost_between(3001, 9000), 0);
        assert_eq!((ledger.round_trips_ns(), ledger.round_trip_us()), (vec![100; 4], 0.1));
    }

    #[test]
    fn a_silence_that_never_ends_counts() {
        let ledger = ledger(&[1000, 2000, 3000, 4000, 50_000], &[2, 3, 4]);
        assert_eq!(ledger.longest_gap(2500, 3500), Some(Gap { from_ns: 2100, to_ns: 50_000 }));
    }

    #[test]
    fn second_echoes_and_foreign_numbers_are_told_apart() {
        let mut ledger = ledger(&[1000, 2000], &[]);
        ledger.echoed(0, 3000);
        ledger.echoed(99, 3000);
        assert_eq!((ledger.total_duplicated(), ledger.total_corrupted()), (1, 1));
        assert_eq!(ledger.total_echoed(), 2);
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        let values: Vec<u32> = (1..=100).collect();
        assert_eq!(percentile(&values, 0.5), Some(50));
        assert_eq!(percentile(&values, 0.99), Some(99));
        assert_eq!(percentile(&values[..1], 0.99), Some(1));
        assert_eq!(percentile::<u32>(&[], 0.5), None);
    }
}

//! Totals of the statistics registers (i210 datasheet §8.18), which clear when they are read.

use std::sync::atomic::{AtomicU64, Ordering};

use super::bar::Bar;
use crate::interface::BarRegisters;
use crate::registers::{
    ALL_ONES, CRCERRS, GPRC, GPTC, MPC, RFC, RJC, RNBC, ROC, RUC, RXERRC, STATUS, TPR,
};
use crate::totals::{NicCounters, Total, Totals};

/// The registers of losses, and the total that each is a part of.
const LOSSES: [(u32, Total); 8] = [
    (MPC, Total::Missed),
    (RNBC, Total::NoBuffer),
    (ROC, Total::TooLong),
    (RJC, Total::TooLong),
    (RUC, Total::TooShort),
    (RFC, Total::TooShort),
    (CRCERRS, Total::Damaged),
    (RXERRC, Total::Damaged),
];

/// What the registers of one NIC have counted.
#[derive(Debug)]
pub(super) struct RegisterTotals {
    totals: Totals,
    /// Packets of any kind (TPR).
    seen: AtomicU64,
    /// The most of them that no other register had counted. The registers are not read at one
    /// moment, and a total never falls.
    filtered: AtomicU64,
    /// Received ones at the last [`Self::take_received`].
    taken: AtomicU64,
}

impl RegisterTotals {
    pub(super) fn new() -> Self {
        let [seen, filtered, taken] = [0; 3].map(AtomicU64::new);
        Self { totals: Totals::new(), seen, filtered, taken }
    }

    /// Good frames sent since the last call.
    #[inline]
    pub(super) fn take_sent(&self, bar: &Bar) -> u32 {
        let sent = bar.read(GPTC);
        // A NIC that is gone answers all ones.
        if sent != ALL_ONES {
            self.totals.add(Total::Sent, sent.into());
        }
        sent
    }

    /// Good frames received since the last call.
    pub(super) fn take_received(&self, bar: &Bar) -> u32 {
        self.add(bar, GPRC, Total::Received);
        let received = self.totals.get(Total::Received);
        received.saturating_sub(self.taken.swap(received, Ordering::Relaxed)) as u32
    }

    /// All totals now, but for what was sent since [`Self::take_sent`]: those frames are the
    /// switchboard's to ask for.
    pub(super) fn counters(&self, bar: &Bar) -> NicCounters {
        if bar.read(STATUS) != ALL_ONES {
            self.add(bar, GPRC, Total::Received);
            LOSSES.iter().for_each(|(register, total)| self.add(bar, *register, *total));
            self.seen.fetch_add(bar.read(TPR).into(), Ordering::Relaxed);
        }
        let counters = self.totals.counters();
        let known = counters.received + counters.lost();
        let others = self.seen.load(Ordering::Relaxed).saturating_sub(known);
        let filtered = self.filtered.fetch_max(others, Ordering::Relaxed).max(others);
        NicCounters { filtered, ..counters }
    }

    fn add(&self, bar: &Bar, register: u32, total: Total) {
        let count = bar.read(register);
        if count != ALL_ONES {
            self.totals.add(total, count.into());
        }
    }
}

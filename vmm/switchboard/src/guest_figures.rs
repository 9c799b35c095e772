//! What the switchboard shows of each guest: one writer, any number of readers.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::counters::Counter;
use crate::limits::FURTHER_MACS;
use crate::macs::{Refusal, key_of, mac_of};

/// The figures of one guest.
#[derive(Debug)]
pub struct GuestFigures {
    refused: [Counter; Refusal::ALL.len()],
    /// The last source that was refused, as a number; 0 for none.
    refused_source: AtomicU64,
    /// The addresses that the guest has beside its own, as numbers; 0 for none.
    macs: [AtomicU64; FURTHER_MACS],
    pushed_out: Counter,
}

impl Default for GuestFigures {
    fn default() -> Self {
        Self {
            refused: Default::default(),
            refused_source: AtomicU64::new(0),
            macs: std::array::from_fn(|_| AtomicU64::new(0)),
            pushed_out: Counter::default(),
        }
    }
}

impl GuestFigures {
    /// Counts a frame with this head that was not let out.
    pub(crate) fn count_refused(&self, refusal: Refusal, head: &[u8]) {
        self.refused[refusal as usize].add(1);
        if refusal == Refusal::Source {
            self.refused_source.store(key_of(&head[6..12]), Ordering::Relaxed);
        }
    }

    /// Shows the addresses that the guest has now, and how many had to make room so far.
    pub(crate) fn show_macs(&self, now: impl Iterator<Item = u64>, pushed_out: u64) {
        let all = now.chain(std::iter::repeat(0));
        self.macs.iter().zip(all).for_each(|(cell, key)| cell.store(key, Ordering::Relaxed));
        self.pushed_out.set(pushed_out);
    }

    /// Frames that were not let out, by reason.
    pub fn refused(&self) -> impl Iterator<Item = (Refusal, u64)> {
        Refusal::ALL.into_iter().zip(self.refused.iter().map(Counter::get))
    }

    /// The source of the last frame that was refused for it.
    pub fn refused_source(&self) -> Option<[u8; 6]> {
        let key = self.refused_source.load(Ordering::Relaxed);
        (key != 0).then(|| mac_of(key))
    }

    /// The addresses that the guest has beside its own.
    pub fn macs(&self) -> impl Iterator<Item = [u8; 6]> {
        let keys = self.macs.iter().map(|cell| cell.load(Ordering::Relaxed));
        keys.filter(|key| *key != 0).map(mac_of)
    }

    /// Learned addresses that had to make room for others so far.
    pub fn pushed_out(&self) -> u64 {
        self.pushed_out.get()
    }
}

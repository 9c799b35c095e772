//! What became of all frames that a NIC ever saw: totals that no reset and no other reader clears.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! totals {
    ($($(#[$doc:meta])* $name:ident $variant:ident $label:literal),+ $(,)?) => {
        /// Frames of a NIC by what became of them, since it was opened.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct NicCounters {
            $($(#[$doc])* pub $name: u64,)+
        }

        impl NicCounters {
            /// All of them with their names, for metrics.
            pub fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$(($label, self.$name)),+].into_iter()
            }
        }

        /// One of the totals.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Total {
            $($(#[$doc])* $variant,)+
        }

        const TOTALS: usize = [$($label),+].len();

        impl Totals {
            /// The totals now.
            pub(crate) fn counters(&self) -> NicCounters {
                NicCounters { $($name: self.get(Total::$variant)),+ }
            }
        }
    };
}

totals! {
    /// Sent (GPTC), as far as somebody has asked.
    sent Sent "sent",
    /// Passed the filters and came into the domain's memory (GPRC).
    received Received "received",
    /// Lost: there was no room, because the domain or its guest takes frames too slowly, or because
    /// the queue was off (MPC).
    missed Missed "missed",
    /// Found no free descriptor (RNBC). The emulated NIC loses these and counts them as missed too;
    /// hardware holds them on the chip as long as there is room.
    no_buffer NoBuffer "no-buffer",
    /// Refused: too long (ROC, RJC).
    too_long TooLong "too-long",
    /// Refused: too short (RUC, RFC).
    too_short TooShort "too-short",
    /// Refused: damaged on the wire (CRCERRS, RXERRC).
    damaged Damaged "damaged",
    /// Refused by the filters: for another station, or for none while the NIC stands by. For
    /// hardware this is what TPR counts and no other register does.
    filtered Filtered "filtered",
    /// Came while the receive unit or the link was off. Hardware does not count these.
    deaf Deaf "deaf",
    /// Lost: its descriptor is nonsense.
    unusable Unusable "unusable",
}

/// The totals themselves.
#[derive(Debug)]
pub(crate) struct Totals([AtomicU64; TOTALS]);

impl Totals {
    pub(crate) fn new() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }

    /// Adds to a total.
    #[inline]
    pub(crate) fn add(&self, total: Total, frames: u64) {
        self.0[total as usize].fetch_add(frames, Ordering::Relaxed);
    }

    pub(crate) fn get(&self, total: Total) -> u64 {
        self.0[total as usize].load(Ordering::Relaxed)
    }
}

impl NicCounters {
    /// Frames that arrived at the NIC.
    pub fn arrived(&self) -> u64 {
        self.received + self.lost() + self.filtered + self.deaf
    }

    /// Frames that passed by or came for the guests, and did not get into memory.
    pub fn lost(&self) -> u64 {
        self.missed + self.too_long + self.too_short + self.damaged + self.unusable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_arrived_is_the_sum_of_what_became_of_it() {
        let totals = Totals::new();
        for total in [Total::Received, Total::Missed, Total::NoBuffer, Total::Filtered, Total::Deaf]
        {
            totals.add(total, 1);
        }
        totals.add(Total::Sent, 7);
        let counters = totals.counters();
        assert_eq!((counters.arrived(), counters.lost(), counters.sent), (4, 1, 7));
        assert_eq!(counters.each().find(|(name, _)| *name == "no-buffer"), Some(("no-buffer", 1)));
    }
}

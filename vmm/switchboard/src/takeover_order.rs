//! The order to take over, given from any thread without a lock; and the report of what the last
//! takeover did, read from any thread without making the switchboard wait.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use microvm::domain::DomainId;

/// An order to hand the ring to another domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakeOver {
    /// The domain that is active from now on.
    pub to: DomainId,
    /// Its installed life.
    pub epoch: u32,
    /// When the verdict over the other domain fell, `CLOCK_MONOTONIC` nanoseconds; for the report.
    pub verdict_ns: u64,
    /// The NIC of the other domain may not answer. A read of it could last tens of milliseconds, so
    /// it is not asked what it has sent: every frame that it has not confirmed is sent again.
    pub nic_suspected: bool,
}

macro_rules! report {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// What a takeover did.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct TakeOverReport {
            $($(#[$doc])* pub $name: u64,)+
        }

        const WORDS: usize = [$(stringify!($name)),+].len();

        impl TakeOverReport {
            fn words(&self) -> [u64; WORDS] {
                [$(self.$name),+]
            }

            fn from_words(words: [u64; WORDS]) -> Self {
                let [$($name),+] = words;
                Self { $($name),+ }
            }
        }
    };
}

report! {
    /// Number of the takeover, from 1; 0 means that there was none.
    sequence,
    /// Number of the domain that became active.
    to,
    /// Its epoch.
    epoch,
    /// 1 if there was no such installed life: the ring has no domain now.
    refused,
    /// Stamp of the verdict.
    verdict_ns,
    /// When everything the failed domain left was published to the other, `CLOCK_MONOTONIC`
    /// nanoseconds.
    published_ns,
    /// When the whole takeover was done, salvage included.
    done_ns,
    /// Frames of the failed domain that its NIC had sent after all.
    confirmed_late,
    /// When the oldest frame that the failed domain was given and its NIC did not send was posted,
    /// `CLOCK_MONOTONIC` nanoseconds; 0 if there was none.
    oldest_ns,
    /// Frames published again.
    resent,
    /// Frames recognised as poison.
    poisoned,
    /// Received frames that the failed domain had published.
    drained,
    /// Received frames that its NIC had completed and it had not published.
    salvaged,
    /// Received frames of all these that could not be handed on.
    lost,
}

/// The last report. It has one writer and many readers, which retry while a report is being
/// written.
#[derive(Debug, Default)]
pub(crate) struct ReportCell {
    /// Odd while a report is being written.
    version: AtomicU64,
    words: [AtomicU64; WORDS],
}

impl ReportCell {
    pub(crate) fn write(&self, report: &TakeOverReport) {
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version + 1, Ordering::Relaxed);
        fence(Ordering::Release);
        for (cell, word) in self.words.iter().zip(report.words()) {
            cell.store(word, Ordering::Relaxed);
        }
        self.version.store(version + 2, Ordering::Release);
    }

    pub(crate) fn read(&self) -> TakeOverReport {
        loop {
            let before = self.version.load(Ordering::Acquire);
            let mut words = [0; WORDS];
            for (word, cell) in words.iter_mut().zip(&self.words) {
                *word = cell.load(Ordering::Relaxed);
            }
            fence(Ordering::Acquire);
            if before.is_multiple_of(2) && self.version.load(Ordering::Relaxed) == before {
                return TakeOverReport::from_words(words);
            }
            std::thread::yield_now();
        }
    }
}

/// The box for one order: written from any thread without a lock, emptied at each loop boundary.
#[derive(Debug, Default)]
pub(crate) struct OrderBox {
    /// `to` in bits 0-7, bit 8 set when full, bit 9 when the NIC is suspected, epoch in bits 32-63.
    order: AtomicU64,
    verdict_ns: AtomicU64,
}

impl OrderBox {
    const FULL: u64 = 1 << 8;
    const SUSPECTED: u64 = 1 << 9;

    /// Puts an order in. It replaces one that was not taken yet.
    pub(crate) fn put(&self, order: &TakeOver) {
        self.verdict_ns.store(order.verdict_ns, Ordering::Relaxed);
        let suspected = if order.nic_suspected { Self::SUSPECTED } else { 0 };
        let word = u64::from(order.to.0) | Self::FULL | suspected | u64::from(order.epoch) << 32;
        self.order.store(word, Ordering::Release);
    }

    /// Returns true if an order waits to be taken.
    pub(crate) fn is_full(&self) -> bool {
        self.order.load(Ordering::Acquire) != 0
    }

    /// Takes the order out, if there is one.
    pub(crate) fn take(&self) -> Option<TakeOver> {
        if self.order.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let word = self.order.swap(0, Ordering::Acquire);
        (word & Self::FULL != 0).then(|| TakeOver {
            to: DomainId(word as u8),
            epoch: (word >> 32) as u32,
            verdict_ns: self.verdict_ns.load(Ordering::Relaxed),
            nic_suspected: word & Self::SUSPECTED != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_taken_once() {
        let orders = OrderBox::default();
        for nic_suspected in [false, true] {
            let order = TakeOver { to: DomainId(0), epoch: u32::MAX, verdict_ns: 7, nic_suspected };
            orders.put(&order);
            assert!(orders.is_full());
            assert_eq!(orders.take(), Some(order));
            assert!(!orders.is_full());
            assert_eq!(orders.take(), None);
        }
    }

    #[test]
    fn a_report_is_read_as_written() {
        let cell = ReportCell::default();
        assert_eq!(cell.read(), TakeOverReport::default());
        let report = TakeOverReport { sequence: 3, lost: 4, ..TakeOverReport::default() };
        cell.write(&report);
        assert_eq!(cell.read(), report);
    }
}

//! Whether the domain that serves hears the network, judged over seconds.
//!
//! A drill lasts a millisecond, in which an ordinary network is silent. So a question that did not
//! arrive says that the active side is deaf only if that side has heard nothing for much longer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use microvm::domain::DomainId;

use super::flapping::nanos;

/// For how long an active domain has to have heard nothing before it may be the deaf one. A network
/// with more than a few hosts is never silent for so long.
const SILENCE: Duration = Duration::from_secs(5);

/// What the life that serves has heard. The supervisor thread is the one writer; whoever drills
/// reads.
#[derive(Debug, Default)]
pub(super) struct Hearing {
    /// Domain in bits 32-63, epoch in bits 0-31.
    life: AtomicU64,
    /// Frames that the switchboard had received at the last note.
    received: AtomicU64,
    /// When that number last rose while this life served, `CLOCK_MONOTONIC` nanoseconds; 0 if it
    /// has not.
    heard_ns: AtomicU64,
}

fn pack((id, epoch): (DomainId, u32)) -> u64 {
    u64::from(id.0) << 32 | u64::from(epoch)
}

impl Hearing {
    /// This life serves, and so many frames have come in so far.
    pub(super) fn note(&self, life: (DomainId, u32), received: u64, now_ns: u64) {
        let is_new = self.life.swap(pack(life), Ordering::AcqRel) != pack(life);
        let rose = self.received.swap(received, Ordering::Relaxed) != received;
        match (is_new, rose) {
            // What came in before may be another life's.
            (true, _) => self.heard_ns.store(0, Ordering::Release),
            (false, true) => self.heard_ns.store(now_ns, Ordering::Release),
            (false, false) => {}
        }
    }

    /// Returns true if this life serves and has heard something within the last seconds.
    pub(super) fn hears(&self, life: (DomainId, u32), now_ns: u64) -> bool {
        let heard_ns = self.heard_ns.load(Ordering::Acquire);
        let same = self.life.load(Ordering::Acquire) == pack(life);
        same && heard_ns != 0 && now_ns.saturating_sub(heard_ns) <= nanos(SILENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_life_hears_for_as_long_as_frames_have_come_in_lately() {
        let (hearing, life) = (Hearing::default(), (DomainId(0), 1));
        hearing.note(life, 100, 9 * SECOND);
        assert!(!hearing.hears(life, 9 * SECOND), "they may have come in before it served");
        hearing.note(life, 101, 10 * SECOND);
        hearing.note(life, 101, 13 * SECOND);
        assert!(hearing.hears(life, 15 * SECOND));
        assert!(!hearing.hears(life, 16 * SECOND), "silent for too long");
    }

    #[test]
    fn what_another_life_heard_proves_nothing() {
        let hearing = Hearing::default();
        let [first, second] = [(DomainId(0), 1), (DomainId(1), 1)];
        hearing.note(first, 100, SECOND);
        hearing.note(first, 101, SECOND);
        hearing.note(second, 102, SECOND);
        assert!(!hearing.hears(second, SECOND));
        assert!(!hearing.hears(first, SECOND), "it serves no more");
    }
}

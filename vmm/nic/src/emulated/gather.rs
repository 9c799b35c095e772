//! Frames that arrive on the wire in quick succession are left to gather, and taken together.
//!
//! A wake of the engine for a frame wakes a driver, and the driver wakes the switchboard; where
//! there are few processors, each of them runs before the sender does. So a flood would be taken
//! frame by frame, at three wakes each. Instead, a wake soon after another is followed by a pause,
//! in which the engine does not listen to the wire: the next wake finds many frames. A frame that
//! comes alone is taken at once.

use platform::budget::NIC_GATHER;

const GATHER_NS: u64 = NIC_GATHER.as_nanos() as u64;

/// When the wire is listened to.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    /// When frames were taken last.
    taken_ns: u64,
    until_ns: Option<u64>,
}

impl Gathering {
    /// Frames were taken since the last sleep, and there are no more.
    pub(super) fn taken(&mut self, now_ns: u64) {
        let since_ns = now_ns.saturating_sub(self.taken_ns);
        // A pause and a turn after the last ones is soon, too: a flood goes on.
        self.until_ns = (since_ns < 2 * GATHER_NS).then_some(now_ns + GATHER_NS);
        self.taken_ns = now_ns;
    }

    /// Until when the wire is not listened to, if it is not.
    pub(super) fn until_ns(&self, now_ns: u64) -> Option<u64> {
        self.until_ns.filter(|until_ns| *until_ns > now_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_alone_is_not_followed_by_a_pause() {
        let mut gathering = Gathering::default();
        for n in 1..10 {
            let now_ns = n * 3 * GATHER_NS;
            gathering.taken(now_ns);
            assert_eq!(gathering.until_ns(now_ns), None);
        }
    }

    #[test]
    fn a_flood_is_taken_once_a_pause() {
        let mut gathering = Gathering::default();
        gathering.taken(10 * GATHER_NS);
        let mut now_ns = 10 * GATHER_NS + 1000;
        for _ in 0..10 {
            gathering.taken(now_ns);
            let until_ns = gathering.until_ns(now_ns).expect("a pause");
            assert_eq!(until_ns, now_ns + GATHER_NS);
            assert_eq!(gathering.until_ns(until_ns), None, "it is over");
            now_ns = until_ns + GATHER_NS / 2; // late, on a busy machine
        }
    }
}

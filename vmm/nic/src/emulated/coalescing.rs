//! DMA coalescing (i210 datasheet §5.8): received packets wait on the chip until its watchdog timer
//! expires. Here they wait on the wire. The other ways to leave that state are not modelled: the
//! amount that waits, and transmission.

/// Since when packets wait.
#[derive(Debug, Default)]
pub(super) struct Coalescing {
    is_on: bool,
    until_ns: Option<u64>,
}

impl Coalescing {
    /// Returns true if packets that have arrived go on now. `watchdog_ns` is how long they wait, or
    /// `None` if DMA coalescing is off.
    pub(super) fn lets_through(&mut self, now_ns: u64, watchdog_ns: Option<u64>) -> bool {
        let was_on = std::mem::replace(&mut self.is_on, watchdog_ns.is_some());
        let Some(watchdog_ns) = watchdog_ns else {
            self.until_ns = None;
            return true;
        };
        if !was_on {
            // Some may have arrived before, and then nobody tells of them again.
            self.until_ns = Some(now_ns + watchdog_ns);
        }
        self.until_ns.is_some_and(|until_ns| now_ns >= until_ns)
    }

    /// Packets have arrived: the watchdog starts, if it does not run.
    pub(super) fn arrived(&mut self, now_ns: u64, watchdog_ns: Option<u64>) {
        if let (None, Some(watchdog_ns)) = (self.until_ns, watchdog_ns) {
            self.until_ns = Some(now_ns + watchdog_ns);
        }
    }

    /// All packets that had arrived have gone on.
    pub(super) fn taken(&mut self) {
        self.until_ns = None;
    }

    /// Until when nothing goes on, if packets wait.
    pub(super) fn until_ns(&self) -> Option<u64> {
        self.until_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_wait_for_the_watchdog() {
        let mut coalescing = Coalescing::default();
        assert!(coalescing.lets_through(0, None));
        assert!(!coalescing.lets_through(10, Some(100)), "what came before waits too");
        assert!(coalescing.lets_through(110, Some(100)));
        coalescing.taken();
        assert!(!coalescing.lets_through(500, Some(100)), "nothing has arrived");
        coalescing.arrived(600, Some(100));
        coalescing.arrived(650, Some(100));
        assert_eq!(coalescing.until_ns(), Some(700), "counted from the first");
        assert!(
            !coalescing.lets_through(699, Some(100)) && coalescing.lets_through(700, Some(100))
        );
    }

    #[test]
    fn switched_off_it_lets_go_at_once() {
        let mut coalescing = Coalescing::default();
        coalescing.arrived(0, Some(1_000));
        assert!(coalescing.lets_through(1, None));
        assert_eq!(coalescing.until_ns(), None);
    }
}

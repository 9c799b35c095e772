//! Log lines that a front-end can cause as often as it likes.

use std::time::{Duration, Instant};

/// Lines at once.
const BURST: u32 = 8;
/// Between two lines after that.
const EVERY: Duration = Duration::from_secs(10);

/// Lets a few lines pass, and then one now and then.
#[derive(Debug)]
pub(super) struct Pace {
    /// Lines that may pass now.
    tokens: u32,
    since: Instant,
    untold: u64,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { tokens: BURST, since: Instant::now(), untold: 0 }
    }

    /// Asks for a line. Returns how many were left out before it, if any were; or `None` if it is left
    /// out too.
    pub(super) fn ask(&mut self, now: Instant) -> Option<Option<u64>> {
        let periods = now.saturating_duration_since(self.since).as_secs() / EVERY.as_secs();
        if periods > 0 {
            let more = u32::try_from(periods).unwrap_or(BURST);
            self.tokens = self.tokens.saturating_add(more).min(BURST);
            self.since = now;
        }
        if self.tokens == 0 {
            self.untold += 1;
            return None;
        }
        self.tokens -= 1;
        let untold = std::mem::take(&mut self.untold);
        Some((untold > 0).then_some(untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_becomes_a_few_lines_and_then_one_now_and_then() {
        let mut pace = Pace::new();
        let start = Instant::now();
        let told = (0..1000).filter(|_| pace.ask(start).is_some()).count();
        assert_eq!(told, BURST as usize);
        let later = start + EVERY + Duration::from_secs(1);
        assert_eq!(pace.ask(later), Some(Some(1000 - u64::from(BURST))));
        assert_eq!(pace.ask(later), None);
        assert_eq!(pace.ask(later + 100 * EVERY), Some(Some(1)));
        assert_eq!(pace.ask(later + 100 * EVERY), Some(None));
    }
}

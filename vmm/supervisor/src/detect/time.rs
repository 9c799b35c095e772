//! Time as the detectors count it.
//!
//! A sample that is late, because the machine ran something else or nothing at all, counts as if it
//! had been taken when it was due: if the supervisor was not scheduled in between, the domain, the
//! NIC's engine and the switchboard may not have been scheduled either. The same bound holds for
//! CPU time, which on an emulated CPU runs on while the machine stands still.

/// How much later than planned a sample may be and still count in full.
const LATENESS_NS: u64 = 500_000;

/// Microseconds as nanoseconds.
pub(super) fn ns(us: u32) -> u64 {
    u64::from(us) * 1_000
}

/// A moment in counted time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) wall_ns: u64,
    pub(super) cpu_ns: u64,
}

/// How long something has lasted, in counted time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Age {
    pub(super) wall_ns: u64,
    pub(super) cpu_ns: u64,
}

impl Moment {
    pub(super) fn since(self, earlier: Self) -> Age {
        Age {
            wall_ns: self.wall_ns.saturating_sub(earlier.wall_ns),
            cpu_ns: self.cpu_ns.saturating_sub(earlier.cpu_ns),
        }
    }
}

/// What the two clocks say.
#[derive(Clone, Copy, Debug)]
struct Clocks {
    wall_ns: u64,
    cpu_ns: u64,
}

/// Counts time from sample to sample.
#[derive(Debug, Default)]
pub(super) struct Counted {
    now: Moment,
    /// The clocks at the last sample.
    last: Option<Clocks>,
    /// How long after the last sample the next one is due.
    planned_ns: u64,
}

impl Counted {
    /// Counts the time up to a sample with these clocks. Returns the moment in counted time.
    pub(super) fn advance(&mut self, wall_ns: u64, cpu_ns: u64) -> Moment {
        if let Some(last) = self.last {
            let passed = wall_ns.saturating_sub(last.wall_ns).min(self.planned_ns + LATENESS_NS);
            self.now.wall_ns += passed;
            self.now.cpu_ns += cpu_ns.saturating_sub(last.cpu_ns).min(passed);
        }
        self.last = Some(Clocks { wall_ns, cpu_ns });
        self.now
    }

    /// The next sample is due in `in_ns`.
    pub(super) fn plan(&mut self, in_ns: u64) {
        self.planned_ns = in_ns;
    }
}

/// A stretch in which something stays the same.
#[derive(Debug)]
pub(super) struct Stretch<K> {
    began: Option<(K, Moment)>,
}

impl<K> Default for Stretch<K> {
    fn default() -> Self {
        Self { began: None }
    }
}

impl<K: PartialEq + Copy> Stretch<K> {
    /// How long `key` has been the same. A new stretch begins if it is not.
    pub(super) fn age(&mut self, key: K, now: Moment) -> Age {
        match self.began {
            Some((began, since)) if began == key => now.since(since),
            _ => {
                self.began = Some((key, now));
                Age::default()
            }
        }
    }

    /// What stays the same at present.
    pub(super) fn key(&self) -> Option<K> {
        self.began.map(|(key, _)| key)
    }

    pub(super) fn forget(&mut self) {
        self.began = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_late_sample_counts_as_if_it_were_on_time() {
        let mut counted = Counted::default();
        let first = counted.advance(5 * MS, 0);
        counted.plan(MS);
        let late = counted.advance(105 * MS, 90 * MS);
        let age = late.since(first);
        assert!(age.wall_ns < 2 * MS && age.cpu_ns <= age.wall_ns, "{age:?}");
    }

    #[test]
    fn an_early_sample_counts_what_has_passed() {
        let mut counted = Counted::default();
        let first = counted.advance(0, 0);
        counted.plan(100 * MS);
        let early = counted.advance(MS, MS / 2);
        assert_eq!(early.since(first), Age { wall_ns: MS, cpu_ns: MS / 2 });
    }

    #[test]
    fn a_stretch_begins_anew_with_every_change() {
        let at = |ms: u64| Moment { wall_ns: ms * MS, cpu_ns: 0 };
        let mut stretch = Stretch::default();
        assert_eq!(stretch.age(1, at(0)).wall_ns, 0);
        assert_eq!(stretch.age(1, at(3)).wall_ns, 3 * MS);
        assert_eq!(stretch.age(2, at(4)).wall_ns, 0);
        stretch.forget();
        assert_eq!(stretch.age(2, at(9)).wall_ns, 0);
    }
}

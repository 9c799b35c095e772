//! Time as the detectors count it.
//!
//! A look that comes late, because the machine ran something else or nothing at all, counts as if
//! it had come when it was due: if the supervisor was not run in between, the domain, the NIC's
//! engine and the switchboard may not have been either. The same bound holds for CPU time, which on
//! an emulated CPU runs on while the machine stands still.

/// How much later than planned a look may come and still count in full.
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

/// Counts time from look to look.
#[derive(Debug, Default)]
pub(super) struct Counted {
    now: Moment,
    /// The last look: wall clock and CPU clock.
    last: Option<(u64, u64)>,
    /// When the next look is due after the last.
    planned_ns: u64,
}

impl Counted {
    /// A look at these clocks: what time it is, counted.
    pub(super) fn look(&mut self, wall_ns: u64, cpu_ns: u64) -> Moment {
        if let Some((last_wall_ns, last_cpu_ns)) = self.last {
            let passed = wall_ns.saturating_sub(last_wall_ns).min(self.planned_ns + LATENESS_NS);
            self.now.wall_ns += passed;
            self.now.cpu_ns += cpu_ns.saturating_sub(last_cpu_ns).min(passed);
        }
        self.last = Some((wall_ns, cpu_ns));
        self.now
    }

    /// The next look is planned.
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
    /// How long it has been so. Begins anew if it is not what it was.
    pub(super) fn age(&mut self, key: K, now: Moment) -> Age {
        match self.began {
            Some((began, since)) if began == key => now.since(since),
            _ => {
                self.began = Some((key, now));
                Age::default()
            }
        }
    }

    /// What has stayed the same, while it does.
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
    fn a_late_look_counts_as_if_it_were_on_time() {
        let mut counted = Counted::default();
        let first = counted.look(5 * MS, 0);
        counted.plan(MS);
        let late = counted.look(105 * MS, 90 * MS);
        let age = late.since(first);
        assert!(age.wall_ns < 2 * MS && age.cpu_ns <= age.wall_ns, "{age:?}");
    }

    #[test]
    fn an_early_look_counts_what_has_passed() {
        let mut counted = Counted::default();
        let first = counted.look(0, 0);
        counted.plan(100 * MS);
        let early = counted.look(MS, MS / 2);
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

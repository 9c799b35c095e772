//! What one run of the data path measured, and the figures of several runs.

use std::collections::BTreeMap;
use std::time::Instant;

use switchboard::Counters;

use super::Figure;
use super::usage::{self, Thread};

/// Target for the switchboard alone: frames of 64 bytes per second of one core.
const ALONE_64: f64 = 4e6;

/// How often the domain's vCPU left its guest, by reason.
#[derive(Default)]
pub(super) struct Exits {
    pub(super) waits: u64,
    pub(super) registers: u64,
    pub(super) kicks: u64,
}

impl Exits {
    pub(super) fn since(&self, before: &Self) -> Self {
        Self {
            waits: self.waits - before.waits,
            registers: self.registers - before.registers,
            kicks: self.kicks - before.kicks,
        }
    }
}

/// What one run measured.
#[derive(Default)]
pub(super) struct Sample {
    pub(super) frames: u64,
    pub(super) seconds: f64,
    /// What each thread has used, by name.
    threads: BTreeMap<String, Thread>,
    pub(super) sleeps: u64,
    pub(super) copies: u64,
    pub(super) kicks: u64,
    pub(super) guest_kicks: u64,
    pub(super) exits: Exits,
}

impl Sample {
    /// Counts everything that can be counted while `drive` runs, which returns the number of
    /// frames.
    pub(super) fn take(counters: &Counters, drive: impl FnOnce() -> u64) -> Self {
        let count = || [counters.sleeps.get(), counters.kicks.get(), counters.copies.get()];
        let (threads, began, before) = (usage::threads(), Instant::now(), count());
        let frames = drive();
        let after = count();
        Self {
            frames,
            seconds: began.elapsed().as_secs_f64(),
            threads: usage::since(&threads),
            sleeps: after[0] - before[0],
            kicks: after[1] - before[1],
            copies: after[2] - before[2],
            ..Self::default()
        }
    }

    pub(super) fn per_frame_ns(&self, wanted: impl Fn(&str) -> bool) -> f64 {
        let wanted = self.threads.iter().filter(|(name, _)| wanted(name));
        wanted.map(|(_, thread)| thread.ns).sum::<u64>() as f64 / self.frames.max(1) as f64
    }

    /// How often the threads that `wanted` selects went to sleep, per 1,000 frames.
    pub(super) fn sleeps_of(&self, wanted: impl Fn(&str) -> bool) -> f64 {
        let wanted = self.threads.iter().filter(|(name, _)| wanted(name));
        self.per_thousand(wanted.map(|(_, thread)| thread.sleeps).sum())
    }

    pub(super) fn per_thousand(&self, count: u64) -> f64 {
        count as f64 * 1000.0 / self.frames.max(1) as f64
    }

    /// Frames per second.
    pub(super) fn rate(&self) -> f64 {
        self.frames as f64 / self.seconds
    }
}

/// The runs of one row.
pub(super) struct Row<'a> {
    pub(super) group: &'static str,
    pub(super) name: &'a str,
    pub(super) samples: &'a [Sample],
}

impl Row<'_> {
    pub(super) fn figure(
        &self,
        name: (&'static str, &'static str),
        of: impl Fn(&Sample) -> f64,
    ) -> Figure {
        Figure::new(self.group, self.name, name, self.samples.iter().map(of).collect())
    }

    /// The figures of the switchboard alone; those of short frames have a target.
    pub(super) fn alone(&self, has_target: bool) -> Vec<Figure> {
        let cost = |sample: &Sample| sample.per_frame_ns(|name| name == "switchboard");
        let per_core = self.figure(("per second of its core", "frames/s"), |s| 1e9 / cost(s));
        vec![
            self.figure(("rate", "frames/s"), Sample::rate),
            if has_target { per_core.wanted(ALONE_64) } else { per_core },
            self.figure(("sleeps", "per 1000 frames"), |s| s.per_thousand(s.sleeps)),
        ]
    }
}

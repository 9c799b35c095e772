//! Hang, spin, blocked: what a vCPU does with its time.

use super::finding::{Detector, Finding, Symptom};
use super::opinion::Opinion;
use super::sample::Sample;
use super::thresholds::{Thresholds, ns};
use super::time::{Moment, Stretch};
use crate::domain::VcpuState;

/// Parks without a heartbeat in between that are no coincidence of two reads.
const SILENT_PARKS: u64 = 3;
/// CPU time below which a thread was not really run.
const HARDLY_RUN_NS: u64 = 250_000;

/// Heartbeat stands still, in the guest.
#[derive(Debug, Default)]
pub(super) struct Hang {
    still: Stretch<(u64, u64)>,
    /// CPU clock when the vCPU was kicked out for the second look.
    kicked: Option<Moment>,
}

impl Hang {
    /// Judges by CPU time; past the wall-clock cap, a vCPU that was hardly run is blocked.
    pub(super) fn look(&mut self, s: &Sample, now: Moment, t: &Thresholds) -> Opinion {
        if !s.runs() {
            self.still.forget();
            self.kicked = None;
            return Opinion::Fine;
        }
        let age = self.still.age((s.heartbeat, s.waits), now);
        if age.wall_ns == 0 {
            self.kicked = None;
        }
        let failed = |detector, symptom| Opinion::Failed(Finding::new(detector, symptom, age, s));
        if age.wall_ns >= ns(t.wall_cap_us) {
            return match age.cpu_ns {
                0..HARDLY_RUN_NS => failed(Detector::Blocked, Symptom::NoProgress),
                HARDLY_RUN_NS.. => failed(Detector::Hang, Symptom::NoHeartbeat),
            };
        }
        let (limit, second) = (ns(t.hang_cpu_us), ns(t.second_look_cpu_us));
        match self.kicked {
            None if age.cpu_ns >= limit => {
                self.kicked = Some(now);
                Opinion::SecondLook(second)
            }
            // Some turns are longer than others: looking sooner pays only once it is a suspicion.
            None if age.cpu_ns >= limit / 4 => Opinion::Suspect(limit - age.cpu_ns),
            None => Opinion::Fine,
            Some(kicked) => match now.since(kicked).cpu_ns {
                used if used >= second => failed(Detector::Hang, Symptom::NoHeartbeat),
                used => Opinion::Suspect(second - used),
            },
        }
    }
}

/// The loop turns without moving a cursor and without parking.
#[derive(Debug, Default)]
pub(super) struct Spin {
    idle: Stretch<([u32; 4], u64)>,
    first_beat: u64,
}

impl Spin {
    /// Judges by CPU time. With work at hand it is a ring stall, found early.
    pub(super) fn look(&mut self, s: &Sample, now: Moment, t: &Thresholds) -> Opinion {
        if !s.runs() || s.is_crowded() {
            self.idle.forget();
            return Opinion::Fine;
        }
        let age = self.idle.age((s.done(), s.waits), now);
        if age.wall_ns == 0 {
            self.first_beat = s.heartbeat;
        }
        let limit = ns(t.spin_cpu_us);
        let beats = s.heartbeat.wrapping_sub(self.first_beat);
        if beats < 2 || age.cpu_ns < limit / 4 {
            return Opinion::Fine;
        }
        if age.cpu_ns < limit {
            return Opinion::Suspect(limit - age.cpu_ns);
        }
        let detector = if s.has_work() { Detector::RingStall } else { Detector::Spin };
        Opinion::Failed(Finding::new(detector, Symptom::TurnsInVain, age, s))
    }
}

/// Parked, and either it does not wake, or it wakes and parks without a turn of its loop.
#[derive(Debug, Default)]
pub(super) struct Sleep {
    deaf: Stretch<u64>,
    beat: Stretch<u64>,
    waits_at_beat: u64,
}

impl Sleep {
    pub(super) fn look(&mut self, s: &Sample, now: Moment, t: &Thresholds) -> Opinion {
        if s.held() {
            self.deaf.forget();
            self.beat.forget();
            return Opinion::Fine;
        }
        let since_beat = self.beat.age(s.heartbeat, now);
        if since_beat.wall_ns == 0 {
            self.waits_at_beat = s.waits;
        }
        if s.waits.wrapping_sub(self.waits_at_beat) >= SILENT_PARKS {
            let symptom = Symptom::ParksWithoutHeartbeat;
            return Opinion::Failed(Finding::new(Detector::Hang, symptom, since_beat, s));
        }
        if !(s.vcpu == VcpuState::Parked && s.signalled) {
            self.deaf.forget();
            return Opinion::Fine;
        }
        let age = self.deaf.age(s.waits, now);
        let cap = ns(t.wall_cap_us);
        if age.wall_ns < cap {
            return Opinion::Suspect(cap - age.wall_ns);
        }
        Opinion::Failed(Finding::new(Detector::Blocked, Symptom::DoesNotWake, age, s))
    }
}

//! Hang, spin, blocked: detectors that judge how a vCPU spends its time.

use super::finding::{Detector, Finding, Symptom};
use super::opinion::Opinion;
use super::sample::{Done, Sample};
use super::time::{Moment, Stretch, ns};
use crate::topology::Thresholds;
use microvm::domain::VcpuState;

/// So many parks without a heartbeat in between are no artefact of reading two counters in turn.
const SILENT_PARKS: u64 = 3;
/// So many turns in vain are no artefact of reading two counters in turn.
const VAIN_TURNS: u64 = 16;
/// With less CPU time than this, a thread was hardly scheduled.
const HARDLY_RUN_NS: u64 = 250_000;

/// The heartbeat stands still while the vCPU is in the guest.
///
/// CPU time alone proves nothing where the processor itself can stand still: under a hypervisor the
/// thread's clock may run on then, and a working domain looks hung. A processor that stands still
/// does not answer a kick. So the vCPU is kicked several times in a row, and it is hung only if it
/// left the guest and entered it again in time for each kick, and its heartbeat still does not
/// move.
#[derive(Debug, Default)]
pub(super) struct Hang {
    still: Stretch<(u64, u64)>,
    kick: Option<Kick>,
    /// Kicks in a row that were answered in time.
    answered: u32,
}

/// A kick, and the state before it.
#[derive(Clone, Copy, Debug)]
struct Kick {
    at: Moment,
    interruptions: u64,
}

impl Hang {
    /// Judges by CPU time. After the wall-clock cap, a vCPU that was hardly scheduled is blocked.
    pub(super) fn assess(&mut self, s: &Sample, now: Moment, t: &Thresholds) -> Opinion {
        if !s.runs() {
            self.still.forget();
            self.forget_kicks();
            return Opinion::Fine;
        }
        let age = self.still.age((s.heartbeat, s.waits), now);
        if age.wall_ns == 0 {
            self.forget_kicks();
        }
        let failed = |detector, symptom| Opinion::Failed(Finding::new(detector, symptom, age, s));
        if age.wall_ns >= ns(t.wall_cap_us) {
            return match age.cpu_ns {
                0..HARDLY_RUN_NS => failed(Detector::Blocked, Symptom::NoProgress),
                HARDLY_RUN_NS.. => failed(Detector::Hang, Symptom::NoHeartbeat),
            };
        }
        let limit = ns(t.hang_cpu_us);
        match self.kick {
            None if age.cpu_ns >= limit => self.kick(s, now, t),
            // Some turns are longer than others; a sooner sample is worth its cost only from here
            // on.
            None if age.cpu_ns >= limit / 4 => Opinion::Suspect(limit - age.cpu_ns),
            None => Opinion::Fine,
            Some(kick) if kick.interruptions == s.interruptions => {
                self.answered = 0;
                Opinion::Suspect(ns(t.second_look_us))
            }
            Some(kick) => {
                let in_time = now.since(kick.at).wall_ns <= 2 * ns(t.second_look_us);
                self.answered = if in_time { self.answered + 1 } else { 0 };
                if self.answered >= t.second_looks {
                    return failed(Detector::Hang, Symptom::NoHeartbeat);
                }
                self.kick(s, now, t)
            }
        }
    }

    fn kick(&mut self, s: &Sample, now: Moment, t: &Thresholds) -> Opinion {
        self.kick = Some(Kick { at: now, interruptions: s.interruptions });
        Opinion::Kick(ns(t.second_look_us))
    }

    fn forget_kicks(&mut self) {
        self.kick = None;
        self.answered = 0;
    }
}

/// The loop turns without moving a cursor and without parking.
#[derive(Debug, Default)]
pub(super) struct Spin {
    idle: Stretch<(Done, u64)>,
    first_beat: u64,
}

impl Spin {
    /// Judges by CPU time. If there is work to do, this is a ring stall that is found early.
    pub(super) fn assess(&mut self, s: &Sample, now: Moment, t: &Thresholds) -> Opinion {
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
        if beats < VAIN_TURNS || age.cpu_ns < limit / 4 {
            return Opinion::Fine;
        }
        if age.cpu_ns < limit {
            return Opinion::Suspect(limit - age.cpu_ns);
        }
        let detector = if s.has_work() { Detector::RingStall } else { Detector::Spin };
        Opinion::Failed(Finding::new(detector, Symptom::TurnsInVain, age, s))
    }
}

/// The domain parks, and either does not wake, or wakes and parks again without a turn of its loop.
#[derive(Debug, Default)]
pub(super) struct Sleep {
    deaf: Stretch<u64>,
    beat: Stretch<u64>,
    waits_at_beat: u64,
}

impl Sleep {
    pub(super) fn assess(&mut self, s: &Sample, now: Moment, t: &Thresholds) -> Opinion {
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

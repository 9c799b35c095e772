//! All detectors over one life of a domain: what to do now, and when to look again.

use super::device::Device;
use super::finding::{Detector, Finding, Symptom};
use super::lost_notification::LostNotification;
use super::opinion::Opinion;
use super::running::{Hang, Sleep, Spin};
use super::sample::Sample;
use super::silent::{SilentReceive, SilentTransmit};
use super::time::{Age, Counted, Moment, Stretch, ns};
use super::work::RingStall;
use crate::topology::Thresholds;

/// Soonest next look: a due time that is nearer than this is as good as now.
const SOONEST_NS: u64 = 100_000;
/// Lost wakeups whose time is remembered.
const MOST_LOST: usize = 8;

/// What a domain is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// It serves the ring.
    Serving,
    /// It stands by, paused, and has nothing to do.
    StandingBy,
}

/// What the supervisor is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Nothing.
    Nothing,
    /// Wake the domain: it may have missed a wakeup, or is to prove that it lives.
    Wake,
    /// Wake the switchboard: the domain may have forgotten to.
    Ring,
    /// Kick the vCPU out of the guest and let it in again.
    Kick,
    /// The domain has failed.
    Fail(Finding),
}

/// The outcome of a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// What to do now.
    pub order: Order,
    /// A lost wakeup has healed; what was delayed by it, for so long, microseconds.
    pub healed_us: Option<u64>,
    /// Nothing happens here: the next look is a rare one.
    pub idle: bool,
    /// When to look again, in nanoseconds from now.
    pub next_ns: u64,
}

/// The detectors of one life.
#[derive(Debug, Default)]
pub struct Judge {
    time: Counted,
    device: Device,
    hang: Hang,
    spin: Spin,
    sleep: Sleep,
    stall: RingStall,
    silent_transmit: SilentTransmit,
    silent_receive: SilentReceive,
    lost_notification: LostNotification,
    calm: Stretch<(u64, u64)>,
    /// Asleep without a heartbeat.
    proof: Stretch<u64>,
    lost: [Option<Moment>; MOST_LOST],
    lost_next: usize,
}

impl Judge {
    /// Sampling at a domain once.
    pub fn look(&mut self, s: &Sample, duty: Duty, t: &Thresholds) -> Look {
        let now = self.time.look(s.now_ns, s.cpu_ns);
        let opinions = self.opinions(s, duty, now, t);
        let mut look = self.sum_up(&opinions, s, now, t);
        if look.order == Order::Nothing && look.idle {
            look.order = self.prove_life(s, duty, now, t);
        }
        if look.order != Order::Nothing {
            look.idle = false;
            look.next_ns = look.next_ns.min(ns(t.look_us));
        }
        self.time.plan(look.next_ns);
        look
    }

    fn opinions(&mut self, s: &Sample, duty: Duty, now: Moment, t: &Thresholds) -> [Opinion; 12] {
        let mut all = [Opinion::Fine; 12];
        all[0] = self.device.look(s, now, t);
        all[1] = self.hang.look(s, now, t);
        if duty == Duty::Serving {
            all[2] = self.sleep.look(s, now, t);
            all[3] = self.spin.look(s, now, t);
            all[4..7].copy_from_slice(&self.stall.look(s, now, t));
            all[7] = self.silent_transmit.look(s, now, t);
            all[8..11].copy_from_slice(&self.silent_receive.look(s, now, t));
            all[11] = self.lost_notification.look(s, now, t);
        }
        all
    }

    /// The first verdict counts, else every wish is granted.
    fn sum_up(&mut self, opinions: &[Opinion], s: &Sample, now: Moment, t: &Thresholds) -> Look {
        let calm_ns = self.calm.age((s.heartbeat, s.waits), now).wall_ns;
        let calm = calm_ns >= ns(t.idle_after_us) && !s.runs();
        let mut order = Order::Nothing;
        let mut healed = None;
        let mut suspected = false;
        let mut next_ns = ns(t.look_us);
        for opinion in opinions {
            let in_ns = match *opinion {
                Opinion::Fine => continue,
                Opinion::Suspect(in_ns) => in_ns,
                Opinion::Wake(in_ns) => {
                    order = Order::Wake;
                    in_ns
                }
                Opinion::Ring(in_ns) => {
                    order = Order::Ring;
                    in_ns
                }
                Opinion::Kick(in_ns) => {
                    order = Order::Kick;
                    in_ns
                }
                Opinion::Healed(lasted_ns) => {
                    healed = Some(lasted_ns);
                    continue;
                }
                Opinion::Failed(finding) => {
                    return Look {
                        order: Order::Fail(finding),
                        healed_us: None,
                        idle: false,
                        next_ns,
                    };
                }
            };
            suspected = true;
            next_ns = next_ns.min(in_ns.max(SOONEST_NS));
        }
        if let Some(lasted_ns) = healed
            && let Some(finding) = self.count_lost(lasted_ns, s, now, t)
        {
            order = Order::Fail(finding);
        }
        let idle = calm && !suspected;
        if idle {
            next_ns = ns(t.idle_look_us);
        } else {
            self.proof.forget();
        }
        Look { order, healed_us: healed.map(|ns| ns / 1_000), idle, next_ns }
    }

    /// Remembers a lost wakeup; a verdict if there were too many.
    fn count_lost(
        &mut self,
        lasted_ns: u64,
        s: &Sample,
        now: Moment,
        t: &Thresholds,
    ) -> Option<Finding> {
        self.lost[self.lost_next % MOST_LOST] = Some(now);
        self.lost_next += 1;
        let window_ns = ns(t.lost_wakeup_window_us);
        let recent = |at: &&Moment| now.since(**at).wall_ns <= window_ns;
        let count = self.lost.iter().flatten().filter(recent).count() as u32;
        if count < t.lost_wakeups.min(MOST_LOST as u32) {
            return None;
        }
        let age = Age { wall_ns: lasted_ns, cpu_ns: 0 };
        Some(Finding::new(Detector::RingStall, Symptom::LostWakeups(count), age, s))
    }

    /// An idle domain is woken when it has slept for the time between two rare looks. If it does
    /// not beat then, the other detectors see it.
    fn prove_life(&mut self, s: &Sample, duty: Duty, now: Moment, t: &Thresholds) -> Order {
        if duty == Duty::StandingBy || !s.sleeps() {
            return Order::Nothing;
        }
        let asleep_ns = self.proof.age(s.heartbeat, now).wall_ns;
        if asleep_ns + ns(t.look_us) < ns(t.idle_look_us) {
            return Order::Nothing;
        }
        self.proof.forget();
        Order::Wake
    }
}

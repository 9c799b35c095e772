//! All detectors over one life of a domain: what to do now, and when to sample again.

use super::device::Device;
use super::finding::{Detector, Finding, Symptom};
use super::lost_notification::LostNotification;
use super::opinion::{Opinion, Opinions};
use super::running::{Hang, Sleep, Spin};
use super::sample::Sample;
use super::silent::{SilentReceive, SilentTransmit};
use super::time::{Age, Counted, Moment, Stretch, ns};
use super::work::RingStall;
use crate::topology::Thresholds;

/// Shortest time to the next sample: a due time that is nearer than this is as good as now.
const SOONEST_NS: u64 = 100_000;
/// Number of lost wakeups whose times are remembered.
const MOST_LOST: usize = 8;

/// What a domain is expected to do.
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
    /// Wake the domain: it may have missed a wakeup, or has to prove that it is alive.
    Wake,
    /// Notify the switchboard: the domain may have failed to.
    NotifySwitchboard,
    /// Kick the vCPU out of the guest and let it in again.
    Kick,
    /// The domain has failed.
    Fail(Finding),
}

/// What follows from a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assessment {
    /// What to do now.
    pub order: Order,
    /// A lost wakeup has healed; it had delayed work for so long, microseconds.
    pub healed_us: Option<u64>,
    /// Nothing happens in the domain: the next sample may be a rare one.
    pub idle: bool,
    /// When to sample again, in nanoseconds from now.
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
    /// How long the domain has been asleep without a heartbeat.
    proof: Stretch<u64>,
    lost: [Option<Moment>; MOST_LOST],
    lost_next: usize,
}

impl Judge {
    /// Assesses a domain by one more sample.
    pub fn assess(&mut self, s: &Sample, duty: Duty, t: &Thresholds) -> Assessment {
        let now = self.time.advance(s.now_ns, s.cpu_ns);
        let opinions = self.opinions(s, duty, now, t);
        let mut assessment = self.sum_up(&opinions, s, now, t);
        if assessment.order == Order::Nothing && assessment.idle {
            assessment.order = self.prove_life(s, duty, now, t);
        }
        if assessment.order != Order::Nothing {
            assessment.idle = false;
            assessment.next_ns = assessment.next_ns.min(ns(t.look_us));
        }
        self.time.plan(assessment.next_ns);
        assessment
    }

    fn opinions(&mut self, s: &Sample, duty: Duty, now: Moment, t: &Thresholds) -> Opinions {
        let (device, hang) = (self.device.assess(s, now, t), self.hang.assess(s, now, t));
        match duty {
            Duty::StandingBy => Opinions { device, hang, ..Opinions::FINE },
            Duty::Serving => Opinions {
                device,
                hang,
                sleep: self.sleep.assess(s, now, t),
                spin: self.spin.assess(s, now, t),
                stall: self.stall.assess(s, now, t),
                silent_transmit: self.silent_transmit.assess(s, now, t),
                silent_receive: self.silent_receive.assess(s, now, t),
                lost_notification: self.lost_notification.assess(s, now, t),
            },
        }
    }

    /// The first verdict counts; without one, every wish is granted.
    fn sum_up(
        &mut self,
        opinions: &Opinions,
        s: &Sample,
        now: Moment,
        t: &Thresholds,
    ) -> Assessment {
        let calm_ns = self.calm.age((s.heartbeat, s.waits), now).wall_ns;
        let calm = calm_ns >= ns(t.idle_after_us) && !s.runs();
        let mut sum = Sum { order: Order::Nothing, healed_ns: None, sooner_ns: None };
        for opinion in opinions.by_weight() {
            sum.add(opinion);
            if matches!(sum.order, Order::Fail(_)) {
                let (healed_us, idle, next_ns) = (None, false, sum.next_ns(t));
                return Assessment { order: sum.order, healed_us, idle, next_ns };
            }
        }
        if let Some(lasted_ns) = sum.healed_ns
            && let Some(finding) = self.count_lost(lasted_ns, s, now, t)
        {
            sum.order = Order::Fail(finding);
        }
        let idle = calm && sum.sooner_ns.is_none();
        if !idle {
            self.proof.forget();
        }
        let next_ns = if idle { ns(t.idle_look_us) } else { sum.next_ns(t) };
        let healed_us = sum.healed_ns.map(|ns| ns / 1_000);
        Assessment { order: sum.order, healed_us, idle, next_ns }
    }

    /// Remembers a lost wakeup. Returns a verdict if there were too many.
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

    /// An idle domain is woken when it has slept for the time between two rare samples. If its
    /// heartbeat does not move then, the other detectors find that.
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

/// The sum of several opinions.
struct Sum {
    order: Order,
    /// How long a lost wakeup that has healed had delayed work.
    healed_ns: Option<u64>,
    /// The soonest time at which a detector that suspects something wants the next sample.
    sooner_ns: Option<u64>,
}

impl Sum {
    fn add(&mut self, opinion: &Opinion) {
        match *opinion {
            Opinion::Fine => {}
            Opinion::Suspect(in_ns) => self.sample_in(in_ns),
            Opinion::Wake(in_ns) => self.order(Order::Wake, in_ns),
            Opinion::NotifySwitchboard(in_ns) => self.order(Order::NotifySwitchboard, in_ns),
            Opinion::Kick(in_ns) => self.order(Order::Kick, in_ns),
            Opinion::Healed(lasted_ns) => self.healed_ns = Some(lasted_ns),
            Opinion::Failed(finding) => self.order = Order::Fail(finding),
        }
    }

    fn order(&mut self, order: Order, in_ns: u64) {
        self.order = order;
        self.sample_in(in_ns);
    }

    fn sample_in(&mut self, in_ns: u64) {
        let in_ns = in_ns.max(SOONEST_NS);
        self.sooner_ns = Some(self.sooner_ns.map_or(in_ns, |sooner_ns| sooner_ns.min(in_ns)));
    }

    /// When a domain that is not idle is sampled next.
    fn next_ns(&self, t: &Thresholds) -> u64 {
        let regular_ns = ns(t.look_us);
        self.sooner_ns.map_or(regular_ns, |sooner_ns| sooner_ns.min(regular_ns))
    }
}

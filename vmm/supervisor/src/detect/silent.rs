//! Silent failures: a driver that reports that all is well while frames are lost.

use super::finding::{Detector, Finding, Symptom};
use super::opinion::{Opinion, ReceiveOpinions};
use super::sample::Sample;
use super::time::{Age, Moment, Stretch, ns};
use super::work::{Case, Cursor, Waker, Watch};
use crate::topology::Thresholds;
use microvm::domain::VcpuState;
use platform::budget::CONFIRM_TICK;

/// Number of samples that are remembered. They reach back for longer than the age at which a frame
/// is overdue.
const REMEMBERED: usize = 32;
/// Nanoseconds after which the switchboard must have asked the NIC about a claim: its tick, and
/// half a tick as a margin.
const ASKED_AFTER_NS: u64 = CONFIRM_TICK.as_nanos() as u64 * 3 / 2;
/// Turns of the switchboard that must have begun since then: two beginnings enclose a whole turn.
const TURNS: u64 = 2;

/// What was claimed at an earlier sample.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    at: Moment,
    claimed: u64,
    turns: u64,
}

/// Frames claimed sent that the NIC's own counter does not confirm.
///
/// Claims are confirmed in their order, so the frames that await confirmation are those claimed
/// last. If more frames await confirmation than were claimed since an earlier sample, the oldest of
/// them is older than that sample.
#[derive(Debug, Default)]
pub(super) struct SilentTransmit {
    marks: [Mark; REMEMBERED],
    /// Number of marks that are filled.
    filled: usize,
    /// Index of the mark that is written next.
    next: usize,
}

impl SilentTransmit {
    pub(super) fn assess(&mut self, s: &Sample, now: Moment, t: &Thresholds) -> Opinion {
        // While the link is down, the NIC's claims and counts mean nothing; the switchboard knows
        // that.
        if !s.nic.link_up {
            *self = Self::default();
            return Opinion::Fine;
        }
        let seen = s.confirmations;
        let limit_ns = ns(t.silent_transmit_us) + s.nic.speed.allowance_ns();
        let overdue = self.newest_before(now, limit_ns).and_then(|mark| {
            let since = seen.claimed.saturating_sub(mark.claimed);
            let asked = self.asked_since(mark, seen.turns);
            let frames = seen.awaiting.saturating_sub(since);
            (asked && frames > 0).then(|| (frames, now.since(mark.at)))
        });
        self.remember(now, s, limit_ns);
        match overdue {
            Some((frames, age)) => {
                let symptom = Symptom::Unconfirmed(frames);
                Opinion::Failed(Finding::new(Detector::SilentTransmit, symptom, age, s))
            }
            None if seen.awaiting > 0 => Opinion::Suspect(limit_ns),
            None => Opinion::Fine,
        }
    }

    /// The newest mark that is at least `age_ns` old.
    fn newest_before(&self, now: Moment, age_ns: u64) -> Option<&Mark> {
        let old = |mark: &&Mark| now.since(mark.at).wall_ns >= age_ns;
        self.marks[..self.filled].iter().filter(old).max_by_key(|mark| mark.at.wall_ns)
    }

    /// Returns true if the switchboard has asked the NIC about everything that was claimed at a
    /// mark.
    fn asked_since(&self, mark: &Mark, turns: u64) -> bool {
        let due = |later: &&Mark| later.at.since(mark.at).wall_ns >= ASKED_AFTER_NS;
        let later = self.marks[..self.filled].iter().filter(due).min_by_key(|m| m.at.wall_ns);
        later.is_some_and(|later| turns.saturating_sub(later.turns) >= TURNS)
    }

    /// Keeps a mark, unless the last one is so young that the marks would not reach back far
    /// enough.
    fn remember(&mut self, now: Moment, s: &Sample, limit_ns: u64) {
        let last = &self.marks[(self.next + REMEMBERED - 1) % REMEMBERED];
        let young = now.since(last.at).wall_ns < 2 * limit_ns / REMEMBERED as u64;
        if self.filled > 0 && young {
            return;
        }
        let (claimed, turns) = (s.confirmations.claimed, s.confirmations.turns);
        self.marks[self.next] = Mark { at: now, claimed, turns };
        self.next = (self.next + 1) % REMEMBERED;
        self.filled = (self.filled + 1).min(REMEMBERED);
    }
}

/// The driver's receive state. If it does not change while the NIC's head moves, frames are unseen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Quiet {
    returned: u32,
    taken: u32,
    tail: u32,
}

/// The NIC receives, or could, and the driver publishes nothing.
#[derive(Debug, Default)]
pub(super) struct SilentReceive {
    quiet: Option<(Quiet, u32)>,
    unseen: Watch,
    starved: Watch,
    masked: Stretch<()>,
    masked_asleep: u32,
}

impl SilentReceive {
    pub(super) fn assess(&mut self, s: &Sample, now: Moment, t: &Thresholds) -> ReceiveOpinions {
        let c = &s.cursors;
        let case = |pending, ring, nic, symptom| Case {
            pending,
            cursor: Cursor { ring, nic },
            needs_engine: false,
            waker: Waker::Engine,
            limit_ns: ns(t.silent_receive_us),
            detector: Detector::SilentReceive,
            symptom,
        };
        let unseen = case(self.is_unseen(s), c.rx_returned, 0, Symptom::ReceiveUnseen);
        let starved = case(s.starved(), c.rx_taken, s.nic.rx_head, Symptom::ReceiveStarved);
        ReceiveOpinions {
            unseen: self.unseen.assess(&unseen, s, now, t),
            starved: self.starved.assess(&starved, s, now, t),
            masked: self.assess_mask(s, now, t),
        }
    }

    /// Returns true if the head has moved since the driver last did anything. The head may be ahead
    /// of the completed descriptors by as many as the NIC has fetched, so only its movement counts.
    /// A descriptor that shows as completed concerns the ring stall detector.
    fn is_unseen(&mut self, s: &Sample) -> bool {
        let quiet = Quiet {
            returned: s.cursors.rx_returned,
            taken: s.cursors.rx_taken,
            tail: s.nic.rx_tail,
        };
        match self.quiet {
            Some((before, head)) if before == quiet => head != s.nic.rx_head && !s.rx_completed,
            _ => {
                self.quiet = Some((quiet, s.nic.rx_head));
                false
            }
        }
    }

    /// A busy driver masks the interrupt on purpose, and unmasks it before it parks.
    fn assess_mask(&mut self, s: &Sample, now: Moment, t: &Thresholds) -> Opinion {
        if !s.nic.masked || s.held() || !s.nic.link_up {
            self.masked.forget();
            self.masked_asleep = 0;
            return Opinion::Fine;
        }
        let age: Age = self.masked.age((), now);
        self.masked_asleep += u32::from(s.vcpu == VcpuState::Parked);
        if self.masked_asleep == 0 {
            return Opinion::Fine;
        }
        let limit_ns = ns(t.masked_us);
        if age.wall_ns < limit_ns || self.masked_asleep < 2 {
            return Opinion::Suspect(limit_ns.saturating_sub(age.wall_ns));
        }
        let symptom = Symptom::InterruptMasked;
        Opinion::Failed(Finding::new(Detector::SilentReceive, symptom, age, s))
    }
}

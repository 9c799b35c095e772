//! The switchboard's part in a drill: the active domain's side of the wire.
//!
//! ```text
//!  spare's NIC ── question ──▶ active NIC ─▶ active domain ─▶ forward ─▶ here
//!  spare's NIC ◀── answer ──── active NIC ◀─ active domain ◀─ TX_POST ◀─┘
//! ```
//! So a passed drill has proved the spare's whole way, and the active one's beside it.

use shared_ring::probe::{Probe, ProbeKind, probe_mac};

use super::announce::{ANSWER_BUFFER, QUESTION_BUFFER};
use super::engine::Engine;

/// What the switchboard saw of a drill.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DrillSeen {
    /// The question came in through the active domain.
    pub question: bool,
    /// The answer was posted to it.
    pub answered: bool,
    /// Its NIC has confirmed the answer.
    pub answer_sent: bool,
    /// Frames of the wire that came in meanwhile, the question included: whether the active domain
    /// receives at all.
    pub received: u64,
}

/// A drill that is on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drill {
    number: u32,
    standby: usize,
    seen: DrillSeen,
    received_before: u64,
}

impl Engine {
    /// Writes both probes, and answers the question from here on. `false` if there is nobody to
    /// drill against, or an earlier answer is still under way.
    pub(crate) fn begin_drill(&mut self, number: u32, standby: usize) -> bool {
        let Some(active) = self.active.filter(|active| *active != standby) else { return false };
        if !self.tx.is_free(ANSWER_BUFFER) {
            return false;
        }
        let [ours, theirs] =
            [active, standby].map(|lane| probe_mac(self.guests[0].mac, lane as u8));
        let question = Probe { number, kind: ProbeKind::Question }.frame(ours, theirs);
        let answer = Probe { number, kind: ProbeKind::Answer }.frame(theirs, ours);
        self.tx.write_reserved(QUESTION_BUFFER, &question);
        self.tx.write_reserved(ANSWER_BUFFER, &answer);
        self.question = None;
        let received_before = self.received_so_far();
        self.drill = Some(Drill { number, standby, seen: DrillSeen::default(), received_before });
        true
    }

    /// The drill is over, or abandoned.
    pub(crate) fn end_drill(&mut self, now_ns: u64) -> DrillSeen {
        let Some(drill) = self.drill.take() else { return DrillSeen::default() };
        if self.tx.has_claimed() {
            self.confirm(now_ns);
        }
        let received = self.received_so_far() - drill.received_before;
        let answer_sent = drill.seen.answered && self.tx.is_free(ANSWER_BUFFER);
        DrillSeen { received, answer_sent, ..drill.seen }
    }

    fn received_so_far(&self) -> u64 {
        let counters = &self.shared.counters;
        counters.received() + counters.rx_probes.get()
    }

    /// Answers a question that came in this turn.
    pub(super) fn answer_drill(&mut self) {
        let Some(number) = self.question.take() else { return };
        let Some(drill) = self.drill.as_mut().filter(|drill| drill.number == number) else {
            return;
        };
        drill.seen.question = true;
        if self.active != Some(drill.standby) && self.tx.is_free(ANSWER_BUFFER) {
            self.tx.post_reserved(ANSWER_BUFFER, shared_ring::probe::PROBE_BYTES, false);
            drill.seen.answered = true;
        }
    }
}

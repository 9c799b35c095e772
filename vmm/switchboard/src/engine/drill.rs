//! The switchboard's part in a drill: the active domain's side of the wire.
//!
//! ```text
//!  spare's NIC ── question ──▶ active NIC ─▶ active domain ─▶ receive path ─▶ here
//!  spare's NIC ◀── answer ──── active NIC ◀─ active domain ◀─ TX_POST ◀───────┘
//! ```
//! So a passed drill has proved the spare's whole way, and the active one's beside it.
//!
//! This owns what was seen of the drill that is under way. Invariant: at most one is, and it is
//! answered once.

use shared_ring::probe::{PROBE_BYTES, Probe, ProbeKind, probe_mac};

use super::data_path::DataPath;
use super::serving::Serving;
use crate::command::DrillSeen;
use crate::counters::Counters;
use crate::tx_buffers::{ANSWER_BUFFER, QUESTION_BUFFER};

/// A drill that is under way.
#[derive(Clone, Copy, Debug)]
struct Drill {
    number: u32,
    standby: usize,
    seen: DrillSeen,
    received_before: u64,
}

/// The drill that is under way, if one is.
pub(super) struct Drills {
    current: Option<Drill>,
    /// VLAN of the probes, if they have a tag.
    vlan: Option<u16>,
}

impl Drills {
    pub(super) fn new(vlan: Option<u16>) -> Self {
        Self { current: None, vlan }
    }

    /// Writes both probes, and answers the question from here on. Returns false if no other domain
    /// serves, so that the standby cannot be drilled, or an earlier answer is still under way.
    pub(super) fn begin(
        &mut self,
        serving: &Serving,
        path: &mut DataPath,
        number: u32,
        standby: usize,
    ) -> bool {
        let Some(active) = serving.path().filter(|active| *active != standby) else { return false };
        let mac = path.mac(0);
        let [ours, theirs] = [active, standby].map(|domain| probe_mac(mac, domain as u8));
        let mut buffers = path.reserved();
        if !buffers.is_free(ANSWER_BUFFER) {
            return false;
        }
        let question = Probe { number, kind: ProbeKind::Question }.frame(ours, theirs, self.vlan);
        let answer = Probe { number, kind: ProbeKind::Answer }.frame(theirs, ours, self.vlan);
        buffers.write(QUESTION_BUFFER, &question);
        buffers.write(ANSWER_BUFFER, &answer);
        path.forget_question();
        let received_before = received_so_far(path.counters());
        self.current = Some(Drill { number, standby, seen: DrillSeen::default(), received_before });
        true
    }

    /// The drill is over, or abandoned.
    pub(super) fn end(&mut self, serving: &Serving, path: &mut DataPath, now_ns: u64) -> DrillSeen {
        let Some(drill) = self.current.take() else { return DrillSeen::default() };
        path.confirm_claimed(serving, now_ns);
        let received = received_so_far(path.counters()) - drill.received_before;
        let answer_sent = drill.seen.answered && path.reserved().is_free(ANSWER_BUFFER);
        DrillSeen { received, answer_sent, ..drill.seen }
    }

    /// Answers a question that came in this turn.
    #[inline]
    pub(super) fn answer(&mut self, serving: &Serving, path: &mut DataPath) {
        let Some(number) = path.take_question() else { return };
        let Some(drill) = self.current.as_mut().filter(|drill| drill.number == number) else {
            return;
        };
        drill.seen.question = true;
        let mut buffers = path.reserved();
        if !serving.serves(drill.standby) && buffers.is_free(ANSWER_BUFFER) {
            buffers.queue(ANSWER_BUFFER, PROBE_BYTES, false);
            drill.seen.answered = true;
        }
    }
}

fn received_so_far(counters: &Counters) -> u64 {
    counters.received() + counters.rx_probes.get()
}

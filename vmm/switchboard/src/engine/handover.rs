//! A planned switch: the ring goes from one healthy domain to another, and no frame is lost or
//! comes twice.
//!
//! ```text
//!              overlap           hand_over             drained            finish
//!   one serves ──────▶ Overlapping ───────▶ Draining ──────────▶ Leaving ─────────▶ the other serves
//!                      both receive         guests' frames       the other sends;
//!                                           wait in their rings  the first's late
//!                                                                receptions are taken
//!                                                                until it is settled
//! ```
//! - *Transmit*: nothing new is given to the first domain while it drains, and the other gets its
//!   first frame only when the first one's NIC has confirmed every frame. So no frame is in two
//!   hands, and the order is kept.
//! - *Receive*: between the opening of the other's filters and the shutting of the first one's, both
//!   domains' rings are read, the first one's before the other's; a frame that both received is
//!   recognised (`dedup`) and handed on once. The first one's filters stay open until announcements
//!   that the other sent have come in there: a switch that sends one to the old port has learned the
//!   new one, and what it sent to the old one before is in front of it
//!   ([`RxPath::watch_left_port`]).
//!
//! A first domain that does not drain in time keeps the ring. A takeover, whoever orders it, ends a
//! handover at any step.
//!
//! This owns the answer that the caller of a draining handover waits for; how far the handover has
//! come stands in [`Serving`]. Invariant: there is such a caller exactly while it drains.
//!
//! [`RxPath::watch_left_port`]: crate::rx_path::RxPath::watch_left_port

use std::sync::mpsc::SyncSender;

use platform::budget::{HANDOVER_DRAIN, HANDOVER_POLL};

use super::data_path::DataPath;
use super::serving::{Overlap, Serving, Step};
use crate::command::{Refused, Reply};

/// A planned switch's caller.
#[derive(Default)]
pub(super) struct Handover {
    /// Hears how the draining went.
    caller: Option<SyncSender<Reply>>,
}

impl Handover {
    /// Both domains receive from now on.
    pub(super) fn overlap(
        &self,
        serving: &mut Serving,
        path: &mut DataPath,
        to: usize,
        epoch: u32,
    ) -> Result<(), Refused> {
        if !serving.may_overlap(to) {
            return Err(Refused::Busy);
        }
        if !path.is_fit(to, epoch) {
            return Err(Refused::NotInstalled);
        }
        path.begin_overlap();
        serving.begin_overlap(to, epoch);
        Ok(())
    }

    /// The guests' frames wait from now on, and the ring changes hands when the first domain has
    /// none left. `reply` hears of it.
    pub(super) fn hand_over(
        &mut self,
        serving: &mut Serving,
        path: &mut DataPath,
        now_ns: u64,
        reply: SyncSender<Reply>,
    ) {
        if serving.begin_draining(now_ns) {
            self.caller = Some(reply);
            path.stop_announcing();
        } else {
            answer(Some(reply), Err(Refused::Busy));
        }
    }

    /// When a drain must be looked at again.
    pub(super) fn due_ns(&self, serving: &Serving, now_ns: u64) -> Option<u64> {
        serving.is_draining().then(|| now_ns + HANDOVER_POLL.as_nanos() as u64)
    }

    /// Goes on with a drain: asks the NIC, and hands over or gives up.
    pub(super) fn advance(&mut self, serving: &mut Serving, path: &mut DataPath, now_ns: u64) {
        let Some(Overlap { from, to, epoch, step: Step::Draining { began_ns } }) =
            serving.overlap().copied()
        else {
            return;
        };
        path.confirm_claimed(serving, now_ns);
        let fit = path.is_fit(to, epoch);
        if fit && path.has_sent_all() {
            change_hands(serving, path, (from, to, epoch), now_ns);
            answer(self.caller.take(), Ok(now_ns - began_ns));
        } else if !fit || now_ns > began_ns + HANDOVER_DRAIN.as_nanos() as u64 {
            // The first keeps the ring; the other's receptions are still taken until `finish`,
            // which comes when its filters are shut.
            serving.end_draining();
            path.watch_left_port(from);
            answer(self.caller.take(), Err(Refused::NotDrained));
        }
    }

    /// Ends a handover where it is; the domains go on as they are. Returns what it was.
    pub(super) fn cancel(
        &mut self,
        serving: &mut Serving,
        path: &mut DataPath,
        why: Refused,
    ) -> Option<Overlap> {
        let overlap = serving.end_overlap()?;
        path.forget_left_port();
        answer(self.caller.take(), Err(why));
        Some(overlap)
    }

    /// The filters of the domain that does not serve are shut and it is quiet: takes its last
    /// receptions. From here on it must publish nothing.
    pub(super) fn finish(&mut self, serving: &mut Serving, path: &mut DataPath, now_ns: u64) {
        let Some(overlap) = serving.overlap() else { return };
        if let Some(idle) = serving.path().and_then(|serves| overlap.partner(serves)) {
            path.take_last(idle);
            path.flush(serving);
        }
        self.cancel(serving, path, Refused::Busy);
        path.end_overlap(now_ns);
    }
}

/// Gives the ring to the successor, which is fit for it.
fn change_hands(
    serving: &mut Serving,
    path: &mut DataPath,
    (from, to, epoch): (usize, usize, u32),
    now_ns: u64,
) {
    serving.end();
    let begun = path.begin(serving, to, epoch);
    debug_assert!(begun, "looked at by the caller");
    path.set_settled(false);
    path.publish_announced(to, now_ns);
    path.note_changed_hands(now_ns);
    serving.end_draining();
    path.watch_left_port(from);
    path.counters().handovers.add(1);
}

fn answer(caller: Option<SyncSender<Reply>>, outcome: Result<u64, Refused>) {
    if let Some(caller) = caller {
        // A caller that gave up waiting needs no answer.
        let _ = caller.try_send(Reply::HandedOver(outcome));
    }
}

//! The takeover, and the other ways in which a domain begins or ceases to serve.
//!
//! A takeover, at a loop boundary:
//! 1. *Settle* the failed life: read its last claims, ask its NIC for the last time (unless it is
//!    suspected not to answer), and note which frames were in its hand. Poison leaves the line.
//! 2. *Publish* the announcement and all unconfirmed frames, in order, to the other domain.
//! 3. *Salvage* what the failed life received: hand on what it had published, then what its NIC had
//!    completed and it had not published; forget its rings.
//!
//! Only 1 and 2 are on the path to the spare's first frame. Nothing in them allocates or waits.

use platform::clock::monotonic_ns;

use super::data_path::DataPath;
use super::handover::Handover;
use super::serving::Serving;
use crate::command::Refused;
use crate::domains::QueuePair;
use crate::salvage::Salvaged;
use crate::takeover_order::{TakeOver, TakeOverReport};
use crate::tx_path::Settled;

/// The first active domain, or the only one after a restart in place: frames that the life
/// before it left unconfirmed are posted.
pub(super) fn activate(
    serving: &mut Serving,
    path: &mut DataPath,
    domain: usize,
    epoch: u32,
) -> Result<(), Refused> {
    if serving.path().is_some() {
        return Err(Refused::Busy);
    }
    if !path.begin(serving, domain, epoch) {
        return Err(Refused::NotInstalled);
    }
    path.publish_all(domain, monotonic_ns());
    Ok(())
}

/// Ends a life without a successor: nothing of its rings is touched afterwards.
pub(super) fn detach(
    serving: &mut Serving,
    path: &mut DataPath,
    handover: &mut Handover,
    domain: usize,
) -> Option<Box<QueuePair>> {
    let overlaps = serving.overlap().is_some_and(|overlap| overlap.partner(domain).is_some());
    let serves = serving.serves(domain);
    if serves {
        path.settle(serving, domain, true);
    }
    if serves || overlaps {
        path.salvage(domain);
        path.flush(serving);
    }
    if overlaps {
        handover.cancel(serving, path, Refused::TakenOver);
    }
    path.remove(domain)
}

/// Hands the ring to another domain, and reports what was done. Returns what is left of the old
/// life.
pub(super) fn take_over(
    serving: &mut Serving,
    path: &mut DataPath,
    handover: &mut Handover,
    order: &TakeOver,
) -> (Option<Box<QueuePair>>, TakeOverReport) {
    let mut report = TakeOverReport {
        sequence: serving.count_takeover(),
        to: u64::from(order.to.0),
        epoch: u64::from(order.epoch),
        verdict_ns: order.verdict_ns,
        ..TakeOverReport::default()
    };
    let to = order.to.index();
    let overlap = handover.cancel(serving, path, Refused::TakenOver);
    // In a handover the ring can already be where it is to go.
    let serves = serving.serves(to) && path.is_fit(to, order.epoch);
    let failed = match serves {
        true => overlap.and_then(|overlap| overlap.partner(to)),
        false => serving.path(),
    };
    let now_ns = monotonic_ns();
    // Copies of what both received in a handover are recognised for a while yet.
    path.end_overlap(now_ns);
    if let (Some(failed), false) = (failed, serves) {
        let ask_nic = !order.nic_suspected;
        let Settled { confirmed_late, poisoned, oldest_ns } = path.settle(serving, failed, ask_nic);
        (report.confirmed_late, report.poisoned) = (confirmed_late, poisoned);
        report.oldest_ns = oldest_ns.unwrap_or(0);
    }
    let accepted = serves || failed != Some(to) && path.begin(serving, to, order.epoch);
    report.refused = u64::from(!accepted);
    if accepted && !serves {
        report.resent = path.publish_announced(to, now_ns);
    }
    report.published_ns = monotonic_ns();
    let remains = failed.and_then(|failed| {
        let Salvaged { drained, salvaged, lost, .. } = path.salvage(failed);
        (report.drained, report.salvaged, report.lost) = (drained, salvaged, lost);
        path.remove(failed)
    });
    path.flush(serving);
    report.done_ns = monotonic_ns();
    (remains, report)
}

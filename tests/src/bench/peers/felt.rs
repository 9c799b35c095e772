//! How events affect a host behind the bridge, measured by a datagram each millisecond into the
//! Linux guest and back, and by the sender's ledger.

use std::time::Duration;

use anyhow::{Result, ensure};
use lab::traffic::Ledger;
use operate::observe::{Stall, Witness};
use platform::clock::monotonic_ns;

use crate::realguest::guest::GUEST;
use crate::realguest::lan::Lan;
use crate::realguest::ping::Ping;

const PERIOD: Duration = Duration::from_millis(1);
/// How long service may take to come back before the row has failed; this is not a promised time.
const PATIENCE: Duration = Duration::from_secs(20);
/// Traffic before the first event: an emulated processor takes some 20 ms for code that it runs for
/// the first time.
const SETTLE: Duration = Duration::from_millis(500);
/// Traffic after an event before the echoes are awaited: longer than a fault may go undetected.
const PAUSE: Duration = Duration::from_millis(150);
/// If less than this share of the datagrams due in a silence was sent, the sender stood still.
const SENDER_AWAKE: f64 = 0.75;
/// If the machine's own stalls, of all processors together, take more than this share of a silence,
/// the machine stood still.
const STOOD_STILL: f64 = 0.2;

/// An event that interrupts the service, and its repair.
pub(super) trait Event {
    /// Causes the event.
    fn strike(&mut self) -> Result<()>;
    /// Repairs everything for the next event; traffic flows again.
    fn mend(&mut self) -> Result<()> {
        Ok(())
    }
}

/// The interruptions and losses that one row of events caused.
#[derive(Debug, Default)]
pub(super) struct Felt {
    /// The longest silence around each event.
    pub(super) interruption_ms: Vec<f64>,
    /// Datagrams sent around each event that never came back.
    pub(super) lost: Vec<f64>,
    /// Events left out of both, because the machine or the sender itself stood still during them.
    pub(super) stalled: usize,
}

/// Causes `events` events while a ping runs, and returns their effects.
pub(super) fn feel(lan: &Lan, events: u32, event: &mut dyn Event) -> Result<Felt> {
    let witness = Witness::spawn()?;
    let ping = Ping::start(lan.host(), GUEST, PERIOD)?;
    ping.wait_answers(PATIENCE)?;
    std::thread::sleep(SETTLE);
    let mut spans = Vec::new();
    for _ in 0..events {
        let from_ns = monotonic_ns();
        event.strike()?;
        std::thread::sleep(PAUSE);
        ping.wait_answers(PATIENCE)?;
        spans.push((from_ns, monotonic_ns()));
        event.mend()?;
        std::thread::sleep(PAUSE);
    }
    let ledger = ping.finish()?;
    ensure!(ledger.total_corrupted() == 0, "damaged datagrams");
    let mut felt = Felt::default();
    for (from_ns, to_ns) in spans {
        let Some(gap) = ledger.longest_gap(from_ns, to_ns) else { continue };
        let gap = (gap.from_ns, gap.to_ns);
        if stood_still(&witness.stalls(), gap) || slept(&ledger, gap) {
            felt.stalled += 1;
            continue;
        }
        felt.interruption_ms.push((gap.1 - gap.0) as f64 / 1e6);
        felt.lost.push(ledger.lost_between(from_ns, to_ns) as f64);
    }
    Ok(felt)
}

/// Returns true if the machine stood still for more than a small part of a silence.
fn stood_still(stalls: &[Stall], (from_ns, to_ns): (u64, u64)) -> bool {
    let within = |stall: &Stall| stall.woke_ns.min(to_ns).saturating_sub(stall.due_ns.max(from_ns));
    let ns: u64 = stalls.iter().map(within).sum();
    ns as f64 > STOOD_STILL * (to_ns - from_ns) as f64
}

/// Returns true if the sender stood still in a silence.
fn slept(ledger: &Ledger, (from_ns, to_ns): (u64, u64)) -> bool {
    let due = (to_ns - from_ns) / PERIOD.as_nanos() as u64;
    // Of only two or three datagrams, one is often early or late.
    due >= 4 && (ledger.sent_between(from_ns, to_ns) as f64) < SENDER_AWAKE * due as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_that_stood_still_is_told_from_one_that_went_on() {
        let mut ledger = Ledger::default();
        for at_ms in [0, 1, 2, 3, 4, 5, 6, 7, 8, 20, 21] {
            ledger.sent(at_ms * 1_000_000);
        }
        assert!(!slept(&ledger, (100, 8_000_100)));
        assert!(slept(&ledger, (100, 20_000_100)));
        assert!(!slept(&ledger, (8_000_100, 10_000_000)), "too short to tell");
    }

    #[test]
    fn a_long_silence_may_contain_a_short_stall() {
        let stall = Stall { due_ns: 100, woke_ns: 400 };
        assert!(stood_still(&[stall], (200, 1000)));
        assert!(!stood_still(&[stall], (200, 2000)));
        assert!(!stood_still(&[stall], (400, 1000)));
    }
}

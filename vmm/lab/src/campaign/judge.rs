//! What became of an injection, from what was seen of it.
//!
//! The order of the questions makes the classes exclude each other, and the worst that is true wins:
//! was the application harmed, does the service stand still, was somebody found who had no fault,
//! did all come back; and where nothing was found, did the service suffer. Only what harmed nobody
//! is masked, or was not reached.

use super::order::Order;
use super::record::{
    FrameCounts, InjectionOutcome as Outcome, InjectionRecord, RecoveryStep, VerdictRecord,
};
use super::spec::Configuration;
use super::trial::Observation;
use crate::traffic::Gap;
use supervisor::detect::Detector;
use supervisor::{FailoverReport, Verdict};

/// A silence that nobody noticed and that is longer is no masked fault, in nanoseconds. Longer than
/// a failover takes, because on a busy machine ordinary traffic has gaps of ten milliseconds; three
/// times as long as the longest period of the sender.
const UNNOTICED_GAP_NS: u64 = 30_000_000;
/// Datagrams that a masked fault may cost: the one that it struck.
const MASKED_LOST: u64 = 1;
/// Datagrams that a masked fault may double. Networks double one now and then; at the third copy of
/// an acknowledgement TCP believes that something was lost (RFC 5681, 3.2), and slows down.
const MASKED_DOUBLED: u64 = 2;
/// Datagrams sent so long before the fault can still have been under way when it struck.
const UNDER_WAY_NS: u64 = 5_000_000;
/// A lost wakeup that was made up for is told of at the supervisor's next look, so long after the
/// first echo at most.
const TOLD_NS: u64 = 5_000_000;

/// The record of an injection.
pub(super) fn record(order: &Order, seen: &Observation) -> InjectionRecord {
    let from_ns = seen.activated_ns.unwrap_or(seen.armed_ns);
    let frames = frames(seen, from_ns);
    let verdict = seen.failovers.iter().find(|r| r.record.verdict_ns >= from_ns);
    let (outcome, note) = outcome(order, seen, &frames, verdict);
    let healed_us = healed(seen).next().map(|at_ns| micros(from_ns, at_ns));
    let verdict = verdict.map(|report| verdict_record(report, from_ns)).or_else(|| {
        healed_us.filter(|_| outcome == Outcome::Silence).map(|detect_us| VerdictRecord {
            cause: "lost-wakeup".into(),
            text: "a wakeup was lost, and made up for".into(),
            detect_us,
            switch_us: Some(0.0),
        })
    });
    let gap = seen.ledger.longest_gap(from_ns, seen.end_ns);
    let served = seen.serving && outcome != Outcome::Unrecovered;
    let stalls = seen.stalls.iter().filter(|stall| stall.overlaps(from_ns, seen.end_ns));
    InjectionRecord {
        armed_ms: micros(seen.first_echo_ns, seen.armed_ns) / 1000.0,
        activated: seen.activated_ns.is_some(),
        activated_after_us: seen.activated_ns.map(|at_ns| micros(seen.armed_ns, at_ns)),
        verdict,
        interruption_us: gap.filter(|_| served).map(|gap| micros(gap.from_ns, gap.to_ns)),
        frames,
        recovery: steps(seen, from_ns),
        machine_stall_ms: stalls.map(|stall| stall.length_ms()).fold(0.0, f64::max),
        note,
        ..order.record(outcome)
    }
}

fn outcome(
    order: &Order,
    seen: &Observation,
    frames: &FrameCounts,
    verdict: Option<&FailoverReport>,
) -> (Outcome, Option<String>) {
    if let Err(what) = &seen.app {
        return (Outcome::Corrupted, Some(format!("the application guest: {what}")));
    }
    let uncaught = seen.ledger.total_uncaught();
    if uncaught > 0 {
        let what = format!("{uncaught} echoes were damaged or foreign, and no checksum tells");
        return (Outcome::Corrupted, Some(what));
    }
    if !seen.serving && seen.failovers.is_empty() {
        return (Outcome::SilentFailure, Some("the service stopped".into()));
    }
    if !seen.serving && order.configuration != Configuration::None {
        return (Outcome::Unrecovered, Some(false_alarm(seen).unwrap_or_else(|| again(seen))));
    }
    if let Some(what) = false_alarm(seen) {
        return (Outcome::FalseFailover, Some(what));
    }
    match verdict {
        Some(verdict) => detected(order, seen, verdict),
        None => undetected(seen, frames),
    }
}

/// Why the first verdict was on a domain that had no fault, if it was.
fn false_alarm(seen: &Observation) -> Option<String> {
    let first = &seen.failovers.first()?.record;
    if seen.activated_ns.is_none_or(|activated_ns| first.verdict_ns < activated_ns) {
        return Some(format!("found before the fault was there: {}", first.verdict));
    }
    (first.from != seen.victim).then(|| format!("found in the sound domain: {}", first.verdict))
}

/// The fault was found where it was.
fn detected(
    order: &Order,
    seen: &Observation,
    verdict: &FailoverReport,
) -> (Outcome, Option<String>) {
    if order.configuration == Configuration::None {
        return (Outcome::Unrecovered, None);
    }
    if !seen.whole {
        let what = format!("no spare stood by in the end; {}", again(seen));
        return (Outcome::Degraded, Some(what));
    }
    if seen.failovers.len() > 1 {
        return (Outcome::Degraded, Some(again(seen)));
    }
    (class(&verdict.record.verdict), None)
}

/// What failed after the first failure, in words.
fn again(seen: &Observation) -> String {
    let more = seen.failovers.iter().skip(1).map(|report| {
        let whose =
            if report.record.from == seen.victim { "the same domain" } else { "the other domain" };
        format!("{whose} failed then: {} ({})", report.record.verdict, report.epitaph)
    });
    let more: Vec<String> = more.collect();
    if more.is_empty() { "nothing else failed".into() } else { more.join("; ") }
}

/// Nobody found anything, and the service goes on.
fn undetected(seen: &Observation, frames: &FrameCounts) -> (Outcome, Option<String>) {
    let silent = |what: String| (Outcome::SilentFailure, Some(what));
    if let Some(gap_ns) = unnoticed_gap_ns(seen) {
        return silent(format!("no echo for {:.1} ms", micros(0, gap_ns) / 1000.0));
    }
    let counts = format!(
        "of {} datagrams {} lost, {} doubled, {} damaged",
        frames.sent, frames.lost, frames.duplicated, frames.corrupted
    );
    let damaged =
        frames.corrupted > 0 || frames.lost > MASKED_LOST || frames.duplicated > MASKED_DOUBLED;
    if damaged {
        return silent(format!("damaged service: {counts}"));
    }
    if !seen.whole {
        return silent("no spare stood by in the end".into());
    }
    if healed(seen).next().is_some() {
        return (Outcome::Silence, None);
    }
    // Even what harms nobody is told.
    let clean = frames.lost + frames.duplicated == 0;
    let harmless = match seen.activated_ns {
        Some(_) => Outcome::Masked,
        None => Outcome::NotActivated,
    };
    (harmless, (!clean).then_some(counts))
}

/// When wakeups were made up for that the faulty domain had lost.
fn healed(seen: &Observation) -> impl Iterator<Item = u64> {
    let struck_ns = seen.activated_ns.unwrap_or(u64::MAX);
    let of_victim = seen.healed.iter().filter(|(domain, _)| *domain == seen.victim);
    of_victim.map(|(_, at_ns)| *at_ns).filter(move |at_ns| *at_ns >= struck_ns)
}

/// The longest silence since the fault, if it is one that somebody should have noticed.
fn unnoticed_gap_ns(seen: &Observation) -> Option<u64> {
    let from_ns = seen.activated_ns.unwrap_or(seen.armed_ns);
    let Gap { from_ns: from, to_ns: to } = seen.ledger.longest_gap(from_ns, seen.end_ns)?;
    let told_ns = to.saturating_add(TOLD_NS * u64::from(seen.slowness));
    if healed(seen).any(|at_ns| (from..=told_ns).contains(&at_ns)) {
        return None;
    }
    // What the machine itself stood still is not the driver's.
    let stalls = seen.stalls.iter().filter(|stall| stall.overlaps(from, to));
    let stalled: u64 =
        stalls.map(|stall| stall.woke_ns.min(to).saturating_sub(stall.due_ns.max(from))).sum();
    let gap_ns = (to - from).saturating_sub(stalled);
    (gap_ns > UNNOTICED_GAP_NS * u64::from(seen.slowness)).then_some(to - from)
}

/// The class of a failure that was found and recovered from.
fn class(verdict: &Verdict) -> Outcome {
    match verdict {
        Verdict::Crash(_) => Outcome::Crash,
        Verdict::Protocol(_) => Outcome::Protocol,
        Verdict::Link | Verdict::Port => Outcome::Link,
        Verdict::Drill(_) | Verdict::Unready => Outcome::Stall,
        Verdict::Detected(finding) => match finding.detector {
            Detector::Hang => Outcome::Hang,
            Detector::Spin | Detector::Blocked | Detector::RingStall => Outcome::Stall,
            Detector::SilentTransmit | Detector::SilentReceive | Detector::Device => {
                Outcome::Silence
            }
        },
    }
}

fn verdict_record(report: &FailoverReport, from_ns: u64) -> VerdictRecord {
    let record = &report.record;
    let text = match record.verdict {
        Verdict::Crash(_) if !report.epitaph.is_empty() => report.epitaph.clone(),
        _ => record.verdict.to_string(),
    };
    VerdictRecord {
        cause: record.verdict.cause().into(),
        text,
        detect_us: micros(from_ns, record.verdict_ns),
        switch_us: report.first_sent_ns.map(|at_ns| micros(record.verdict_ns, at_ns)),
    }
}

fn steps(seen: &Observation, from_ns: u64) -> Vec<RecoveryStep> {
    let mut steps = Vec::new();
    let mut step = |name: &str, at_ns: u64| {
        steps.push(RecoveryStep { step: name.into(), after_us: micros(from_ns, at_ns) });
    };
    for at_ns in healed(seen) {
        step("healed", at_ns);
    }
    for report in &seen.failovers {
        step("verdict", report.record.verdict_ns);
        if report.record.to.is_some() {
            step("released", report.record.released_ns);
        }
        if let Some(at_ns) = report.first_sent_ns {
            step("first-frame", at_ns);
        }
    }
    for (_, at_ns) in &seen.ready {
        step("ready", *at_ns);
    }
    steps.sort_by(|a, b| a.after_us.total_cmp(&b.after_us));
    steps
}

fn frames(seen: &Observation, from_ns: u64) -> FrameCounts {
    let from_ns = from_ns.saturating_sub(UNDER_WAY_NS * u64::from(seen.slowness));
    let sent = seen.ledger.sent_between(from_ns, u64::MAX);
    let lost = seen.ledger.lost_between(from_ns, u64::MAX);
    FrameCounts {
        sent,
        received: sent - lost,
        lost,
        duplicated: seen.ledger.total_duplicated(),
        corrupted: seen.ledger.total_corrupted(),
    }
}

fn micros(from_ns: u64, to_ns: u64) -> f64 {
    to_ns.saturating_sub(from_ns) as f64 / 1000.0
}

#[cfg(test)]
mod tests;

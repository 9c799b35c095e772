//! Judges what became of an injection, from what was seen of it and from nothing else.
//!
//! The order of the questions makes the classes exclude each other, and the worst that is true wins:
//! was the application harmed, does the service stand still, was a domain found faulty that had no
//! fault, did everything come back; and where no detector found anything, did the service suffer.
//! Only a fault that harmed nothing is masked, or was not reached.

use super::kinds::Configuration;
use super::observation::Observation;
use super::order::TrialOrder;
use super::outcome::InjectionOutcome as Outcome;
use super::record::{FrameCounts, InjectionRecord, RecoveryStep, VerdictRecord};
use supervisor::detect::Detector;
use supervisor::{FailoverReport, Verdict};

/// A silence that no detector noticed and that is longer than this is no masked fault, nanoseconds.
/// The limit is longer than a failover takes, because on a busy machine ordinary traffic has gaps of
/// ten milliseconds, and three times as long as the longest period of the sender.
const UNNOTICED_GAP_NS: u64 = 30_000_000;
/// Datagrams that a masked fault may cost: the one that it hit.
const MASKED_LOST: u64 = 1;
/// Datagrams that a masked fault may double. Networks double one now and then; at the third copy of
/// an acknowledgement TCP believes that something was lost (RFC 5681, 3.2), and slows down.
const MASKED_DOUBLED: u64 = 2;
/// Datagrams sent so long before the fault can still have been under way at its moment.
const UNDER_WAY_NS: u64 = 5_000_000;
/// The supervisor reports a lost wakeup that it made up for at its next sample: so long after the
/// first echo at most.
const HEALING_REPORT_NS: u64 = 5_000_000;

/// The judge's opinion.
struct Judgement {
    outcome: Outcome,
    /// Why, where the outcome alone does not say it.
    note: Option<String>,
}

impl Judgement {
    fn plain(outcome: Outcome) -> Self {
        Self { outcome, note: None }
    }

    fn because(outcome: Outcome, note: impl Into<String>) -> Self {
        Self { outcome, note: Some(note.into()) }
    }
}

/// The record of an injection.
pub(crate) fn judge(order: &TrialOrder, seen: &Observation) -> InjectionRecord {
    let from_ns = seen.activated_ns.unwrap_or(seen.armed_ns);
    let frames = frames(seen, from_ns);
    let verdict = seen.failovers.iter().find(|r| r.record.verdict_ns >= from_ns);
    let Judgement { outcome, note } = judgement(order, seen, &frames, verdict);
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

fn judgement(
    order: &TrialOrder,
    seen: &Observation,
    frames: &FrameCounts,
    verdict: Option<&FailoverReport>,
) -> Judgement {
    if let Err(what) = &seen.app {
        return Judgement::because(Outcome::Corrupted, format!("the application guest: {what}"));
    }
    let uncaught = seen.ledger.total_uncaught();
    if uncaught > 0 {
        let what = format!("{uncaught} echoes were damaged or foreign, and no checksum tells");
        return Judgement::because(Outcome::Corrupted, what);
    }
    if !seen.serving && seen.failovers.is_empty() {
        return Judgement::because(Outcome::SilentFailure, "the service stopped");
    }
    let false_alarm = false_alarm(seen);
    if !seen.serving && order.configuration != Configuration::None {
        let why = false_alarm.unwrap_or_else(|| later_failures(seen));
        return Judgement::because(Outcome::Unrecovered, why);
    }
    if let Some(what) = false_alarm {
        return Judgement::because(Outcome::FalseFailover, what);
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

/// A detector found the fault in the domain that had it.
fn detected(order: &TrialOrder, seen: &Observation, verdict: &FailoverReport) -> Judgement {
    if order.configuration == Configuration::None {
        return Judgement::plain(Outcome::Unrecovered);
    }
    if !seen.whole {
        let what = format!("no spare stood by in the end; {}", later_failures(seen));
        return Judgement::because(Outcome::Degraded, what);
    }
    if seen.failovers.len() > 1 {
        return Judgement::because(Outcome::Degraded, later_failures(seen));
    }
    Judgement::plain(class(&verdict.record.verdict))
}

/// What failed after the first failure, in words.
fn later_failures(seen: &Observation) -> String {
    let later = seen.failovers.iter().skip(1).map(|report| {
        let whose =
            if report.record.from == seen.victim { "the same domain" } else { "the other domain" };
        format!("{whose} failed then: {} ({})", report.record.verdict, report.crash_summary)
    });
    let later: Vec<String> = later.collect();
    if later.is_empty() { "nothing else failed".into() } else { later.join("; ") }
}

/// No detector found anything, and the service goes on.
fn undetected(seen: &Observation, frames: &FrameCounts) -> Judgement {
    let silent = |what: String| Judgement::because(Outcome::SilentFailure, what);
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
        return Judgement::plain(Outcome::Silence);
    }
    let outcome = match seen.activated_ns {
        Some(_) => Outcome::Masked,
        None => Outcome::NotActivated,
    };
    // Even a loss that harms nothing is noted.
    let clean = frames.lost + frames.duplicated == 0;
    Judgement { outcome, note: (!clean).then_some(counts) }
}

/// When wakeups were made up for that the faulty domain had lost.
fn healed(seen: &Observation) -> impl Iterator<Item = u64> {
    let activated_ns = seen.activated_ns.unwrap_or(u64::MAX);
    let of_victim = seen.healed.iter().filter(|event| event.domain == seen.victim);
    of_victim.map(|event| event.at_ns).filter(move |at_ns| *at_ns >= activated_ns)
}

/// The longest silence since the fault, if it is one that a detector should have noticed.
fn unnoticed_gap_ns(seen: &Observation) -> Option<u64> {
    let since_ns = seen.activated_ns.unwrap_or(seen.armed_ns);
    let gap = seen.ledger.longest_gap(since_ns, seen.end_ns)?;
    let reported_ns = gap.to_ns.saturating_add(HEALING_REPORT_NS * u64::from(seen.slowness));
    if healed(seen).any(|at_ns| (gap.from_ns..=reported_ns).contains(&at_ns)) {
        return None;
    }
    // Time in which the machine itself stood still does not count against the driver.
    let stalls = seen.stalls.iter().filter(|stall| stall.overlaps(gap.from_ns, gap.to_ns));
    let within = |stall: &operate::observe::Stall| {
        stall.woke_ns.min(gap.to_ns).saturating_sub(stall.due_ns.max(gap.from_ns))
    };
    let stalled_ns: u64 = stalls.map(within).sum();
    let driver_ns = gap.length_ns().saturating_sub(stalled_ns);
    (driver_ns > UNNOTICED_GAP_NS * u64::from(seen.slowness)).then_some(gap.length_ns())
}

/// The class of a failure that was found and recovered from.
fn class(verdict: &Verdict) -> Outcome {
    match verdict {
        Verdict::Crash(_) => Outcome::Crash,
        Verdict::Protocol(_) => Outcome::Protocol,
        Verdict::Link | Verdict::LinkAtLast(_) | Verdict::Port => Outcome::Link,
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
        Verdict::Crash(_) if !report.crash_summary.is_empty() => report.crash_summary.clone(),
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
    for event in &seen.ready {
        step("ready", event.at_ns);
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

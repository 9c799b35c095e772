//! Tests of the judge: observations made by hand.

use super::super::observation::DomainEvent;
use super::super::order::testing;
use super::*;
use crate::traffic::Ledger;
use microvm::domain::{DomainId, Fault};
use operate::observe::Stall;
use supervisor::FailoverRecord;

const VICTIM: DomainId = DomainId(0);
const OTHER: DomainId = DomainId(1);
const MS: u64 = 1_000_000;
/// When the fault of these tests is activated.
const ACTIVATED: u64 = 50 * MS;

fn order() -> TrialOrder {
    testing::order(Configuration::FastSpare)
}

/// A datagram each millisecond for 200 ms; those in `lost` do not come back.
fn ledger(lost: std::ops::Range<u64>) -> Ledger {
    let mut ledger = Ledger::default();
    (1..=200).for_each(|n| ledger.sent(n * MS));
    let back = (1..=200).filter(|n| !lost.contains(n));
    back.for_each(|n| ledger.echoed(n - 1, n * MS + 100_000));
    ledger
}

/// An activated fault without any effect.
fn masked() -> Observation {
    Observation {
        first_echo_ns: MS,
        armed_ns: ACTIVATED - MS,
        activated_ns: Some(ACTIVATED),
        end_ns: 200 * MS,
        victim: VICTIM,
        failovers: Vec::new(),
        healed: Vec::new(),
        ready: Vec::new(),
        serving: true,
        whole: true,
        ledger: ledger(0..0),
        stalls: Vec::new(),
        app: Ok(()),
        dump: None,
        slowness: 1,
    }
}

fn failover(from: DomainId, verdict_ns: u64) -> FailoverReport {
    let to = if from == VICTIM { OTHER } else { VICTIM };
    FailoverReport {
        record: FailoverRecord {
            from,
            epoch: 1,
            was_active: true,
            to: Some(to),
            verdict: Verdict::Crash(Fault::Shutdown),
            entered_ns: verdict_ns - 1000,
            unpublished_ns: None,
            verdict_ns,
            released_ns: verdict_ns + 10_000,
        },
        felt_ns: verdict_ns,
        first_sent_ns: Some(verdict_ns + 150_000),
        resent: 0,
        poisoned: 0,
        salvaged: 0,
        crash_summary: String::new(),
    }
}

fn healing(domain: DomainId, at_ns: u64) -> DomainEvent {
    DomainEvent { domain, at_ns }
}

fn crashed() -> Observation {
    Observation { failovers: vec![failover(VICTIM, ACTIVATED + MS)], ..masked() }
}

fn outcome_of(seen: &Observation) -> Outcome {
    judge(&order(), seen).outcome
}

#[test]
fn a_recovered_crash_has_its_times() {
    let record = judge(&order(), &crashed());
    assert_eq!(record.outcome, Outcome::Crash);
    let verdict = record.verdict.unwrap();
    assert_eq!((verdict.detect_us, verdict.switch_us), (1000.0, Some(150.0)));
    assert_eq!(record.activated_after_us, Some(1000.0));
    let steps: Vec<&str> = record.recovery.iter().map(|step| step.step.as_str()).collect();
    assert_eq!(steps, ["verdict", "released", "first-frame"]);
    assert_eq!(record.interruption_us, Some(1000.0));
}

#[test]
fn nothing_found_and_nothing_felt_is_masked() {
    assert_eq!(outcome_of(&masked()), Outcome::Masked);
    let one_lost = Observation { ledger: ledger(100..101), ..masked() };
    assert_eq!(outcome_of(&one_lost), Outcome::Masked);
    assert!(judge(&order(), &one_lost).note.unwrap().contains("1 lost"));
    let two_doubled = Observation { ledger: doubled(2), ..masked() };
    assert_eq!(outcome_of(&two_doubled), Outcome::Masked);
}

/// Nothing lost, so many datagrams twice.
fn doubled(times: u64) -> Ledger {
    let mut ledger = ledger(0..0);
    (100..100 + times).for_each(|n| ledger.echoed(n, (n + 2) * MS));
    ledger
}

#[test]
fn never_reached_is_not_activated() {
    let seen = Observation { activated_ns: None, ..masked() };
    let record = judge(&order(), &seen);
    assert_eq!((record.outcome, record.activated), (Outcome::NotActivated, false));
}

#[test]
fn a_service_that_stops_before_the_fault_is_reached_is_not_harmless() {
    let never = || Observation { activated_ns: None, ..masked() };
    let stopped = Observation { serving: false, ledger: ledger(100..201), ..never() };
    assert_eq!(outcome_of(&stopped), Outcome::SilentFailure);
    let lossy = Observation { ledger: ledger(100..102), ..never() };
    assert_eq!(outcome_of(&lossy), Outcome::SilentFailure);
    let bare = Observation { whole: false, ..never() };
    assert_eq!(outcome_of(&bare), Outcome::SilentFailure);
}

#[test]
fn damage_that_no_detector_noticed_is_a_silent_failure() {
    let two_lost = Observation { ledger: ledger(100..102), ..masked() };
    assert_eq!(outcome_of(&two_lost), Outcome::SilentFailure);
    let three_doubled = Observation { ledger: doubled(3), ..masked() };
    let record = judge(&order(), &three_doubled);
    assert_eq!(record.outcome, Outcome::SilentFailure);
    assert!(record.note.unwrap().starts_with("damaged service: "));
    let mut damaged = masked();
    damaged.ledger.damaged();
    assert_eq!(outcome_of(&damaged), Outcome::SilentFailure);
    let bare = Observation { whole: false, ..masked() };
    assert_eq!(outcome_of(&bare), Outcome::SilentFailure);
}

#[test]
fn a_service_that_stops_or_suffers_unnoticed_is_a_silent_failure() {
    let stopped = Observation { serving: false, ledger: ledger(100..201), ..masked() };
    assert_eq!(outcome_of(&stopped), Outcome::SilentFailure);
    let gap = Observation { ledger: ledger(100..140), ..masked() };
    assert_eq!(outcome_of(&gap), Outcome::SilentFailure);
}

#[test]
fn a_gap_in_which_the_machine_stood_still_is_not_the_drivers() {
    let stalls = vec![Stall { due_ns: 101 * MS, woke_ns: 139 * MS }];
    let seen = Observation { ledger: late(), stalls, ..masked() };
    assert_eq!(outcome_of(&seen), Outcome::Masked);
}

/// Nothing is lost, and between 100 and 140 ms nothing is sent either.
fn late() -> Ledger {
    let mut late = Ledger::default();
    for n in (1..=100).chain(140..=200) {
        late.sent(n * MS);
        late.echoed(late.total_sent() - 1, n * MS + 100_000);
    }
    late
}

#[test]
fn a_harmed_application_comes_before_all_else() {
    let harmed = Observation { app: Err("its canary".into()), ..crashed() };
    assert_eq!(outcome_of(&harmed), Outcome::Corrupted);
    let mut foreign = crashed();
    foreign.ledger.corrupted();
    assert_eq!(outcome_of(&foreign), Outcome::Corrupted);
    let mut caught = crashed();
    caught.ledger.damaged();
    assert_eq!(outcome_of(&caught), Outcome::Crash);
}

#[test]
fn a_verdict_on_a_sound_domain_is_a_false_failover() {
    let other = Observation { failovers: vec![failover(OTHER, ACTIVATED + MS)], ..masked() };
    assert_eq!(outcome_of(&other), Outcome::FalseFailover);
    let early = Observation { failovers: vec![failover(VICTIM, ACTIVATED - MS)], ..masked() };
    assert_eq!(outcome_of(&early), Outcome::FalseFailover);
    let never = Observation { activated_ns: None, ..crashed() };
    assert_eq!(outcome_of(&never), Outcome::FalseFailover);
    let bare = Observation { whole: false, ..never };
    assert_eq!(outcome_of(&bare), Outcome::FalseFailover, "worse than without a spare");
}

#[test]
fn a_false_alarm_that_ends_the_service_is_unrecovered() {
    let early = || Observation {
        failovers: vec![failover(VICTIM, ACTIVATED - MS)],
        serving: false,
        ..masked()
    };
    let lost = judge(&order(), &early());
    assert_eq!(lost.outcome, Outcome::Unrecovered);
    assert!(lost.note.as_deref().unwrap().contains("before the fault was there"));
    assert!(lost.is_silent() && lost.is_bad(), "no verdict found this fault");
    // Where nothing recovers, that the service stays down is no news, but the alarm is.
    let none = judge(&TrialOrder { configuration: Configuration::None, ..order() }, &early());
    assert_eq!(none.outcome, Outcome::FalseFailover);
}

#[test]
fn what_does_not_come_back_whole_is_not_recovered() {
    let lost = Observation { serving: false, ..crashed() };
    assert_eq!(outcome_of(&lost), Outcome::Unrecovered);
    let bare = Observation { whole: false, ..crashed() };
    assert_eq!(outcome_of(&bare), Outcome::Degraded);
    let mut twice = crashed();
    twice.failovers.push(failover(OTHER, ACTIVATED + 9 * MS));
    assert_eq!(outcome_of(&twice), Outcome::Degraded);
    let none = TrialOrder { configuration: Configuration::None, ..order() };
    assert_eq!(judge(&none, &crashed()).outcome, Outcome::Unrecovered);
}

#[test]
fn a_wakeup_that_was_made_up_for_is_silence() {
    let seen = Observation { healed: vec![healing(VICTIM, ACTIVATED + 4 * MS)], ..masked() };
    let record = judge(&order(), &seen);
    assert_eq!(record.outcome, Outcome::Silence);
    assert_eq!(record.verdict.unwrap().cause, "lost-wakeup");
}

#[test]
fn a_wakeup_of_another_domain_or_before_the_fault_is_not_its_detection() {
    for healed in [healing(OTHER, ACTIVATED + 4 * MS), healing(VICTIM, ACTIVATED - MS)] {
        let seen = || Observation { healed: vec![healed], ..masked() };
        let harmless = judge(&order(), &seen());
        assert_eq!((harmless.outcome, harmless.verdict), (Outcome::Masked, None));
        let gap = Observation { ledger: late(), ..seen() };
        assert_eq!(outcome_of(&gap), Outcome::SilentFailure);
    }
}

#[test]
fn only_the_gap_that_a_healing_ended_is_explained_by_it() {
    // Echoes come back until 100.1 ms, and again from 140.1 ms.
    let after = |at_ms: u64| {
        let healed = vec![healing(VICTIM, at_ms * MS)];
        outcome_of(&Observation { healed, ledger: late(), ..masked() })
    };
    assert_eq!(after(141), Outcome::Silence);
    assert_eq!(after(80), Outcome::SilentFailure, "before it began");
    assert_eq!(after(180), Outcome::SilentFailure, "long after it was over");
}

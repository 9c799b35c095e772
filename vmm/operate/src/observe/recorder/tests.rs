use super::*;
use std::time::Duration;

use crate::observe::bus::Delivery;
use crate::observe::event::FailoverOutcome;
use crate::observe::failure_records::KEPT_FAILOVERS;
use crate::observe::received_event::FailoverFacts;
use crate::observe::testing::FakeSystem;
use supervisor::RoleState;

const MS: u64 = 1_000_000;

/// A recorder of a made-up system, to which happens what is recorded.
struct Stage {
    fake: Arc<FakeSystem>,
    recorder: Arc<Recorder>,
}

impl Stage {
    fn report(&self, event: ReceivedEvent) {
        self.fake.report(&self.recorder, event);
    }
}

impl std::ops::Deref for Stage {
    type Target = Recorder;

    fn deref(&self) -> &Recorder {
        &self.recorder
    }
}

fn recorder() -> Stage {
    let (fake, observer) = FakeSystem::failed();
    Stage { fake, recorder: observer.recorder }
}

fn ready(domain: &str, role: RoleState, at_ns: u64) -> ReceivedEvent {
    ReceivedEvent::Ready { domain: domain.into(), role, at_ns }
}

fn up() -> Stage {
    let recorder = recorder();
    recorder.report(ready("a", RoleState::Active, MS));
    recorder.report(ready("b", RoleState::Standby, 2 * MS));
    recorder
}

fn crash_of_a() -> FailoverFacts {
    FailoverFacts {
        from: "a".into(),
        epoch: 1,
        was_active: true,
        to: Some("b".into()),
        cause: "crash",
        evidence: "#UD".into(),
        entered_ns: 10 * MS,
        felt_ns: 10 * MS - 300_000,
        verdict_ns: 10 * MS + 200_000,
        released_ns: 10 * MS + 250_000,
        first_sent_ns: Some(10 * MS + 700_000),
        resent: 3,
        ..FailoverFacts::default()
    }
}

fn kinds(subscription: &mut Subscription, count: usize) -> Vec<String> {
    let mut kind = || match subscription.next_blocking() {
        Some(Delivery::Event(event)) => event.kind.to_owned(),
        other => panic!("{other:?}"),
    };
    (0..count).map(|_| kind()).collect()
}

#[test]
fn a_crash_is_told_with_the_loss_and_return_of_redundancy() {
    let recorder = up();
    let mut events = recorder.subscribe();
    recorder.report(ReceivedEvent::Failover(crash_of_a()));
    recorder.report(ready("a", RoleState::Standby, 30 * MS));
    let expected = ["failover", "redundancy-lost", "ready", "redundancy-regained"];
    assert_eq!(kinds(&mut events, 4), expected);
}

#[test]
fn an_interruption_begins_with_what_was_left_undone_and_phases_stand_beside_it() {
    let recorder = up();
    recorder.report(ReceivedEvent::Failover(crash_of_a()));
    let view = &recorder.failovers(1)[0];
    assert_eq!(view.outcome, FailoverOutcome::TakenOver);
    let phases = view.phases;
    assert_eq!(
        (phases.detect_us, phases.release_us, phases.first_frame_us),
        (200.0, Some(50.0), Some(450.0))
    );
    assert_eq!(view.interruption_us, Some(1000.0));
    assert_eq!(recorder.interruption().by_cause["crash"].count, 1);
}

#[test]
fn the_rebuilt_domain_completes_its_failure_once() {
    let recorder = up();
    recorder.report(ReceivedEvent::Failover(crash_of_a()));
    recorder.report(ready("a", RoleState::Standby, 30 * MS + 200_000));
    recorder.report(ready("a", RoleState::Standby, 90 * MS));
    assert_eq!(recorder.failovers(1)[0].phases.rebuild_us, Some(20_000.0));
    let rebuilds: Vec<_> = recorder.phase_histograms();
    let rebuild = rebuilds.iter().find(|durations| durations.phase == "rebuild").unwrap();
    assert_eq!(rebuild.histogram.count(), 1);
}

#[test]
fn without_a_spare_the_interruption_ends_with_the_restart() {
    let recorder = recorder();
    recorder.report(ready("a", RoleState::Active, MS));
    let facts = FailoverFacts { to: None, first_sent_ns: None, ..crash_of_a() };
    recorder.report(ReceivedEvent::Failover(facts));
    assert_eq!(recorder.interruption().all.count, 0);
    recorder.report(ready("a", RoleState::Active, 40 * MS));
    let view = &recorder.failovers(1)[0];
    assert_eq!(view.outcome, FailoverOutcome::NoSpare);
    assert_eq!(view.interruption_us, Some(30_300.0));
    assert_eq!(recorder.interruption().all.count, 1);
}

#[test]
fn a_standby_that_fails_interrupts_nothing() {
    let recorder = up();
    let facts = FailoverFacts {
        from: "b".into(),
        was_active: false,
        to: None,
        first_sent_ns: None,
        ..crash_of_a()
    };
    recorder.report(ReceivedEvent::Failover(facts));
    assert_eq!(recorder.interruption().all.count, 0);
    let counts = recorder.counts();
    assert_eq!((counts[0].outcome.as_str(), counts[0].count), ("standby-lost", 1));
}

#[test]
fn a_pulled_cable_of_the_spare_costs_redundancy() {
    let recorder = up();
    let mut events = recorder.subscribe();
    recorder.report(ReceivedEvent::Link { nic: "nic-b".into(), up: false });
    recorder.report(ReceivedEvent::Link { nic: "nic-b".into(), up: true });
    let expected = ["link", "redundancy-lost", "link", "redundancy-regained"];
    assert_eq!(kinds(&mut events, 4), expected);
}

#[test]
fn a_domain_that_is_given_up_is_quarantined() {
    let recorder = up();
    let mut events = recorder.subscribe();
    recorder.report(ReceivedEvent::BuildFailed { domain: "b".into(), reason: "r".into() });
    recorder
        .report(ReceivedEvent::Quarantined { domain: "b".into(), pause: Duration::from_secs(1) });
    assert_eq!(kinds(&mut events, 3), ["build-failed", "quarantine", "redundancy-lost"]);
}

#[test]
fn a_dump_belongs_to_its_failure() {
    let recorder = up();
    recorder.report(ReceivedEvent::Failover(crash_of_a()));
    let (domain, folder) = ("a".into(), "/dumps/1".into());
    recorder.report(ReceivedEvent::Dumped { domain, folder, requested: false });
    let (domain, reason) = ("a".into(), "disk full".into());
    recorder.report(ReceivedEvent::DumpLost { domain, reason });
    assert_eq!(recorder.failovers(1)[0].dump.as_deref(), Some("/dumps/1"));
}

#[test]
fn a_dump_that_was_asked_for_belongs_to_no_failure() {
    let recorder = up();
    recorder.report(ReceivedEvent::Failover(crash_of_a()));
    let (domain, folder) = ("a".into(), "/dumps/2".into());
    recorder.report(ReceivedEvent::Dumped { domain, folder, requested: true });
    assert_eq!(recorder.failovers(1)[0].dump, None);
}

#[test]
fn a_sample_before_an_event_is_recorded_agrees_with_the_events() {
    let recorder = up();
    let mut events = recorder.subscribe();
    let unplugged = ReceivedEvent::Link { nic: "nic-b".into(), up: false };
    recorder.fake.happen(&unplugged);
    assert!(!recorder.sample().redundant);
    assert_eq!(kinds(&mut events, 1), ["redundancy-lost"]);
    recorder.report(unplugged);
    assert!(!recorder.sample().redundant);
    recorder.report(ReceivedEvent::Link { nic: "nic-b".into(), up: true });
    assert!(recorder.sample().redundant);
    assert_eq!(kinds(&mut events, 3), ["link", "link", "redundancy-regained"]);
}

#[test]
fn a_failure_that_is_over_when_it_is_reported_was_a_loss_all_the_same() {
    let recorder = up();
    let mut events = recorder.subscribe();
    let (verdict_ns, failure) = (monotonic_ns(), crash_of_a());
    let failure = ReceivedEvent::Failover(FailoverFacts { verdict_ns, ..failure });
    recorder.fake.happen(&failure);
    recorder.fake.happen(&ready("a", RoleState::Standby, verdict_ns));
    recorder.recorder.record(failure);
    assert_eq!(kinds(&mut events, 3), ["failover", "redundancy-lost", "redundancy-regained"]);
}

#[test]
fn only_the_newest_failures_are_kept_but_all_are_counted() {
    let recorder = up();
    for _ in 0..KEPT_FAILOVERS + 10 {
        recorder.report(ReceivedEvent::Failover(crash_of_a()));
    }
    let kept = recorder.failovers(usize::MAX);
    assert_eq!(kept.len(), KEPT_FAILOVERS);
    assert_eq!(kept[0].number, KEPT_FAILOVERS as u64 + 10);
    assert_eq!(recorder.counts()[0].count, KEPT_FAILOVERS as u64 + 10);
}

#[test]
fn a_late_subscriber_gets_what_was_kept_and_misses_nothing_after() {
    let recorder = up();
    let (all, _) = recorder.subscribe_after(0);
    assert_eq!(all.iter().map(|event| event.seq).collect::<Vec<_>>(), [1, 2, 3]);
    let (kept, mut coming) = recorder.subscribe_after(2);
    recorder.report(ReceivedEvent::Link { nic: "nic-a".into(), up: true });
    assert_eq!(kept.len(), 1);
    assert!(matches!(coming.next_blocking(), Some(Delivery::Event(event)) if event.seq == 4));
}

//! Which domain takes over, and what a second fault does: policies, several spares, links,
//! quarantine.

use std::time::{Duration, Instant};

use lab::fault::{self, Site};
use microvm::domain::DomainId;
use microvm::kvm::SegmentProtection;
use platform::budget::LINK_GRACE;
use shared_ring::status::attach;
use supervisor::topology::{
    EmulatedSpec, FailBackSpec, Limits, NicSpec, Policy, Topology, WireSpec,
};
use supervisor::{Event, RoleState, SystemState, Verdict};
use warmspare_tests::rig::{Rig, alone};

const A: DomainId = DomainId(0);
const B: DomainId = DomainId(1);
const C: DomainId = DomainId(2);
const A_WHILE: Duration = Duration::from_millis(60);

fn three_domains(topology: &mut Topology) {
    let mut third = topology.domains[1].clone();
    third.name = "c".into();
    third.nic = NicSpec::Emulated(EmulatedSpec {
        name: "nic-c".into(),
        wire: WireSpec::Switch("lan".into()),
    });
    topology.domains.push(third);
}

/// Corrupts a domain's code; if the domain serves, it meets the fault at once.
fn corrupt(rig: &Rig, id: DomainId) {
    let life = rig.system.failover().life(id).unwrap();
    fault::corrupt_code(rig.slot(id), life.image(), Site::Loop).unwrap();
    rig.slot(id).kick.write(1).unwrap();
}

/// Makes a domain's whole text invalid and wakes it, so that it crashes wherever it is executing.
fn ruin(rig: &Rig, id: DomainId) {
    let life = rig.system.failover().life(id).unwrap();
    for segment in life.image().segments() {
        if segment.protection == SegmentProtection::ReadExecute {
            let invalid = [0x0f, 0x0b].repeat(segment.len as usize / 2);
            rig.slot(id).ram.write(segment.address, &invalid).unwrap();
        }
    }
    life.check();
}

fn state(rig: &Rig, id: DomainId) -> RoleState {
    rig.system.failover().state(id).0
}

#[test]
fn of_two_spares_the_first_takes_over_and_then_the_other() {
    let _alone = alone();
    let rig = Rig::start_with(|topology| {
        three_domains(topology);
        // A failed domain stays in quarantine, so that it cannot be back, and first in order again,
        // when the next one fails.
        topology.limits =
            Limits { failures: 1, quarantine_s: 1, quarantine_max_s: 1, ..topology.limits };
    });
    assert_eq!(rig.active(), A);
    corrupt(&rig, A);
    corrupt(&rig, B);
    let mut records = [rig.wait_failover().record, rig.wait_failover().record];
    // Two threads report these failovers.
    records.sort_by_key(|record| record.verdict_ns);
    let [first, second] = records;
    assert_eq!((first.from, first.to), (A, Some(B)));
    assert_eq!(second.from, B, "the spare crashes while it takes over");
    assert_eq!(second.to, Some(C));
    rig.wait_whole();
    assert_eq!(rig.active(), C);
    rig.run_for(A_WHILE);
    rig.assert_service_whole();
}

#[test]
fn a_spare_without_a_link_is_passed_over() {
    let _alone = alone();
    let rig = Rig::start_with(three_domains);
    rig.set_link(B, false);
    rig.wait("the link to go", |rig| !rig.slot(B).nic.link_up());
    corrupt(&rig, A);
    let record = rig.wait_failover().record;
    assert_eq!((record.from, record.to), (A, Some(C)));
    rig.set_link(B, true);
    rig.wait_whole();
    rig.run_for(A_WHILE);
    rig.assert_service_whole();
}

#[test]
fn a_spare_that_crashes_while_it_takes_over_leaves_the_service_to_the_rebuilt_domain() {
    let _alone = alone();
    let rig = Rig::start();
    ruin_quietly(&rig, B);
    corrupt(&rig, A);
    let mut records = [rig.wait_failover().record, rig.wait_failover().record];
    // Two threads report these failovers.
    records.sort_by_key(|record| record.verdict_ns);
    assert_eq!(records.map(|r| (r.from, r.was_active)), [(A, true), (B, true)]);
    rig.wait_whole();
    rig.run_for(A_WHILE);
    rig.assert_service_whole();
}

/// Makes a domain's text invalid like [`ruin`], but lets the domain sleep on.
fn ruin_quietly(rig: &Rig, id: DomainId) {
    let life = rig.system.failover().life(id).unwrap();
    fault::corrupt_code(rig.slot(id), life.image(), Site::Loop).unwrap();
}

#[test]
fn both_domains_crashing_at_once_are_both_rebuilt() {
    let _alone = alone();
    let rig = Rig::start();
    for _ in 0..3 {
        ruin(&rig, B);
        ruin(&rig, A);
        let failed = [rig.wait_failover().record.from, rig.wait_failover().record.from];
        assert!(failed.contains(&A) && failed.contains(&B), "{failed:?}");
        rig.wait_whole();
        rig.run_for(A_WHILE);
    }
    rig.assert_service_whole();
}

#[test]
fn a_standby_that_crashes_is_rebuilt_and_nobody_notices() {
    let _alone = alone();
    let mut rig = Rig::start();
    let before_ns = platform::clock::monotonic_ns();
    ruin(&rig, B);
    let record = rig.wait_failover().record;
    assert_eq!((record.from, record.was_active, record.to), (B, false, None));
    assert!(matches!(record.verdict, Verdict::Crash(_)), "{:?}", record.verdict);
    rig.wait_whole();
    assert_eq!(rig.active(), A);
    rig.run_for(Duration::from_millis(200));
    let ledger = rig.finish_traffic();
    let until_ns = platform::clock::monotonic_ns() - 110_000_000;
    assert_eq!(ledger.lost_between(before_ns, until_ns), 0);
}

#[test]
fn an_unattached_spare_leaves_its_nic_alone_until_it_takes_over() {
    let _alone = alone();
    let rig = Rig::start_with(|topology| topology.policy = Policy::Spare);
    let spare = rig.system.failover().life(B).unwrap();
    assert!(spare.is_ready() && !spare.is_attached());
    let path = || rig.slot(B).status().attach_path.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(path(), attach::NONE);
    for round in 0..4 {
        let failed = rig.active();
        corrupt(&rig, failed);
        let record = rig.wait_failover().record;
        assert_eq!((record.from, record.to.is_some()), (failed, true), "round {round}");
        let successor = rig.system.failover().life(rig.active()).unwrap();
        rig.wait("the driver to attach", |_| successor.is_attached());
        rig.wait_whole();
        rig.run_for(A_WHILE);
    }
    rig.assert_service_whole();
}

#[test]
fn the_service_goes_back_to_the_preferred_domain_without_a_loss() {
    let _alone = alone();
    let mut rig = Rig::start_with(|topology| {
        topology.fail_back = FailBackSpec::Prefer { domain: "a".into(), hold_s: 1 };
    });
    corrupt(&rig, A);
    let failed_ns = rig.wait_failover().record.verdict_ns;
    rig.wait_whole();
    assert_eq!(rig.active(), B, "not before the hold time");
    rig.run_for(A_WHILE);
    let whole_ns = platform::clock::monotonic_ns();
    let report = rig.wait_event(|event| match event {
        Event::Switched(report) => Some(report),
        _ => None,
    });
    assert_eq!((report.from, report.to), (B, A));
    assert!(report.began_ns - failed_ns >= 1_000_000_000);
    rig.wait_whole();
    assert_eq!(rig.active(), A);
    rig.run_for(Duration::from_millis(200));
    let ledger = rig.finish_traffic();
    let until_ns = platform::clock::monotonic_ns() - 110_000_000;
    assert_eq!(ledger.lost_between(whole_ns, until_ns), 0, "a planned switch loses nothing");
}

#[test]
fn a_domain_that_keeps_crashing_is_left_alone_until_it_is_needed() {
    let _alone = alone();
    let rig = Rig::start_with(|topology| {
        topology.limits =
            Limits { failures: 3, quarantine_s: 600, quarantine_max_s: 600, ..Limits::default() };
    });
    for _ in 0..3 {
        rig.wait_whole();
        ruin(&rig, B);
        assert_eq!(rig.wait_failover().record.from, B);
    }
    let (domain, pause) = rig.wait_event(|event| match event {
        Event::Quarantined { domain, pause } => Some((domain, pause)),
        _ => None,
    });
    assert_eq!((domain, pause), (B, Duration::from_secs(600)));
    rig.run_for(A_WHILE);
    assert_eq!((state(&rig, A), state(&rig, B)), (RoleState::Active, RoleState::Quarantined));

    ruin(&rig, A);

    rig.wait_whole();
    rig.run_for(A_WHILE);
    rig.assert_service_whole();
}

#[test]
fn a_domain_without_a_spare_that_keeps_crashing_comes_back_all_the_same() {
    let _alone = alone();
    let rig = Rig::start_with(|topology| {
        topology.domains.truncate(1);
        topology.policy = Policy::Reboot;
        topology.limits = Limits { failures: 2, ..Limits::default() };
    });
    for _ in 0..4 {
        rig.wait("service", |rig| state(rig, A) == RoleState::Active);
        ruin(&rig, A);
        rig.wait_failover();
    }
    let pause = rig.wait_event(|event| match event {
        Event::Quarantined { pause, .. } => Some(pause),
        _ => None,
    });
    assert!(pause <= Duration::from_secs(1), "{pause:?}");
    rig.wait("service", |rig| state(rig, A) == RoleState::Active);
    rig.run_for(2 * A_WHILE);
    rig.assert_service_whole();
}

#[test]
fn the_state_of_the_service_is_told_and_the_first_link_that_returns_resumes_it() {
    let _alone = alone();
    let rig = Rig::start();
    let next_state = |rig: &Rig| {
        rig.wait_event(|event| match event {
            Event::State { to, .. } => Some(to),
            _ => None,
        })
    };
    while next_state(&rig) != SystemState::Normal {}
    rig.set_link(B, false);
    rig.wait("the link to go", |rig| !rig.slot(B).nic.link_up());
    rig.set_link(A, false);
    while next_state(&rig) != SystemState::Disconnected {}
    rig.run_for(A_WHILE);
    assert_eq!(rig.active(), A, "no better one: it stays");

    rig.set_link(B, true);

    while next_state(&rig) != SystemState::Normal {}
    assert_eq!(rig.active(), B);
    rig.set_link(A, true);
    rig.wait_whole();
    rig.run_for(A_WHILE);
    rig.assert_service_whole();
}

#[test]
fn a_link_that_flaps_is_not_relied_on_until_it_holds() {
    let _alone = alone();
    let hold = Duration::from_millis(600);
    let rig = Rig::start_with(|topology| {
        topology.limits = Limits {
            link_flaps: 2,
            link_hold_ms: hold.as_millis() as u32,
            link_hold_max_ms: hold.as_millis() as u32,
            ..Limits::default()
        };
    });
    for _ in 0..3 {
        for up in [false, true] {
            rig.set_link(B, up);
            let seen = |event| matches!(event, Event::Link { up: seen, .. } if seen == up);
            rig.wait_event(|event| seen(event).then_some(()));
        }
    }
    let held_down = |rig: &Rig| rig.system.failover().views()[B.index()].held_down;
    assert!(held_down(&rig));
    // No redundancy, and no successor while the service could still come back by itself; but better
    // than none at all.
    assert!(!rig.system.failover().is_redundant());
    let cut = Instant::now();
    rig.set_link(A, false);
    rig.run_for(LINK_GRACE / 2);
    assert_eq!(rig.active(), A, "the other link is up, but flaps");
    rig.wait("the failover", |rig| rig.active() == B);
    assert!(cut.elapsed() >= LINK_GRACE && held_down(&rig), "{:?}", cut.elapsed());
    rig.set_link(A, true);
    rig.wait_whole();
    rig.run_for(A_WHILE);
    rig.assert_service_whole();
}

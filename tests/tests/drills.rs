//! What drills prove, and for how long: who is drilled without being asked, and what a drill that
//! failed is worth afterwards.

use std::time::{Duration, Instant};

use microvm::domain::DomainId;
use supervisor::{Blame, DrillReport, Event, RoleState};
use warmspare_tests::rig::{Rig, alone, assert_nothing_happened};

fn spare(rig: &Rig) -> DomainId {
    let active = rig.active();
    rig.system.slots().iter().map(|slot| slot.id).find(|id| *id != active).unwrap()
}

fn next_drill(rig: &Rig) -> DrillReport {
    rig.wait_event(|event| match event {
        Event::Drilled(report) => Some(report),
        _ => None,
    })
}

#[test]
fn a_standby_is_drilled_as_soon_as_it_is_built_and_then_by_the_clock() {
    let _alone = alone();
    let rig = Rig::start_with(|topology| topology.drill.every_s = 2);
    let drills = [next_drill(&rig), next_drill(&rig)];
    for report in drills {
        assert!(report.passed(), "{report:?}");
    }
    let apart = Duration::from_nanos(drills[1].at_ns - drills[0].at_ns);
    assert!(apart >= Duration::from_secs(2), "{apart:?}");
    let crashed = rig.crash_active();
    let report = next_drill(&rig);
    assert_eq!(report.domain, crashed, "the domain that was rebuilt");
    rig.assert_service_whole();
}

#[test]
fn a_standby_that_the_network_does_not_reach_is_no_redundancy_until_a_drill_passes() {
    let _alone = alone();
    let mut rig = Rig::start_with(|topology| topology.drill.every_s = 0);
    let spare = spare(&rig);
    let failover = rig.system.failover().clone();
    rig.set_port_dead(spare, true);
    // One drill may fail for another reason, the second counts.
    for _ in 0..2 {
        rig.system.operator().drill(Some(spare)).unwrap();
    }
    // It is rebuilt twice, and each new life is drilled at once, although nobody is drilled by the
    // clock.
    for _ in 0..4 {
        let report = next_drill(&rig);
        assert_eq!(report.blame, Some(Blame::Wire), "{report:?}");
    }
    let end = Instant::now() + Duration::from_secs(1);
    while Instant::now() < end {
        assert!(!failover.is_redundant(), "no drill has passed");
        std::thread::sleep(Duration::from_millis(1));
    }
    let epoch = failover.state(spare).1;

    rig.set_port_dead(spare, false);

    rig.wait("redundancy", |_| failover.is_redundant());
    assert_eq!(failover.state(spare), (RoleState::Standby, epoch), "it waited for the network");
    assert_nothing_happened(&rig.finish_traffic());
}

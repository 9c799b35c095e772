//! Links and switch ports. The NICs report link changes through a vector of their own, so the
//! supervisor does not poll, and more NICs cost nothing more. A port that is dead while its link is
//! up is found by probes.

use std::fs;
use std::time::Duration;

use microvm::domain::DomainId;
use platform::budget::LINK_GRACE;
use platform::clock::monotonic_ns;
use supervisor::topology::{DomainSpec, EmulatedSpec, MAX_DOMAINS, NicSpec, WireSpec};
use supervisor::{Blame, Event, Health, Verdict};
use warmspare_tests::emulation;
use warmspare_tests::rig::{Rig, alone};

const SILENCE: Duration = Duration::from_millis(600);
const DEAD_PORTS: usize = 3;
/// How long the service may be dark while the standby with a link is not healthy: the grace, the
/// time between two looks at an idle domain, and as much again for a busy machine.
const DARK_AT_MOST: Duration = Duration::from_millis(400);
/// Limit on the median: two and a half times the time that is promised.
const LEFT_WITHIN: Duration = Duration::from_millis(50);

/// A system of `domains` domains, each with its own NIC, and a guest that gets no traffic.
fn idle_system(domains: usize) -> Rig {
    let mut rig = Rig::start_with(|topology| {
        let domain = |n: usize| DomainSpec {
            name: format!("d{n}"),
            nic: NicSpec::Emulated(EmulatedSpec {
                name: format!("nic-d{n}"),
                wire: WireSpec::Switch("lan".into()),
            }),
        };
        topology.domains = (0..domains).map(domain).collect();
    });
    rig.finish_traffic();
    rig
}

/// How often the supervisor thread has gone to sleep since it was started.
fn supervisor_sleeps() -> u64 {
    let tasks = fs::read_dir("/proc/self/task").expect("our threads");
    let counts = tasks.flatten().filter_map(|task| {
        // A thread may end while its entry is being read.
        let name = fs::read_to_string(task.path().join("comm")).ok()?;
        let status = fs::read_to_string(task.path().join("status")).ok()?;
        let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches"))?;
        let count = line.split_whitespace().nth(1)?.parse().ok()?;
        (name.trim() == "supervisor").then_some(count)
    });
    let counts: Vec<u64> = counts.collect();
    assert_eq!(counts.len(), 1, "one supervisor thread");
    counts[0]
}

/// Returns how often the supervisor wakes while nothing happens.
fn wakes_in_silence(rig: &Rig) -> u64 {
    let before = supervisor_sleeps();
    rig.run_for(SILENCE);
    supervisor_sleeps() - before
}

/// Pulls every NIC's cable and plugs it in again, and checks that each change is reported.
fn assert_every_link_is_watched(rig: &Rig, domains: usize) {
    for index in 0..domains {
        let id = DomainId(index as u8);
        for up in [false, true] {
            rig.set_link(id, up);
            rig.wait_event(|event| match event {
                Event::Link { nic, up: now } if nic == rig.slot(id).nic.name() && now == up => {
                    Some(())
                }
                _ => None,
            });
        }
        rig.wait_whole();
    }
}

#[test]
fn link_supervision_costs_the_same_with_two_nics_and_with_eight() {
    let _alone = alone();
    let wakes = [2, MAX_DOMAINS].map(|domains| {
        let rig = idle_system(domains);
        let wakes = wakes_in_silence(&rig);
        assert_every_link_is_watched(&rig, domains);
        wakes
    });
    eprintln!("the supervisor woke {} times for 2 NICs, {} for {MAX_DOMAINS}", wakes[0], wakes[1]);
    // The idle proof of life wakes the serving domain several times a second, independent of the
    // number of other domains; polling six more links would show as a multiple.
    assert!(wakes[1] <= 2 * wakes[0] + 10, "{wakes:?}");
}

/// A system whose standby probes; also returns the serving domain and the standby.
fn probing_system() -> (Rig, DomainId, DomainId) {
    // Drills by the clock would find the dead ports, too.
    let rig = Rig::start_with(|topology| {
        (topology.drill.probe_ms, topology.drill.every_s) = (5, 0);
    });
    let active = rig.active();
    let standby = DomainId(1 - active.0);
    rig.run_for(SILENCE);
    (rig, active, standby)
}

fn is_fit(rig: &Rig, id: DomainId) -> bool {
    rig.system.failover().views()[id.index()].health() == Health::Healthy
}

/// Makes the serving NIC's port dead, and alive again after the failover. Returns the time from the
/// port's death to the verdict.
fn leave_dead_port(rig: &Rig) -> Duration {
    let active = rig.active();
    let standby = DomainId(1 - active.0);
    let dead_ns = monotonic_ns();
    rig.set_port_dead(active, true);
    let report = rig.wait_failover();
    assert!(matches!(report.record.verdict, Verdict::Port), "{:?}", report.record.verdict);
    assert_eq!((report.record.from, report.record.to), (active, Some(standby)));

    // The domain is rebuilt, and is unfit as long as its port is dead; the other domain is not
    // blamed.
    rig.wait_whole();
    rig.wait("an unfit standby", |rig| !is_fit(rig, active));
    rig.run_for(SILENCE);
    assert_eq!(rig.active(), standby);
    rig.set_port_dead(active, false);
    rig.wait("a fit standby", |rig| is_fit(rig, active));
    rig.run_for(SILENCE);
    Duration::from_nanos(report.record.verdict_ns - dead_ns)
}

#[test]
fn a_port_that_dies_under_the_active_nic_is_left_with_its_link_up() {
    let _alone = alone();
    let (rig, ..) = probing_system();
    let mut left_after = [(); DEAD_PORTS].map(|()| leave_dead_port(&rig));
    left_after.sort();
    eprintln!("left after {left_after:?}");
    let median = left_after[DEAD_PORTS / 2];
    assert!(median <= LEFT_WITHIN * emulation::slowness(), "left after {left_after:?}");
    rig.assert_service_whole();
}

#[test]
fn a_port_that_dies_under_the_standby_makes_it_unfit_and_nothing_else() {
    let _alone = alone();
    let (rig, active, standby) = probing_system();
    rig.set_port_dead(standby, true);
    let blame = rig.wait_event(|event| match event {
        Event::Drilled(report) => Some(report.blame),
        Event::Failover(report) => panic!("{report:?}"),
        _ => None,
    });
    assert_eq!(blame, Some(Blame::Wire));
    // The reported drill may be an earlier one if the machine stalled.
    rig.wait("an unfit standby", |rig| !is_fit(rig, standby));
    assert!(!rig.system.failover().is_redundant());
    rig.set_port_dead(standby, false);
    rig.wait("a fit standby", |rig| is_fit(rig, standby));
    assert_eq!(rig.active(), active);
    rig.assert_service_whole();
}

/// Pulls the serving NIC's cable while the standby is poor, and checks that it serves soon.
fn assert_taken_for_its_link(rig: &Rig, shortcoming: Health) {
    let active = rig.active();
    let standby = DomainId(1 - active.0);
    assert_eq!(rig.system.failover().views()[standby.index()].health(), shortcoming);
    let pulled_ns = monotonic_ns();
    rig.set_link(active, false);
    let record = rig.wait_failover().record;
    assert!(
        matches!(record.verdict, Verdict::LinkAtLast(health) if health == shortcoming),
        "{:?}",
        record.verdict
    );
    assert_eq!((record.from, record.to), (active, Some(standby)));
    let dark = Duration::from_nanos(record.verdict_ns - pulled_ns);
    assert!(dark >= LINK_GRACE, "a moment is granted: {dark:?}");
    assert!(dark < DARK_AT_MOST * emulation::slowness(), "dark for {dark:?}");
    rig.wait_echo();
    rig.set_link(active, true);
}

#[test]
fn a_paused_standby_serves_when_it_alone_has_a_link() {
    let _alone = alone();
    let rig = Rig::start();
    rig.system.operator().pause(DomainId(1 - rig.active().0)).expect("a pause");
    assert_taken_for_its_link(&rig, Health::Aside);
    rig.wait_whole();
    rig.assert_service_whole();
}

#[test]
fn a_standby_that_failed_its_drill_serves_when_it_alone_has_a_link() {
    let _alone = alone();
    let (rig, active, standby) = probing_system();
    rig.set_port_dead(standby, true);
    rig.wait("an unfit standby", |rig| !is_fit(rig, standby));
    // Both ports are cut: the standby's is alive again, and nobody is left who could answer it.
    rig.set_link(active, false);
    rig.set_port_dead(standby, false);
    let record = rig.wait_failover().record;
    assert!(
        matches!(record.verdict, Verdict::LinkAtLast(Health::DrillFailed) | Verdict::Link),
        "{:?}",
        record.verdict
    );
    assert_eq!(record.to, Some(standby));
    rig.wait_echo();
    rig.set_link(active, true);
    rig.wait_whole();
    rig.assert_service_whole();
}

#[test]
fn on_a_quiet_network_a_dead_port_is_nobodys_fault() {
    let _alone = alone();
    let (mut rig, active, _) = probing_system();
    rig.finish_traffic();
    rig.run_for(SILENCE);
    rig.set_port_dead(active, true);
    rig.run_for(SILENCE);
    assert_eq!(rig.active(), active);
    assert!(rig.system.events().try_iter().all(|event| !matches!(event, Event::Failover(_))));
}

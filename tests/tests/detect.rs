//! Every way a driver can fail, on the whole system: the fault is real, the detector finds it, the
//! spare takes over, and the sender outside sees the service continue. Other tests check that the
//! detectors find nothing when there is no fault.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lab::fault::{Cause, REGISTER_VARIANTS, Victim};
use microvm::domain::{DomainId, VcpuState};
use supervisor::detect::{Detector, Symptom};
use supervisor::topology::Topology;
use supervisor::{Event, FailoverReport, Verdict};
use warmspare_tests::emulation;
use warmspare_tests::rig::{PATIENCE, Rig, alone, assert_nothing_happened};

const A_WHILE: Duration = Duration::from_millis(60);
/// A time longer than any detector takes, on emulated processors too.
const FOUND: Duration = Duration::from_secs(3);
/// Number of attempts to inject a wrong tail, which the driver may correct before it has an effect.
const TAIL_ATTEMPTS: usize = 8;
const LOST_WAKEUPS: usize = 5;
const IDLE_HANGS: usize = 5;
const DRILLED_STALLS: usize = 10;
/// Limit on the median time in which a dead domain that sleeps is found. It is found at the next
/// proof of life, of which there are ten a second; the limit is two and a half times that interval.
const IDLE_LIMIT: Duration = Duration::from_millis(250);
/// No fault here is felt for as long before it is found, nanoseconds.
const LONGEST_FELT_NS: u64 = 2_000_000_000;
/// Environment variable that prolongs the calm; its value is in seconds.
const CALM_SECONDS: &str = "WARMSPARE_CALM_SECONDS";

/// Breaks the active domain in this way and returns the verdict.
fn break_active(rig: &Rig, cause: Cause, variant: usize) -> Verdict {
    let failed = rig.active();
    let life = rig.system.failover().life(failed).unwrap();
    let slot = rig.slot(failed);
    let port = rig.wires.port_of(slot.nic.name()).map(|port| &**port);
    let victim = Victim { slot, life: &life, port };
    let report = suffer(rig, &victim, cause, variant);
    assert_eq!(report.record.from, failed);
    assert_ne!(rig.active(), failed);
    let felt_ns = report.record.verdict_ns - report.felt_ns;
    assert!(felt_ns < LONGEST_FELT_NS, "said to be felt {felt_ns} ns before the verdict");
    // Waits until the domain has been rebuilt: until then its link would not come up even if it
    // were repaired.
    rig.wait("the domain's new life", |rig| {
        rig.system.failover().life(failed).is_some_and(|new| new.epoch() > life.epoch())
    });
    if cause == Cause::Link {
        victim.repair(cause);
    }
    rig.wait_whole();
    rig.run_for(A_WHILE);
    report.record.verdict
}

/// Injects a fault and waits for the failover. The driver's next doorbell may correct a wrong tail
/// before the tail has any effect; the fault is then injected again.
fn suffer(rig: &Rig, victim: &Victim<'_>, cause: Cause, variant: usize) -> FailoverReport {
    for _ in 0..TAIL_ATTEMPTS {
        let site = victim.inject(cause, variant).unwrap().site;
        eprintln!("{}, variant {variant}, {site}", cause.name());
        let time = if site == "rdt" { FOUND } else { PATIENCE };
        if let Some(report) = rig.failover_within(time) {
            return report;
        }
        assert_eq!(site, "rdt", "not found");
    }
    panic!("a wrong tail is never found");
}

fn detected(verdict: &Verdict) -> (Detector, Symptom) {
    match verdict {
        Verdict::Detected(finding) => (finding.detector, finding.symptom),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_hang_in_each_path_is_found() {
    let _alone = alone();
    let rig = Rig::start();
    for variant in 0..3 {
        let found = detected(&break_active(&rig, Cause::Hang, variant));
        assert_eq!(found, (Detector::Hang, Symptom::NoHeartbeat));
    }
    rig.assert_service_whole();
}

#[test]
fn a_loop_that_beats_and_serves_nothing_is_found() {
    let _alone = alone();
    let rig = Rig::start();
    for variant in 0..2 {
        let (detector, symptom) = detected(&break_active(&rig, Cause::Stall, variant));
        // If no frame arrives in time, the domain only spins.
        assert!(matches!(detector, Detector::RingStall | Detector::Spin), "{symptom:?}");
    }
    rig.assert_service_whole();
}

/// The answer to a drill takes a descriptor and no entry, so that the two are not counted alike.
#[test]
fn a_domain_that_was_drilled_as_a_standby_is_judged_by_the_descriptor_that_it_looks_at() {
    let _alone = alone();
    let rig = Rig::start_with(|topology| topology.drill.every_s = 0);
    // Without a frame that arrives in the right moment a stall shows nothing of this: one in two.
    for variant in (0..2).cycle().take(DRILLED_STALLS) {
        let spare = DomainId(1 - rig.active().0);
        assert!(rig.system.operator().drill(Some(spare)).unwrap().passed());
        let (detector, symptom) = detected(&break_active(&rig, Cause::Stall, variant));
        assert!(matches!(detector, Detector::RingStall | Detector::Spin), "{symptom:?}");
    }
    rig.assert_service_whole();
}

#[test]
fn frames_claimed_and_never_sent_are_found() {
    let _alone = alone();
    let rig = Rig::start();
    for variant in 0..2 {
        let (detector, symptom) = detected(&break_active(&rig, Cause::SilentTx, variant));
        assert_eq!(detector, Detector::SilentTransmit, "{symptom:?}");
    }
    rig.assert_service_whole();
}

#[test]
fn frames_received_and_never_published_are_found() {
    let _alone = alone();
    let rig = Rig::start();
    let found = detected(&break_active(&rig, Cause::SilentRx, 0));
    assert_eq!(found, (Detector::SilentReceive, Symptom::ReceiveUnseen));
    rig.assert_service_whole();
}

#[test]
fn corrupted_registers_are_found() {
    let _alone = alone();
    let rig = Rig::start();
    for variant in 0..REGISTER_VARIANTS {
        let (detector, symptom) = detected(&break_active(&rig, Cause::NicRegister, variant));
        let expected = matches!(detector, Detector::Device | Detector::SilentReceive);
        assert!(expected, "variant {variant}: {detector:?}, {symptom:?}");
    }
    rig.assert_service_whole();
}

#[test]
fn a_pulled_cable_hands_over() {
    let _alone = alone();
    let rig = Rig::start();
    for _ in 0..2 {
        let verdict = break_active(&rig, Cause::Link, 0);
        assert!(matches!(verdict, Verdict::Link), "{verdict:?}");
    }
    rig.assert_service_whole();
}

#[test]
fn with_both_cables_pulled_nobody_fails_and_the_first_that_returns_serves() {
    let _alone = alone();
    let rig = Rig::start();
    let (active, spare) = (rig.active(), 1 - rig.active().index());
    let port = |index: usize| {
        let nic = rig.system.slots()[index].nic.name();
        rig.wires.port_of(nic).expect("a port of the NIC")
    };
    port(spare).set_link(false);
    rig.wait("the loss of redundancy", |rig| !rig.system.failover().is_redundant());
    port(active.index()).set_link(false);
    rig.run_for(A_WHILE);
    assert_eq!(rig.active(), active, "neither is any better");
    port(spare).set_link(true);
    let report = rig.wait_failover();
    assert!(matches!(report.record.verdict, Verdict::Link), "{:?}", report.record.verdict);
    assert_eq!(rig.active().index(), spare);
    port(active.index()).set_link(true);
    rig.wait_whole();
    rig.assert_service_whole();
}

/// Sets limits for a test that checks neither how long the NIC's interrupt is masked nor whether
/// wakeups are lost again meanwhile. The interrupt stays masked until the test has received the
/// event of the healing, which may take a while.
fn bear_the_mask(topology: &mut Topology) {
    topology.detect.masked_us = 10_000_000;
    topology.detect.lost_wakeup_window_us = 1_000;
}

#[test]
fn a_lost_wakeup_heals_without_a_failover_and_without_a_loss() {
    let _alone = alone();
    let mut rig = Rig::start_with(bear_the_mask);
    let active = rig.active();
    let life = rig.system.failover().life(active).unwrap();
    let victim = Victim { slot: rig.slot(active), life: &life, port: None };
    let mut delays_us = Vec::new();
    for _ in 0..LOST_WAKEUPS {
        victim.inject(Cause::LostWakeup, 0).unwrap();
        delays_us.push(rig.wait_event(|event| match event {
            Event::Healed { domain, delayed_us, .. } => {
                assert_eq!(domain, active);
                Some(delayed_us)
            }
            Event::Failover(report) => panic!("{report:?}"),
            _ => None,
        }));
        victim.repair(Cause::LostWakeup);
        rig.run_for(A_WHILE);
        rig.system.events().try_iter().for_each(|event| {
            assert!(!matches!(event, Event::Failover(_)), "{event:?}");
        });
    }
    assert_eq!((rig.active(), rig.system.failover().state(active).1), (active, life.epoch()));
    delays_us.sort_unstable();
    eprintln!("healed after {delays_us:?} µs");
    // The domain is woken when half of this time is over.
    let limit_us = u64::from(rig.topology.detect.stall_us);
    assert!(delays_us[LOST_WAKEUPS / 2] <= limit_us, "healed after {delays_us:?} µs");
    // Frames for the sleeping domain wait in its NIC and are not lost.
    assert_nothing_happened(&rig.finish_traffic());
}

#[test]
fn a_held_domain_is_not_hung() {
    let _alone = alone();
    let rig = Rig::start();
    let active = rig.active();
    let life = rig.system.failover().life(active).unwrap();
    let held = life.hold();
    rig.wait("the vCPU to be held", |_| life.state() == VcpuState::Held);
    // Far beyond every threshold, with a datagram coming in every millisecond.
    rig.run_for(Duration::from_millis(300));
    drop(held);
    rig.run_for(A_WHILE);
    assert_eq!(rig.active(), active);
    assert_eq!(rig.system.failover().state(active).1, life.epoch(), "it was not rebuilt either");
    rig.assert_service_whole();
}

#[test]
fn an_idle_domain_proves_that_it_lives_and_a_dead_one_is_found() {
    let _alone = alone();
    let mut rig = Rig::start();
    rig.finish_traffic();
    let mut found_after = Vec::new();
    for _ in 0..IDLE_HANGS {
        let active = rig.active();
        let beat = || rig.slot(active).status().heartbeat.load(Ordering::Relaxed);
        let before = beat();
        rig.run_for(Duration::from_millis(500));
        let beats = beat() - before;
        assert!((2..400).contains(&beats), "{beats} turns in half a second of silence");
        let life = rig.system.failover().life(active).unwrap();
        let victim = Victim { slot: rig.slot(active), life: &life, port: None };
        let hung_ns = victim.inject(Cause::Hang, 2).unwrap().at_ns;
        let record = rig.wait_failover().record;
        assert_eq!((record.from, detected(&record.verdict).0), (active, Detector::Hang));
        found_after.push(Duration::from_nanos(record.verdict_ns - hung_ns));
        drop(life);
        rig.wait_whole();
    }
    found_after.sort_unstable();
    eprintln!("found after {found_after:?}");
    let median = found_after[IDLE_HANGS / 2];
    assert!(median <= IDLE_LIMIT * emulation::slowness(), "found after {found_after:?}");
}

/// Uses all CPU time that no thread of higher priority wants, until told to stop.
fn hog(stop: &AtomicBool) {
    let mut n = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        n = std::hint::black_box(n.wrapping_mul(31).wrapping_add(1));
    }
}

#[test]
fn four_cpu_hogs_raise_no_false_alarm() {
    let seconds = std::env::var(CALM_SECONDS).ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    let _alone = alone();
    let rig = Rig::start();
    let stop = AtomicBool::new(false);
    let mut alarms = Vec::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| hog(&stop));
        }
        rig.run_for(Duration::from_secs(seconds));
        stop.store(true, Ordering::Relaxed);
    });
    for event in rig.system.events().try_iter() {
        match event {
            Event::Failover(report) => alarms.push(report.record.verdict),
            Event::Healed { delayed_us, .. } => eprintln!("a wakeup was lost: {delayed_us} µs"),
            _ => {}
        }
    }
    assert!(alarms.is_empty(), "{alarms:?}");
    rig.assert_service_whole();
}

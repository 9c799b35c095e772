//! Continuity of the service when nothing has failed, or while an operation is in progress: planned
//! switches, drills, upgrades, announcements, and delivery of each broadcast once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use lab::fault::{self, Site};
use microvm::domain::{DomainId, DomainSlot};
use microvm::kvm::Image;
use nic::registers::{TCTL, tctl};
use shared_ring::{Role, layout};
use supervisor::topology::Topology;
use supervisor::{
    Blame, DrillError, Event, Failover, RoleState, SwitchError, UpgradeError, UpgradeStep, Verdict,
};
use switchboard::HandoverError;
use warmspare_tests::emulation;
use warmspare_tests::frontend::{Connection, Station, TestGuest, frame};
use warmspare_tests::rig::{Rig, StopAtEnd, alone, assert_nothing_happened};

const A_WHILE: Duration = Duration::from_millis(60);
const PROBATION: Duration = Duration::from_millis(100);
/// Limit on the median time from a verdict to the spare's first frame: three times the figure that
/// is promised from the fault on.
const AT_ONCE: Duration = Duration::from_millis(3);

fn spare(rig: &Rig) -> DomainId {
    let active = rig.active();
    rig.system.slots().iter().map(|slot| slot.id).find(|id| *id != active).unwrap()
}

/// Calls `act` repeatedly, with pauses, until told to stop.
fn again_and_again(stop: &AtomicBool, mut act: impl FnMut()) {
    while !stop.load(Ordering::Relaxed) {
        act();
        std::thread::sleep(Duration::from_micros(500));
    }
}

fn assert_no_failover(rig: &Rig) {
    for event in rig.system.events().try_iter() {
        assert!(!matches!(event, Event::Failover(_)), "{event:?}");
    }
}

#[test]
fn planned_switches_lose_and_double_nothing() {
    let _alone = alone();
    let mut rig = Rig::start();
    for _ in 0..20 {
        let from = rig.active();
        let report = rig.switch();
        assert_eq!((report.from, report.to), (from, rig.active()));
        assert_eq!(rig.system.failover().state(from).0, RoleState::Standby);
        rig.run_for(Duration::from_millis(7));
    }
    assert_no_failover(&rig);
    assert_nothing_happened(&rig.finish_traffic());
}

#[test]
fn a_switch_that_cannot_be_is_refused() {
    let _alone = alone();
    let mut rig = Rig::start();
    let (active, spare) = (rig.active(), spare(&rig));
    let error = rig.system.failover().switch_to(Some(active)).unwrap_err();
    assert!(matches!(error, SwitchError::NotStandby { .. }), "{error}");
    rig.set_link(spare, false);
    rig.wait("the link to go", |rig| !rig.slot(spare).nic.link_up());
    let error = rig.system.failover().switch_to(Some(spare)).unwrap_err();
    assert!(matches!(error, SwitchError::Unhealthy { .. }), "{error}");
    let error = rig.system.failover().switch_to(None).unwrap_err();
    assert!(matches!(error, SwitchError::NoSpare), "{error}");
    assert_eq!(rig.active(), active);
    assert_nothing_happened(&rig.finish_traffic());
}

/// Sets the detectors' limits so high that they find nothing for as long as a test lasts.
fn look_away(topology: &mut Topology) {
    let long_us = 10_000_000;
    let detect = &mut topology.detect;
    (detect.stall_us, detect.silent_transmit_us, detect.device_us) = (long_us, long_us, long_us);
    (detect.wall_cap_us, detect.silent_receive_us) = (long_us, long_us);
}

#[test]
fn a_domain_that_cannot_send_keeps_the_ring_and_all_it_has() {
    let _alone = alone();
    let mut rig = Rig::start_with(look_away);
    let (active, spare) = (rig.active(), spare(&rig));
    let epochs = || [active, spare].map(|id| rig.system.failover().state(id));
    let before = epochs();
    let nic = &rig.slot(active).nic;
    let sends = nic.peek(TCTL);
    nic.poke(TCTL, sends & !tctl::EN);
    rig.run_for(Duration::from_millis(5));

    let error = rig.system.failover().switch_to(Some(spare)).unwrap_err();

    assert!(matches!(error, SwitchError::Handover(HandoverError::NotDrained)), "{error}");
    assert_eq!(epochs(), before, "the ring stays, and the other stands by again");
    rig.slot(active).nic.poke(TCTL, sends);
    rig.run_for(A_WHILE);
    assert_no_failover(&rig);
    assert_nothing_happened(&rig.finish_traffic());
}

#[test]
fn a_domain_that_has_lost_its_link_keeps_what_it_cannot_send() {
    const FRAMES: u32 = 40;
    let _alone = alone();
    let mut rig = Rig::start_without_app();
    let lan = Station::new(&mut rig);
    let mut guest = TestGuest::new();
    let _connection = Connection::start(rig.socket(), &guest);
    guest.exchange(&lan, 0);
    let (active, spare) = (rig.active(), spare(&rig));
    // The standby's link goes first: then no spare is better than the serving domain when its own
    // link goes.
    for id in [spare, active] {
        rig.set_link(id, false);
        rig.wait("the link to go", |rig| !rig.slot(id).nic.link_up());
    }
    lan.take_seen();
    for number in 1..=FRAMES {
        guest.send(&frame(lan.mac, guest.mac, number));
        rig.run_for(Duration::from_millis(1));
    }
    lan.expect_silence(A_WHILE);
    assert_eq!(rig.active(), active);

    rig.set_link(active, true);

    lan.expect(FRAMES);
    assert_eq!(lan.take_seen(), Vec::from_iter(1..=FRAMES), "each once, in their order");
    assert_eq!(rig.active(), active);
    assert_no_failover(&rig);
}

/// Runs planned operations repeatedly (`operate` returns true if one was carried out) and injects
/// crashes among them, each a `step` later than the one before. Checks that every crash leads to a
/// failover.
fn assert_crashes_among(
    operate: impl Fn(&Failover) -> bool + Send + Sync,
    crashes: u64,
    step: Duration,
    crash: impl Fn(&Rig, u64) -> DomainId,
    is_answer: impl Fn(&Verdict) -> bool,
) {
    let rig = Rig::start();
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let failover = rig.system.failover().clone();
    let operate = || {
        done.fetch_add(u64::from(operate(&failover)), Ordering::Relaxed);
    };
    std::thread::scope(|scope| {
        let _end = StopAtEnd(&stop);
        scope.spawn(|| again_and_again(&stop, operate));
        for n in 0..crashes {
            // An operation must have completed since the last crash, so that the next crash can
            // fall into the middle of one.
            let before = done.load(Ordering::Relaxed);
            rig.wait("a planned operation", |_| done.load(Ordering::Relaxed) > before);
            rig.wait_whole();
            std::thread::sleep(step * n as u32);
            let victim = crash(&rig, n);
            let report = rig.wait_event(|event| match event {
                Event::Failover(report) if report.record.from == victim => Some(report),
                Event::BuildFailed { reason, .. } => panic!("not built: {reason}"),
                _ => None,
            });
            assert!(is_answer(&report.record.verdict), "{report:?}");
            rig.wait_whole();
        }
    });
    rig.assert_service_whole();
}

#[test]
fn crashes_in_the_middle_of_switches_are_failovers() {
    let _alone = alone();
    let switch = |failover: &Failover| failover.switch_to(None).is_ok();
    let crash = |rig: &Rig, n| [Rig::crash_active, crash_spare][n as usize % 2](rig);
    // A switch takes about four milliseconds, so the faults strike at each stage of it. A switch
    // that waits for the domain's answer may give the domain up before the domain gets a processor
    // to crash on.
    let answer = |verdict: &Verdict| matches!(verdict, Verdict::Crash(_) | Verdict::Unready);
    assert_crashes_among(switch, 12, Duration::from_micros(350), crash, answer);
}

/// Corrupts the code of the domain that stands by at this moment, which fails when it runs next.
fn crash_spare(rig: &Rig) -> DomainId {
    let failover = rig.system.failover();
    let mut found = None;
    // A switch may have found the spare unready; in that case it is being rebuilt.
    rig.wait("a spare that lives", |rig| {
        let active = failover.active();
        let mut spares = rig.system.slots().iter().map(|slot| slot.id);
        let spare = spares.find(|id| active.is_some_and(|active| active != *id));
        found = spare.and_then(|id| failover.life(id).map(|life| (id, life)));
        found.is_some()
    });
    let (spare, life) = found.expect("just seen");
    fault::corrupt_code(rig.slot(spare), life.image(), Site::Loop).unwrap();
    spare
}

#[test]
fn a_healthy_standby_passes_its_drills_and_the_guest_hears_nothing_of_them() {
    const DRILLS: usize = 11;
    let _alone = alone();
    let mut rig = Rig::start_with_guest_inside();
    let spare = spare(&rig);
    let before = rig.guest_report();
    let mut attempts = Vec::new();
    for _ in 0..DRILLS {
        let report = rig.system.operator().drill(None).unwrap();
        assert_eq!((report.domain, report.blame), (spare, None), "{report:?}");
        assert_eq!(rig.system.failover().last_drill(spare), Some(report));
        attempts.push(report.attempts);
        rig.run_for(Duration::from_millis(3));
    }
    attempts.sort_unstable();
    // A drill may take more attempts if the machine stalls.
    assert_eq!(attempts[DRILLS / 2], 1, "{attempts:?}");
    let counters = rig.system.switchboard().counters();
    assert!(counters.rx_probes.get() >= DRILLS as u64);
    assert_eq!(rig.system.failover().state(spare).0, RoleState::Standby);
    assert_no_failover(&rig);
    assert_nothing_happened(&rig.finish_traffic());
    let after = rig.guest_report();
    let echoed = after.datagrams_echoed - before.datagrams_echoed;
    assert_eq!(after.frames_in - before.frames_in, echoed, "datagrams and nothing else");
}

#[test]
fn drills_pass_in_the_vlan_that_the_topology_names() {
    use nic::wire::{MAX_FRAME_BYTES, Wire};
    let mut rig = Rig::start_with(|topology| {
        on_request(topology);
        topology.drill.vlan = Some(100);
    });
    let port = rig.lan("listener");
    let report = rig.system.operator().drill(None).unwrap();
    assert_eq!(report.blame, None, "{report:?}");
    let mut buffer = [0; MAX_FRAME_BYTES];
    let mut heard =
        std::iter::from_fn(|| port.receive(&mut buffer).map(|_| buffer[12..18].to_vec()));
    // The first question floods: no switch knows its destination.
    assert!(heard.any(|kind| kind == [0x81, 0, 0, 100, 0x88, 0xb6]));
    assert_nothing_happened(&rig.finish_traffic());
}

/// Nobody is drilled who is not told to be.
fn on_request(topology: &mut Topology) {
    topology.drill.every_s = 0;
}

#[test]
fn a_standby_that_cannot_send_fails_its_drill_and_is_built_anew() {
    let _alone = alone();
    let mut rig = Rig::start_with(on_request);
    let spare = spare(&rig);
    let epoch = rig.system.failover().state(spare).1;
    rig.slot(spare).nic.poke(TCTL, tctl::PSP);
    let report = rig.system.operator().drill(Some(spare)).unwrap();
    assert_eq!(report.blame, Some(Blame::Spare), "{report:?}");
    let verdict = rig.wait_failover().record.verdict;
    assert!(matches!(verdict, Verdict::Drill(Blame::Spare)), "{verdict:?}");
    rig.wait_whole();
    assert!(rig.system.failover().state(spare).1 > epoch);
    let report = rig.system.operator().drill(Some(spare)).unwrap();
    assert!(report.passed(), "{report:?}");
    assert_nothing_happened(&rig.finish_traffic());
}

#[test]
fn a_standby_whose_driver_hangs_fails_its_drill() {
    let _alone = alone();
    let mut rig = Rig::start_with(on_request);
    let spare = spare(&rig);
    let life = rig.system.failover().life(spare).unwrap();
    let held = life.hold();
    let report = rig.system.operator().drill(Some(spare)).unwrap();
    assert_eq!((report.blame, report.evidence.ended), (Some(Blame::Spare), false));
    drop((held, life));
    rig.wait_failover();
    rig.wait_whole();
    assert_nothing_happened(&rig.finish_traffic());
}

#[test]
fn nobody_is_drilled_who_serves_or_has_no_link() {
    let _alone = alone();
    let mut rig = Rig::start_with(on_request);
    let (active, spare) = (rig.active(), spare(&rig));
    let drill = |id| rig.system.operator().drill(Some(id)).unwrap_err();
    assert!(matches!(drill(active), DrillError::NoStandby));
    rig.set_link(spare, false);
    rig.wait("the link to go", |rig| !rig.slot(spare).nic.link_up());
    assert!(matches!(drill(spare), DrillError::LinkDown));
    assert_nothing_happened(&rig.finish_traffic());
}

#[test]
fn a_crash_during_a_drill_takes_over_at_once() {
    const CRASHES: u32 = 5;
    let _alone = alone();
    let rig = Rig::start_with(on_request);
    let mut switches = Vec::new();
    for n in 0..CRASHES {
        let spare = spare(&rig);
        // The spare waits in a drill whose answer never comes and that is never ended.
        let life = rig.system.failover().life(spare).unwrap();
        let control = rig.slot(spare).control();
        let question = layout::TX_BUFFERS as u16 - 2;
        control.probe_iova.store(DomainSlot::tx_iova(question), Ordering::Relaxed);
        control.drill.store(1_000 + n, Ordering::Release);
        life.set_role(Role::Drill);
        rig.run_for(Duration::from_millis(3));
        assert_ne!(rig.slot(spare).status().drill.load(Ordering::Relaxed), 1_000 + n);
        rig.crash_active();
        let report = rig.wait_failover();
        assert_eq!(report.record.to, Some(spare));
        let switch_ns = report.first_sent_ns.unwrap() - report.record.verdict_ns;
        switches.push(Duration::from_nanos(switch_ns));
        rig.wait_whole();
        rig.run_for(A_WHILE);
    }
    switches.sort_unstable();
    let median = switches[switches.len() / 2];
    assert!(median <= AT_ONCE * emulation::slowness(), "first frame after verdict: {switches:?}");
    rig.assert_service_whole();
}

#[test]
fn crashes_among_drills_are_failovers() {
    let _alone = alone();
    let drill = |failover: &Failover| failover.drill(None).is_ok_and(|report| report.passed());
    let crash = |rig: &Rig, _| rig.crash_active();
    let answer = |verdict: &Verdict| matches!(verdict, Verdict::Crash(_));
    assert_crashes_among(drill, 8, Duration::from_micros(150), crash, answer);
}

#[test]
fn a_good_image_is_taken_into_use_without_a_lost_datagram() {
    let _alone = alone();
    let mut rig = Rig::start();
    let (active, spare) = (rig.active(), spare(&rig));
    let report = rig.system.operator().upgrade(guest_images::SPARE_DOMAIN, PROBATION).unwrap();
    assert_eq!((report.served, report.serves), (active, spare));
    assert_eq!(rig.active(), spare);
    let [one, other] = rig.system.images();
    assert!(Arc::ptr_eq(&one, &other), "both are the new one");
    for slot in rig.system.slots() {
        let life = rig.system.failover().life(slot.id).unwrap();
        assert!(Arc::ptr_eq(&life.image_handle(), &one));
    }
    rig.wait_whole();
    assert_no_failover(&rig);
    assert_nothing_happened(&rig.finish_traffic());
}

/// Checks that the trusted images are those from before, and that all domains run them.
fn assert_rolled_back(rig: &Rig, before: &[Arc<Image>; 2]) {
    rig.wait_whole();
    let now = rig.system.images();
    assert!(now.iter().zip(before).all(|(now, before)| Arc::ptr_eq(now, before)));
    for slot in rig.system.slots() {
        let image = rig.system.failover().life(slot.id).unwrap().image_handle();
        assert!(before.iter().any(|before| Arc::ptr_eq(&image, before)), "{}", slot.name);
    }
}

#[test]
fn an_image_of_another_version_or_of_nothing_changes_nothing() {
    let _alone = alone();
    let mut rig = Rig::start();
    let before = rig.system.images();
    let epochs = [0, 1].map(|n| rig.system.failover().state(DomainId(n)).1);
    let upgrade = |image: &[u8]| rig.system.operator().upgrade(image, PROBATION).unwrap_err();
    assert!(matches!(upgrade(b"no image"), UpgradeError::Image(_)));
    let mut other = guest_images::SPARE_DOMAIN.to_vec();
    let note = other.windows(4).position(|bytes| bytes == b"WSPR").unwrap();
    other[note + 4] ^= 0x40;
    let error = upgrade(&other);
    assert!(matches!(error, UpgradeError::Unfit(_)), "{error}");
    let error = upgrade(guest_images::APP_GUEST);
    assert!(matches!(error, UpgradeError::Unfit(_)), "{error}");
    assert_rolled_back(&rig, &before);
    assert_eq!(epochs, [0, 1].map(|n| rig.system.failover().state(DomainId(n)).1));
    assert_nothing_happened(&rig.finish_traffic());
}

/// Returns an image whose function of this name faults.
fn image_that_faults_in(symbol: &str) -> Vec<u8> {
    let mut bytes = guest_images::SPARE_DOMAIN.to_vec();
    let image = Image::parse(&bytes).unwrap();
    let address = image.symbol(symbol).unwrap().address;
    let within = |s: &&microvm::kvm::Segment| (s.address..s.address + s.len).contains(&address);
    let segment = image.segments().iter().find(within).unwrap();
    let offset = (address - segment.address) as usize;
    let code = &segment.data[offset..offset + 32];
    let at = bytes.windows(32).position(|bytes| bytes == code).unwrap();
    bytes[at..at + 2].copy_from_slice(&[0x0f, 0x0b]);
    bytes
}

/// Tries to upgrade to a bad image; returns the step at which the upgrade failed.
fn roll_back(rig: &Rig, image: &[u8]) -> UpgradeStep {
    let before = rig.system.images();
    let error = rig.system.operator().upgrade(image, PROBATION).unwrap_err();
    assert_rolled_back(rig, &before);
    match error {
        UpgradeError::RolledBack { step, .. } => step,
        error => panic!("{error}"),
    }
}

#[test]
fn an_image_that_does_not_start_is_rolled_back() {
    let _alone = alone();
    let mut rig = Rig::start();
    let active = rig.active();
    assert_eq!(roll_back(&rig, &image_that_faults_in("domain_main")), UpgradeStep::Attach);
    assert_eq!(rig.active(), active);
    assert_nothing_happened(&rig.finish_traffic());
}

#[test]
fn an_image_that_crashes_in_the_loop_is_rolled_back_and_the_service_never_stops() {
    let _alone = alone();
    let mut rig = Rig::start();
    let active = rig.active();
    assert_eq!(roll_back(&rig, &image_that_faults_in("domain_loop_turn")), UpgradeStep::Switch);
    assert_eq!(rig.active(), active, "the new driver never had the ring");
    assert_nothing_happened(&rig.finish_traffic());
}

#[test]
fn an_image_that_crashes_on_its_first_frame_costs_one_failover() {
    let _alone = alone();
    let mut rig = Rig::start();
    let (active, spare) = (rig.active(), spare(&rig));
    let step = roll_back(&rig, &image_that_faults_in("domain_tx_path"));
    assert!(matches!(step, UpgradeStep::Switch | UpgradeStep::Probation), "{step:?}");
    assert_eq!(rig.active(), active);
    rig.run_for(A_WHILE);
    let failovers = rig.system.events().try_iter().filter_map(|event| match event {
        Event::Failover(report) => Some(report.record.from),
        _ => None,
    });
    assert_eq!(failovers.collect::<Vec<_>>(), [spare], "the new driver's, and no other");
    let ledger = rig.finish_traffic();
    assert_eq!(ledger.total_corrupted(), 0);
    let lost = ledger.total_sent() - ledger.total_echoed();
    assert!(lost < 20, "{lost} datagrams: more than a failover costs");
}

#[test]
fn two_operations_at_a_time_are_one_too_many() {
    let _alone = alone();
    let rig = Rig::start();
    let operator = rig.system.operator();
    let second = Duration::from_secs(2);
    std::thread::scope(|scope| {
        let upgrade = scope.spawn(|| operator.upgrade(guest_images::SPARE_DOMAIN, second));
        rig.wait("the upgrade's switch", |rig| {
            rig.system.events().try_iter().any(|event| matches!(event, Event::Switched(_)))
        });
        let error = rig.system.failover().switch_to(None).unwrap_err();
        assert!(matches!(error, SwitchError::Busy), "{error}");
        upgrade.join().unwrap().unwrap();
    });
}

//! A system whose NICs refuse to do what a rebuild needs.

mod stubborn_nic;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use vmm_sys_util::eventfd::EventFd;

use self::stubborn_nic::StubbornNic;
use super::*;
use crate::topology::{Limits, Topology};
use microvm::domain::{DomainId, Fault};
use nic::emulated::EmulatedNic;
use nic::wire::{EthernetSwitch, Port};
use nic::{BarAccess, DmaArea, Nic, NicError, registers as reg};
use platform::budget::{BUILD_ATTEMPTS, REBUILD_YIELD};

const A: DomainId = DomainId(0);
const B: DomainId = DomainId(1);
/// Failures that lead to a quarantine.
const FAILURES: u32 = 6;
/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(20);

struct Stage {
    system: System,
    nics: [Arc<StubbornNic>; 2],
    ports: [Arc<Port>; 2],
    folder: PathBuf,
}

impl Stage {
    /// Two domains, one serving and one standing by.
    fn new() -> Self {
        let stage = Self::on(false, |_| {});
        stage.wait("redundancy", |stage| stage.system.failover().is_redundant());
        stage
    }

    /// Two domains on NICs that look like hardware or not, with their ports as `prepare` leaves
    /// them. They come up after this has returned.
    fn on(hardware: bool, prepare: impl FnOnce(&[Arc<Port>; 2])) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("warmspare-stage-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let mut topology = Topology::demo(&folder.join("app.sock"));
        let failures = FAILURES;
        topology.limits =
            Limits { failures, quarantine_s: 1, quarantine_max_s: 1, ..topology.limits };
        let lan = EthernetSwitch::new();
        let mac = topology.apps[0].mac.0;
        let names = ["nic-a", "nic-b"];
        let ports = names.map(|name| lan.attach(name).unwrap());
        prepare(&ports);
        let nics = [0, 1].map(|n: usize| {
            let nic = EmulatedNic::new(names[n], mac, ports[n].clone()).unwrap();
            Arc::new(StubbornNic {
                nic,
                restless: false.into(),
                refused: 0.into(),
                mended_by_reset: false.into(),
                resets: 0.into(),
                stampless: hardware.into(),
                mute: false.into(),
                asked: 0.into(),
                ends: Mutex::default(),
                quieted: Mutex::default(),
            })
        });
        let on = nics.iter().map(|nic| nic.clone() as Arc<dyn Nic>).collect();
        let system = System::start_on(&topology, on).unwrap();
        Self { system, nics, ports, folder }
    }

    fn wait(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(Instant::now() < end, "waited in vain for {what}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn wait_event<T>(&self, mut pick: impl FnMut(Event) -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let event = self.system.events().recv_timeout(left).expect("an event");
            if let Some(picked) = pick(event) {
                return picked;
            }
        }
    }

    /// Ends a domain's life as its vCPU thread would.
    fn fail(&self, id: DomainId) {
        self.condemn(id, Verdict::Crash(Fault::Shutdown));
    }

    fn condemn(&self, id: DomainId, verdict: Verdict) {
        let failover = self.system.failover();
        let life = failover.life(id).unwrap();
        life.force_out();
        assert!(life.wait_until_out(Instant::now() + PATIENCE));
        failover.verdict(id, life.epoch(), verdict, 0);
    }

    /// Has a domain fail, and waits until it stands by again.
    fn fail_and_recover(&self, id: DomainId, verdict: Verdict) {
        let (_, before) = self.system.failover().state(id);
        self.condemn(id, verdict);
        self.wait("a new life", |stage| {
            let (role, epoch) = stage.system.failover().state(id);
            role == RoleState::Standby && epoch > before
        });
    }

    fn resets(&self, id: DomainId) -> u32 {
        self.nics[id.index()].resets.load(Ordering::SeqCst)
    }

    fn state(&self, id: DomainId) -> RoleState {
        self.system.failover().state(id).0
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn a_domain_whose_nic_does_not_fall_silent_is_not_built_on_its_memory() {
    let stage = Stage::new();
    stage.nics[0].restless.store(true, Ordering::SeqCst);
    let ram = &stage.system.slots()[0].ram;
    stage.fail(A);
    assert_eq!(stage.state(B), RoleState::Active, "the service does not wait for it");
    let mut before = vec![0; 4096];
    ram.read(shared_ring::layout::CONTROL_BASE, &mut before).unwrap();

    let (domain, _) = stage.wait_event(|event| match event {
        Event::Quarantined { domain, pause } => Some((domain, pause)),
        _ => None,
    });

    assert_eq!(domain, A);
    // Once in the first attempt; before and after a reset in each of the others.
    assert_eq!(stage.nics[0].refused.load(Ordering::SeqCst), 2 * BUILD_ATTEMPTS - 1);
    assert_eq!(stage.state(A), RoleState::Quarantined);
    let mut after = vec![0; 4096];
    ram.read(shared_ring::layout::CONTROL_BASE, &mut after).unwrap();
    assert_eq!(before[..12], after[..12], "magic, version and epoch of the old life");

    stage.nics[0].restless.store(false, Ordering::SeqCst);
    stage.wait("the end of the quarantine", |stage| stage.state(A) == RoleState::Standby);
}

#[test]
fn a_rebuild_that_fails_does_not_hold_up_another() {
    let stage = Stage::new();
    stage.nics[0].restless.store(true, Ordering::SeqCst);
    stage.fail(A);
    stage.wait("a second attempt", |stage| stage.nics[0].refused.load(Ordering::SeqCst) > 1);

    stage.fail(B);

    stage.wait("B to serve again", |stage| stage.state(B) == RoleState::Active);
    assert_ne!(stage.state(A), RoleState::Standby);
    assert_eq!(stage.system.failover().system_state(), SystemState::Normal);
    stage.nics[0].restless.store(false, Ordering::SeqCst);
    stage.wait("redundancy", |stage| stage.system.failover().is_redundant());
}

#[test]
fn a_verdict_on_an_earlier_life_changes_nothing() {
    let stage = Stage::new();
    let failover = stage.system.failover();
    let old = failover.life(B).unwrap().epoch();
    stage.fail(B);
    stage.wait("redundancy", |stage| stage.system.failover().is_redundant());

    failover.verdict(B, old, Verdict::Crash(Fault::Shutdown), 0);
    failover.verdict(A, 99, Verdict::Link, 0);

    assert_eq!((stage.state(A), stage.state(B)), (RoleState::Active, RoleState::Standby));
}

#[test]
fn with_nobody_to_serve_the_service_is_in_error_until_one_is_built() {
    let stage = Stage::new();
    for nic in &stage.nics {
        nic.restless.store(true, Ordering::SeqCst);
    }
    stage.fail(B);
    stage.fail(A);
    stage.wait_event(|event| match event {
        Event::State { to: SystemState::Error, .. } => Some(()),
        _ => None,
    });
    assert_eq!(stage.system.failover().active(), None);
    stage.nics[1].restless.store(false, Ordering::SeqCst);
    stage.wait("B to serve", |stage| stage.state(B) == RoleState::Active);
    assert_eq!(stage.system.failover().system_state(), SystemState::Normal);
}

#[test]
fn on_hardware_a_rebuild_lets_the_service_come_back_first() {
    let stage = Stage::new();
    stage.nics[1].stampless.store(true, Ordering::SeqCst);
    let failed = Instant::now();
    stage.fail(A);
    stage.wait("redundancy", |stage| stage.system.failover().is_redundant());
    let quieted = stage.nics[0].quieted.lock().unwrap().unwrap();
    let left_alone = quieted - failed;
    assert!(left_alone >= REBUILD_YIELD, "nothing came in, so it waits as long: {left_alone:?}");
}

#[test]
fn a_rebuild_does_not_wait_for_the_first_frame_of_a_spare_that_has_failed_in_turn() {
    let stage = Stage::new();
    stage.nics[1].mute.store(true, Ordering::SeqCst);
    let asked = |stage: &Stage| stage.nics[1].asked.load(Ordering::SeqCst);
    stage.fail(A);
    stage.wait("a first look", |stage| asked(stage) > 0);
    stage.fail(B);
    let before = asked(&stage);
    // Which of the two serves then is not the point.
    let built = |state| matches!(state, RoleState::Active | RoleState::Standby);
    stage.wait("A to be built", |stage| built(stage.state(A)));
    assert!(asked(&stage) - before <= 1, "it went on asking");
}

#[test]
fn a_domain_whose_failure_nobody_heard_of_is_rebuilt_all_the_same() {
    let stage = Stage::new();
    let failover = stage.system.failover();
    let life = failover.life(B).unwrap();
    life.force_out();
    assert!(life.wait_until_out(Instant::now() + PATIENCE));
    drop(life);
    let (_, epoch) = failover.state(B);

    failover.lock_table().step(B.index(), RoleEvent::Fault).unwrap();

    stage.wait("B to stand by", |stage| stage.state(B) == RoleState::Standby);
    assert!(failover.state(B).1 > epoch, "in a new life");
}

#[test]
fn a_standby_whose_nic_was_reset_behind_our_back_is_built_anew() {
    let stage = Stage::new();
    let epochs = |stage: &Stage| [A, B].map(|id| stage.system.failover().state(id).1);
    let before = epochs(&stage);
    stage.nics[1].poke(reg::CTRL, reg::ctrl::RST);
    stage.wait("another life", |stage| epochs(stage)[1] > before[1]);
    stage.wait("redundancy", |stage| stage.system.failover().is_redundant());
    assert_eq!(stage.state(A), RoleState::Active);
    assert_eq!(epochs(&stage)[0], before[0], "the service did not notice");
}

#[test]
fn a_masked_vector_does_not_hide_a_lost_link() {
    let stage = Stage::new();
    let set_link = |id: DomainId, up: bool| {
        let nic = &stage.nics[id.index()];
        nic.poke(reg::IMC, reg::icr::LSC);
        nic.poke(reg::PHPM, if up { 0 } else { reg::phpm::GO_LINK_DISCONNECT });
        stage.wait_event(|event| match event {
            Event::Link { nic: of, up: now } if of == nic.name() && now == up => Some(()),
            _ => None,
        });
    };
    set_link(B, false);
    assert_eq!(stage.state(A), RoleState::Active, "of the standby it is told");
    set_link(B, true);
    set_link(A, false);
    stage.wait("B to serve", |stage| stage.state(B) == RoleState::Active);
    stage.wait("A to be built anew", |stage| stage.state(A) == RoleState::Standby);
    stage.wait("its link", |stage| stage.nics[A.index()].link_up());
}

#[test]
fn a_switchboard_that_panics_is_told_as_the_end_of_the_system() {
    let stage = Stage::new();
    assert_eq!(stage.system.broken(), None);
    *stage.nics[0].ends.lock().unwrap() = Some("switchboard");
    stage.fail(A);
    stage.wait("the end", |stage| stage.system.broken() == Some("switchboard"));
    let turns = stage.system.pulse().turns;
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(stage.system.pulse().turns, turns, "it answers nothing more");
}

#[test]
fn a_supervisor_that_panics_is_told_as_the_end_of_the_system() {
    let stage = Stage::new();
    let before = stage.system.pulse();
    stage.wait("a pulse", |stage| stage.system.pulse().beats_since(&before));
    *stage.nics[0].ends.lock().unwrap() = Some("supervisor");
    stage.wait("the end", |stage| stage.system.broken() == Some("supervisor"));
}

#[test]
fn a_rebuild_that_panics_is_a_failed_attempt_and_another_follows() {
    let stage = Stage::new();
    *stage.nics[0].ends.lock().unwrap() = Some("build-");
    stage.fail(A);
    let reason = stage.wait_event(|event| match event {
        Event::BuildFailed { reason, .. } => Some(reason),
        _ => None,
    });
    assert!(reason.contains("panicked"), "{reason}");
    stage.wait("redundancy", |stage| stage.system.failover().is_redundant());
    assert_eq!((stage.state(A), stage.system.broken()), (RoleState::Standby, None));
}

#[test]
fn a_nic_that_only_a_reset_makes_fall_silent_is_reset() {
    let stage = Stage::new();
    stage.nics[0].mended_by_reset.store(true, Ordering::SeqCst);
    stage.nics[0].restless.store(true, Ordering::SeqCst);
    stage.fail(A);
    stage.wait("redundancy", |stage| stage.system.failover().is_redundant());
    assert_eq!(stage.nics[0].refused.load(Ordering::SeqCst), 2, "once in each of two attempts");
}

#[test]
fn a_nic_is_reset_after_the_second_verdict_that_blames_it_and_not_before() {
    let stage = Stage::new();
    let blamed = Verdict::Drill(Blame::Wire);
    stage.fail_and_recover(B, blamed);
    stage.fail_and_recover(B, Verdict::Crash(Fault::Shutdown));
    assert_eq!(stage.resets(B), 0);
    stage.fail_and_recover(B, blamed);
    assert_eq!(stage.resets(B), 1);
    stage.fail_and_recover(B, blamed);
    assert_eq!(stage.resets(B), 1, "it was as new");
}

#[test]
fn a_nic_is_reset_after_the_quarantine_of_its_domain() {
    let stage = Stage::new();
    for _ in 0..FAILURES - 1 {
        stage.fail_and_recover(B, Verdict::Unready);
    }
    assert_eq!(stage.resets(B), 0);
    stage.fail_and_recover(B, Verdict::Unready);
    assert_eq!(stage.resets(B), 1);
}

/// A system on hardware whose standby is attached, and whose switch port forwards nothing.
fn blocked_standby() -> Stage {
    let stage = Stage::on(true, |ports| ports[1].set_dead(true));
    stage.wait("B to stand by", |stage| stage.state(B) == RoleState::Standby);
    stage
}

#[test]
fn hardware_behind_a_port_that_forwards_nothing_is_no_redundancy() {
    let stage = blocked_standby();
    let blame = stage.wait_event(|event| match event {
        Event::Drilled(report) => Some(report.blame),
        _ => None,
    });
    assert!(blame.is_some());
    let failover = stage.system.failover();
    assert!(failover.views()[1].link == Link::Up && !failover.is_redundant());

    stage.ports[1].set_dead(false);

    stage.wait("redundancy", |stage| stage.system.failover().is_redundant());
    assert_eq!(stage.system.broken(), None);
}

#[test]
fn a_takeover_does_not_wait_for_proof() {
    let stage = blocked_standby();
    stage.wait("A to serve", |stage| stage.state(A) == RoleState::Active);
    stage.fail(A);
    assert_eq!(stage.state(B), RoleState::Active);
}

//! The switchboard's thread, with a domain played by the test.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use microvm::domain::{DomainId, DomainSlot};
use nic::NullNic;
use shared_ring::frame::DEFAULT_MTU;

use super::*;
use crate::command::RingChange;
use crate::fakes::{FakeDomain, FakeGuest, MAC, Violations, frame, prepare, slots};

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let since = Instant::now();
    while !done() {
        assert!(since.elapsed() < Duration::from_secs(5), "{what} did not come");
        std::thread::sleep(Duration::from_micros(100));
    }
}

struct Running {
    switchboard: Switchboard,
    slots: Vec<Arc<DomainSlot>>,
    nics: [Arc<NullNic>; 2],
    guest: FakeGuest,
    violations: Arc<Violations>,
}

fn running() -> Running {
    let (slots, nics) = slots();
    let violations = Arc::new(Violations::default());
    let switchboard = Switchboard::spawn(SwitchboardConfig {
        slots: slots.clone(),
        tx_pool: slots[0].tx_pool.clone(),
        macs: vec![MAC],
        mtu: DEFAULT_MTU,
        rules: Vec::new(),
        announce: AnnounceConfig::default(),
        violations: violations.clone(),
    })
    .unwrap();
    let guest = FakeGuest::new();
    let [rx, tx] = guest.vrings();
    let changes = [RingChange::Start(rx), RingChange::Start(tx)];
    switchboard.port(0).unwrap().set_rings(changes).unwrap();
    Running { switchboard, slots, nics, guest, violations }
}

impl Running {
    fn install(&self, domain: u8, epoch: u32) -> FakeDomain {
        self.switchboard.detach(DomainId(domain)).unwrap();
        prepare(&self.slots[usize::from(domain)]);
        self.switchboard.install(DomainId(domain), epoch).unwrap();
        FakeDomain::new(&self.slots[usize::from(domain)], epoch)
    }

    fn take_over(&self, to: u8, epoch: u32) -> TakeOverReport {
        let sequence = self.switchboard.report().sequence;
        let order = TakeOver { to: DomainId(to), epoch, verdict_ns: 1, nic_suspected: false };
        self.switchboard.take_over(order);
        wait_for("the takeover", || self.switchboard.report().sequence > sequence);
        self.switchboard.report()
    }
}

#[test]
fn it_sleeps_while_there_is_nothing_to_do() {
    let running = running();
    let _domain = running.install(0, 1);
    running.switchboard.activate(DomainId(0), 1).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    let turns = running.switchboard.counters().turns.get();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(running.switchboard.counters().turns.get(), turns);
}

#[test]
fn takeovers_back_and_forth_lose_and_reorder_nothing() {
    let mut running = running();
    let mut domain = running.install(0, 1);
    running.switchboard.activate(DomainId(0), 1).unwrap();
    let mut got = std::collections::BTreeSet::new();
    for round in 0..200u32 {
        for n in 0..4 {
            running.guest.tx.send(&frame(true, round * 4 + n, 100));
        }
        running.guest.tx.kick();
        // The domain dies before it has taken anything, so nothing becomes poison.
        let (to, epoch) = ((round as u8 + 1) % 2, round + 2);
        let mut next = running.install(to, epoch);
        let report = running.take_over(to, epoch);
        assert_eq!((report.refused, report.poisoned), (0, 0));
        assert!(report.published_ns <= report.done_ns);
        let last = round * 4 + 3;
        wait_for("the frames", || {
            let frames = next.take_posted(1024);
            running.nics[usize::from(to)].send(frames.len() as u32);
            next.claim(frames.len());
            next.notify();
            got.extend(frames.iter().filter(|f| f[12] == 0x88).map(|f| f[14..18].to_vec()));
            got.contains(&last.to_le_bytes()[..])
        });
        running.guest.tx.drain_used();
        domain = next;
    }
    assert_eq!(got.len(), 800);
    assert_eq!(running.switchboard.counters().takeovers.get(), 200);
    assert_eq!(running.violations.0.lock().unwrap()[..], []);
    drop(domain);
}

#[test]
fn what_cannot_be_is_refused() {
    let running = running();
    let switchboard = &running.switchboard;
    let (a, b) = (DomainId(0), DomainId(1));
    assert!(matches!(switchboard.detach(DomainId(9)), Err(SwitchboardError::NotInstalled { .. })));
    assert!(matches!(switchboard.activate(a, 1), Err(SwitchboardError::NotInstalled { .. })));
    running.install(0, 1);
    assert!(matches!(switchboard.activate(a, 2), Err(SwitchboardError::NotInstalled { .. })));
    switchboard.activate(a, 1).unwrap();
    running.install(1, 2);
    assert!(matches!(switchboard.activate(b, 2), Err(SwitchboardError::Busy)));
    assert_eq!(running.take_over(1, 3).refused, 1);
    // Never zeroed after a life.
    running.slots[0].status().rx_provide_consumed.0.store(99, Ordering::SeqCst);
    let refused = switchboard.install(a, 4);
    assert!(matches!(refused, Err(SwitchboardError::NotPrepared { .. })));
}

#[test]
fn slots_must_be_in_their_places() {
    let (mut slots, _) = slots();
    slots.swap(0, 1);
    let tx_pool = slots[0].tx_pool.clone();
    let violations = Arc::new(Violations::default());
    let refused = Switchboard::spawn(SwitchboardConfig {
        slots,
        tx_pool,
        macs: vec![MAC],
        mtu: DEFAULT_MTU,
        rules: Vec::new(),
        announce: AnnounceConfig::default(),
        violations,
    });
    assert!(matches!(refused, Err(SwitchboardError::Place(DomainId(1)))));
}

#[test]
fn a_port_outlives_the_switchboard_without_harm() {
    let port = running().switchboard.port(0).unwrap();
    let changes = [RingChange::Stop, RingChange::Stop];
    assert!(matches!(port.set_rings(changes), Err(SwitchboardError::Ended)));
}

/// A sink that panics: the thread ends, callers hear of it, and none of them hangs.
#[test]
fn a_panic_ends_the_thread_and_is_told() {
    struct Panics;
    impl ViolationSink for Panics {
        fn violation(&self, _: DomainId, _: u32, _: Violation) {
            panic!("as the test wants");
        }
    }
    let (slots, _) = slots();
    let switchboard = Switchboard::spawn(SwitchboardConfig {
        slots: slots.clone(),
        tx_pool: slots[0].tx_pool.clone(),
        macs: vec![MAC],
        mtu: DEFAULT_MTU,
        rules: Vec::new(),
        announce: AnnounceConfig::default(),
        violations: Arc::new(Panics),
    })
    .unwrap();
    switchboard.install(DomainId(0), 1).unwrap();
    slots[0].status().rx_done_published.0.store(3, Ordering::SeqCst);
    slots[0].notify.write(1).unwrap();
    wait_for("the end", || !switchboard.is_running());
    assert!(matches!(switchboard.detach(DomainId(0)), Err(SwitchboardError::Ended)));
}

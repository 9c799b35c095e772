//! Both domains share one NIC: only the serving domain drives it, and the spare attaches its own
//! rings when it takes over.

use std::sync::atomic::Ordering;
use std::time::Duration;

use lab::fault::{self, Site};
use microvm::domain::DomainId;
use shared_ring::status::attach;
use supervisor::topology::{Policy, Topology};
use warmspare_tests::rig::Rig;

const A: DomainId = DomainId(0);
const B: DomainId = DomainId(1);
const FAILOVERS: usize = 20;
/// Number of failovers that may take a reset. A NIC whose engine does not get a processor for ten
/// milliseconds is reset, which is correct but must not be frequent.
const RESETS: usize = 2;

fn share(topology: &mut Topology) {
    topology.policy = Policy::Spare;
    topology.domains[1].nic = topology.domains[0].nic.clone();
}

fn crash(rig: &Rig, id: DomainId, site: Site) {
    let life = rig.system.failover().life(id).expect("a life");
    fault::corrupt_code(rig.slot(id), life.image(), site).expect("a fault");
}

#[test]
fn crashes_to_and_fro_on_one_nic_lose_no_accepted_frame() {
    let mut rig = Rig::start_with_guest_inside_and(share);
    let mut resets = 0;
    for n in 0..FAILOVERS {
        let active = rig.active();
        crash(&rig, active, Site::ALL[n % 3]);
        let report = rig.wait_failover();
        assert_eq!((report.record.from, report.record.to.is_some()), (active, true), "{report:?}");
        rig.wait_whole();
        let successor = rig.slot(rig.active());
        let path = successor.status().attach_path.load(Ordering::Relaxed);
        resets += usize::from(path != attach::REATTACH);
        rig.run_for(Duration::from_millis(20));
    }
    assert!(resets <= RESETS, "{resets} of {FAILOVERS} took a reset, which loses the link");
    let ledger = rig.finish_traffic();
    let report = rig.guest_report();
    assert_eq!(rig.system.switchboard().counters().tx_poisoned.get(), 0);
    assert_eq!(ledger.total_corrupted(), 0);
    assert!(report.datagrams_echoed > 200, "{report:?}");
    assert_eq!(ledger.total_echoed(), report.datagrams_echoed, "accepted frames are lost");
}

#[test]
fn a_standby_that_fails_leaves_the_nic_to_the_domain_that_serves() {
    let rig = Rig::start_with(share);
    assert_eq!(rig.active(), A);
    for _ in 0..3 {
        let echoed = rig.system.switchboard().counters().tx_frames.get();
        // A paused domain runs no corrupted code, so the test expels it, as a detector would.
        rig.system.failover().life(B).expect("a life").force_out();
        let epoch = rig.system.failover().state(B).1;
        rig.system.failover().verdict(B, epoch, supervisor::Verdict::Unready, 0);
        rig.wait("the standby's next life", |rig| rig.system.failover().state(B).1 > epoch);
        rig.wait_whole();
        assert_eq!(rig.active(), A);
        rig.wait("traffic", |rig| {
            rig.system.switchboard().counters().tx_frames.get() > echoed + 20
        });
    }
    assert_eq!(rig.system.switchboard().counters().takeovers.get(), 1, "the first domain's own");
}

#[test]
fn both_failing_at_once_leave_a_service_all_the_same() {
    let rig = Rig::start_with(share);
    for n in 0..4 {
        let (active, standby) = if rig.active() == A { (A, B) } else { (B, A) };
        // The spare crashes in the first turn of its loop, after it has attached.
        crash(&rig, standby, Site::Loop);
        crash(&rig, active, Site::ALL[n % 3]);
        // Each thread reports its own domain; the order is not fixed.
        let mut failed =
            [rig.wait_failover(), rig.wait_failover()].map(|report| report.record.from);
        failed.sort();
        assert_eq!(failed, [A, B]);
        rig.wait_whole();
        let sent = rig.system.switchboard().counters().tx_frames.get();
        rig.wait("traffic", |rig| rig.system.switchboard().counters().tx_frames.get() > sent + 20);
    }
}

#[test]
fn a_pulled_cable_ends_no_life_and_the_link_brings_the_service_back() {
    let rig = Rig::start_with(share);
    let failovers = rig.system.switchboard().counters().takeovers.get();
    rig.set_link(A, false);
    rig.wait("the link to be gone", |rig| !rig.system.failover().has_spare());
    rig.run_for(Duration::from_millis(50));
    rig.set_link(A, true);
    let sent = rig.system.switchboard().counters().tx_frames.get();
    rig.wait("traffic", |rig| rig.system.switchboard().counters().tx_frames.get() > sent + 20);
    rig.wait_whole();
    assert_eq!(rig.system.switchboard().counters().takeovers.get(), failovers);
}

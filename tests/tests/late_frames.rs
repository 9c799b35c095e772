//! What the failed NIC still does after a takeover cannot hurt: its late frames do not keep the
//! guest's address on the wrong port of a learning switch.

use std::time::Duration;

use microvm::domain::DomainId;
use nic::wire::Wire;
use supervisor::RoleState;
use supervisor::topology::Limits;
use warmspare_tests::rig::Rig;

const FAILOVERS: usize = 6;
/// Ethertype for local experiments (IEEE 802).
const ETHERTYPE: [u8; 2] = [0x88, 0xb5];

/// A frame of the guest's to everybody, as the failed NIC may have had in its FIFO.
fn late_frame(mac: [u8; 6]) -> Vec<u8> {
    let mut frame = [&[0xff; 6][..], &mac, &ETHERTYPE].concat();
    frame.resize(60, 0);
    frame
}

/// Crashes the domain that serves and waits until the other one has its ring. Which it was.
fn crash(rig: &Rig) -> DomainId {
    let failed = rig.crash_active();
    assert_eq!(rig.wait_failover().record.from, failed);
    failed
}

/// Sends a frame of the guest's from the port of a domain's NIC.
fn stray(rig: &Rig, id: DomainId) {
    let port = rig.wires.port_of(rig.slot(id).nic.name()).expect("a switch port");
    port.send(&late_frame(rig.topology.apps[0].mac.0));
}

/// What has come in for the guest.
fn served(rig: &Rig) -> u64 {
    rig.system.switchboard().counters().rx_frames.get()
}

/// Waits for traffic; the guest only answers, so what brings its address back is nothing but an
/// announcement.
fn wait_traffic(rig: &Rig) {
    let before = served(rig);
    rig.wait("traffic", |rig| served(rig) > before + 30);
}

#[test]
fn a_late_frame_of_the_failed_nic_does_not_keep_the_address_on_its_port() {
    let mut rig = Rig::start_with(|topology| {
        // The last ones are for a machine that stands still for seconds.
        topology.announce.again_ms = vec![1, 5, 20, 100, 500, 2_000, 8_000];
    });
    for _ in 0..FAILOVERS {
        let failed = crash(&rig);
        stray(&rig, failed);
        wait_traffic(&rig);
        rig.wait_whole();
    }
    let ledger = rig.finish_traffic();
    assert_eq!(ledger.total_corrupted(), 0);
    assert!(ledger.total_echoed() > 30 * FAILOVERS as u64, "{}", ledger.total_echoed());
}

/// The failed NIC's thread may have stood still for longer than announcements are repeated. Here the
/// failed domain is left alone for a while, and with it its NIC.
#[test]
fn nor_does_one_that_comes_after_the_last_announcement() {
    const LEFT_ALONE_S: u32 = 2;
    const STRAYS: usize = 200;
    // Well below the millisecond in which the next datagram comes.
    const STRAYS_APART: Duration = Duration::from_micros(100);
    let rig = Rig::start_with(|topology| {
        let (quarantine_s, quarantine_max_s) = (LEFT_ALONE_S, LEFT_ALONE_S);
        topology.limits = Limits { failures: 1, quarantine_s, quarantine_max_s, ..topology.limits };
    });
    let failed = crash(&rig);
    let announced = || rig.system.switchboard().counters().announced.get();
    let mut before = 0;
    while announced() > before {
        before = announced();
        std::thread::sleep(Duration::from_millis(100));
    }
    // Until the guest has nothing left to answer, which would draw its address back.
    let mut before = 0;
    while served(&rig) > before {
        before = served(&rig);
        for _ in 0..STRAYS {
            stray(&rig, failed);
            std::thread::sleep(STRAYS_APART);
        }
    }
    assert_eq!(rig.system.failover().state(failed).0, RoleState::Quarantined, "this was too slow");
    wait_traffic(&rig);
    rig.wait_whole();
    rig.assert_service_whole();
}

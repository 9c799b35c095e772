//! Late frames that the failed NIC still sends after a takeover do no harm: they do not keep the
//! guest's address on the wrong port of a learning switch.

use std::time::{Duration, Instant};

use microvm::domain::DomainId;
use nic::wire::Wire;
use supervisor::RoleState;
use supervisor::topology::Limits;
use warmspare_tests::emulation;
use warmspare_tests::frontend::{Connection, Station, TestGuest, number_of};
use warmspare_tests::rig::Rig;

const FAILOVERS: usize = 9;
/// How long after a takeover the failed NIC's late frame comes: each value is before one of the
/// repeated announcements.
const LATE_BY: [Duration; 3] = [Duration::ZERO, Duration::from_millis(2), Duration::from_millis(8)];
/// Limit on the median: twice the longest pause between two announcements of the default schedule
/// (1, 5 and 20 ms).
const LIMIT: Duration = Duration::from_millis(30);
/// First number of the exchange frames, beyond the numbers of the repeated ones.
const FIRST_EXCHANGE: u32 = 1_000_000;
/// Longer than a frame stays unconfirmed.
const CONFIRM: Duration = Duration::from_millis(10);
/// A guest that is out of reach for this long gets no further announcement.
const DEAF: Duration = Duration::from_secs(2);
/// Ethertype for local experiments (IEEE 802).
const ETHERTYPE: [u8; 2] = [0x88, 0xb5];

/// A broadcast frame from the guest's address, like one that the failed NIC may have had in its
/// FIFO.
fn late_frame(mac: [u8; 6]) -> Vec<u8> {
    let mut frame = [&[0xff; 6][..], &mac, &ETHERTYPE].concat();
    frame.resize(60, 0);
    frame
}

/// Sends a frame with the guest's address from the port of a domain's NIC.
fn stray(rig: &Rig, id: DomainId) {
    let port = rig.wires.port_of(rig.slot(id).nic.name()).expect("a switch port");
    port.send(&late_frame(rig.topology.apps[0].mac.0));
}

/// Number of frames that have been received for the guest.
fn served(rig: &Rig) -> u64 {
    rig.system.switchboard().counters().rx_frames.get()
}

/// Number of announcements so far.
fn announced(rig: &Rig) -> u64 {
    rig.system.switchboard().counters().announced.get()
}

/// Waits for traffic. The guest only answers, so only an announcement can bring its address back to
/// the right port.
fn wait_traffic(rig: &Rig) {
    let before = served(rig);
    rig.wait("traffic", |rig| served(rig) > before + 30);
}

/// Makes a takeover and then sends a late frame from the failed NIC. Returns for how long the
/// guest, which sends nothing itself, was out of reach after that; `None` if no announcement was
/// due any more, because this thread was delayed in sending the late frame until the failed NIC had
/// long been silent.
fn reach_after_late_frame(
    rig: &Rig,
    lan: &Station,
    guest: &mut TestGuest,
    late_by: Duration,
) -> Option<Duration> {
    let before = announced(rig);
    let failed = rig.crash_active();
    rig.wait("the announcement of a takeover", |rig| announced(rig) > before);
    std::thread::sleep(late_by);
    stray(rig, failed);
    let (strayed, before) = (Instant::now(), announced(rig));
    let mut number = 0;
    loop {
        guest.offer_buffers();
        number += 1;
        lan.send(number);
        std::thread::sleep(Duration::from_millis(1));
        if std::iter::from_fn(|| guest.receive()).any(|frame| number_of(&frame).is_some()) {
            return Some(strayed.elapsed());
        }
        if strayed.elapsed() > DEAF {
            assert_eq!(announced(rig), before, "announced, and out of reach all the same");
            return None;
        }
    }
}

#[test]
fn a_late_frame_of_the_failed_nic_does_not_keep_the_address_on_its_port() {
    let mut rig = Rig::start_without_app();
    let lan = Station::new(&mut rig);
    let mut guest = TestGuest::new();
    let _connection = Connection::start(rig.socket(), &guest);
    let mut reached = Vec::new();
    for n in 0..FAILOVERS {
        guest.exchange(&lan, FIRST_EXCHANGE + n as u32);
        // Waits until the guest's frame is confirmed: otherwise it would be sent again and bring
        // the address back.
        rig.run_for(CONFIRM);
        let late_by = LATE_BY[n % LATE_BY.len()];
        reached.extend(reach_after_late_frame(&rig, &lan, &mut guest, late_by));
        rig.wait_failover();
        rig.wait_whole();
    }
    reached.sort();
    eprintln!("out of reach for {reached:?}");
    assert!(
        reached.len() > FAILOVERS / 2,
        "too late in most of {FAILOVERS} failovers: {reached:?}"
    );
    let median = reached[reached.len() / 2];
    assert!(median <= LIMIT * emulation::slowness(), "out of reach for {reached:?}");
}

/// The failed NIC's thread may have stalled for longer than announcements are repeated. In this
/// test the failed domain stays in quarantine for a while, and its NIC with it.
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
    let failed = rig.fail_active();
    let mut before = 0;
    while announced(&rig) > before {
        before = announced(&rig);
        std::thread::sleep(Duration::from_millis(100));
    }
    // Repeats until the guest has nothing left to answer, because an answer would bring its address
    // back.
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

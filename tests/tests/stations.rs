//! A guest with several MAC addresses: the NICs receive for all of them, before and after each
//! failover, and the network learns where all of them are.

use std::time::{Duration, Instant};

use nic::registers::{RAH_AV, RAH0, RCTL, added_entries, rctl};
use supervisor::topology::{MacAddress, MacsMode, MacsSpec, Policy, Topology};
use warmspare_tests::frontend::{Connection, GUEST_MAC, Station, TestGuest, frame, number_of};
use warmspare_tests::rig::{Rig, alone};

/// What a takeover may take until frames to an address behind the guest come in again: three times the
/// promised 10 ms, since the machine is shared.
const REACHED: Duration = Duration::from_millis(30);
/// The same where the spare attaches its NIC first, which is not promised.
const REACHED_LATE: Duration = Duration::from_millis(300);
/// Longer than it takes the detectors to read every register of a NIC twice.
const DETECTORS: Duration = Duration::from_millis(1500);

/// A station behind the guest.
fn behind(n: u8) -> [u8; 6] {
    [0x02, 0x77, 0, 0, 1, n]
}

fn with_macs(macs: MacsSpec) -> impl FnOnce(&mut Topology) {
    move |topology| topology.apps[0].macs = macs
}

fn learning(topology: &mut Topology) {
    topology.apps[0].macs = MacsSpec::Mode(MacsMode::Learn);
}

/// Sends frames to an address until one has come to the guest. Returns how long that took.
fn reach(lan: &Station, guest: &mut TestGuest, to: [u8; 6], number: u32) -> Duration {
    let began = Instant::now();
    loop {
        guest.offer_buffers();
        lan.send_to(to, number);
        let until = Instant::now() + Duration::from_millis(1);
        while Instant::now() < until {
            if guest.receive().is_some_and(|frame| number_of(&frame) == Some(number)) {
                return began.elapsed();
            }
        }
        assert!(began.elapsed() < Duration::from_secs(5), "{to:02x?} is not reached");
    }
}

/// The guest sends a frame from each of these addresses, and they are waited for.
fn speak(rig: &Rig, guest: &mut TestGuest, count: u8) {
    for n in 0..count {
        guest.send(&frame([2, 0, 0, 0, 0, 99], behind(n), 7));
    }
    let macs = || rig.system.switchboard().figures()[0].macs().count();
    rig.wait("its addresses", |_| macs() == usize::from(count));
    while guest.tx.take_used().is_some() {}
}

/// Addresses beside the guest's own that the NIC of the domain receives for, and whether it receives
/// everything.
fn filters(rig: &Rig, id: microvm::domain::DomainId) -> (usize, bool) {
    let nic = &rig.slot(id).nic;
    let valid = |entry: &usize| nic.peek(RAH0 + 8 * *entry as u32) & RAH_AV != 0;
    (added_entries().filter(valid).count(), nic.peek(RCTL) & rctl::UPE != 0)
}

/// Through failovers, with so many addresses that the guest has, and filters that look like this where
/// a domain serves.
fn survives(change: impl FnOnce(&mut Topology), count: u8, expected: (usize, bool)) {
    let _alone = alone();
    let mut rig = Rig::start_without_app_with(change);
    let is_late = rig.topology.policy == Policy::Spare;
    let limit = if is_late { REACHED_LATE } else { REACHED };
    let lan = Station::new(&mut rig);
    let mut guest = TestGuest::with_mac(GUEST_MAC);
    let _connection = Connection::start(rig.socket(), &guest);
    speak(&rig, &mut guest, count);
    for n in 0..count {
        reach(&lan, &mut guest, behind(n), 100);
    }
    for round in 0..5 {
        rig.fail_active();
        for n in (0..count).rev() {
            let took = reach(&lan, &mut guest, behind(n), 200 + round);
            assert!(took < limit, "station {n} in round {round}: {took:?}");
        }
        rig.wait_whole();
        let idle = rig.system.slots().iter().map(|slot| slot.id).find(|id| *id != rig.active());
        assert_eq!(filters(&rig, rig.active()), expected);
        assert_eq!(filters(&rig, idle.unwrap()), (0, false), "a standby hears nothing");
    }
    if !is_late {
        rig.switch();
    }
    for n in 0..count {
        let took = reach(&lan, &mut guest, behind(n), 300);
        assert!(took < limit, "station {n} after a planned switch: {took:?}");
    }
    assert!(rig.failover_within(DETECTORS).is_none(), "the detectors agree with the filters");
}

#[test]
fn learned_addresses_are_reached_through_failovers() {
    survives(learning, 5, (5, false));
}

#[test]
fn a_spare_that_attaches_late_receives_for_them_too() {
    let late = |topology: &mut Topology| {
        learning(topology);
        topology.policy = Policy::Spare;
    };
    survives(late, 3, (3, false));
}

#[test]
fn more_addresses_than_the_nic_has_room_for_are_reached_too() {
    survives(learning, 20, (0, true));
}

#[test]
fn listed_addresses_are_reached_through_failovers() {
    let list = (0..3).map(|n| MacAddress(behind(n))).collect();
    survives(with_macs(MacsSpec::List(list)), 3, (3, false));
}

#[test]
fn a_promiscuous_guest_is_reached_at_any_address() {
    survives(with_macs(MacsSpec::Mode(MacsMode::Promiscuous)), 2, (0, true));
}

#[test]
fn a_listed_address_is_reached_before_the_guest_has_spoken() {
    let _alone = alone();
    let list = MacsSpec::List(vec![MacAddress(behind(1))]);
    let mut rig = Rig::start_without_app_with(with_macs(list));
    let lan = Station::new(&mut rig);
    let mut guest = TestGuest::with_mac(GUEST_MAC);
    let _connection = Connection::start(rig.socket(), &guest);
    reach(&lan, &mut guest, behind(1), 1);
}

#[test]
fn with_one_address_nothing_from_another_reaches_the_lan() {
    let _alone = alone();
    let mut rig = Rig::start_without_app();
    let lan = Station::new(&mut rig);
    let mut guest = TestGuest::with_mac(GUEST_MAC);
    let _connection = Connection::start(rig.socket(), &guest);
    guest.exchange(&lan, 1);
    guest.send(&frame(lan.mac, behind(1), 2));
    guest.exchange(&lan, 3);
    assert!(!lan.take_seen().contains(&2));
    assert_eq!(rig.system.switchboard().counters().tx_refused.get(), 1);
}

//! Every frame is accounted for: what the guest gave and what arrived at the NICs is what came
//! through, and losses that have a name and a counter.

use std::time::{Duration, Instant};

use lab::fault::{Cause, Victim};
use nic::NicCounters;
use nic::wire::PortCounters;
use supervisor::topology::Topology;
use warmspare_tests::frontend::{Connection, Station, TestGuest, frame};
use warmspare_tests::rig::{Rig, alone};

/// Until the last frames of a stopped flood have come to rest.
const SETTLED: Duration = Duration::from_secs(5);
/// Time for several dozen datagrams.
const A_WHILE: Duration = Duration::from_millis(60);
/// Frames of a flood.
const FLOOD: u32 = 20_000;
/// Frames of a flood between two pauses: fewer than wait at a port of the switch.
const BURST: u32 = 500;
/// First number of the frames of an exchange.
const EXCHANGE: u32 = 1_000_000;

/// The counters of one NIC and of the switch port that it is plugged into.
struct Counts {
    nic: NicCounters,
    vanished: u64,
    port: PortCounters,
}

fn counts(rig: &Rig) -> Vec<Counts> {
    let of = |slot: &std::sync::Arc<microvm::domain::DomainSlot>| Counts {
        nic: slot.nic.counters(),
        vanished: slot.accounts.vanished(),
        port: rig.wires.port_of(slot.nic.name()).expect("a port of our switch").counters(),
    };
    rig.system.slots().iter().map(of).collect()
}

/// A standby's driver takes the answer to its drill itself, and no counter has it.
fn without_drills(topology: &mut Topology) {
    topology.drill.every_s = 0;
}

/// What does not add up, in words; nothing if all does. There is one guest.
fn imbalances(rig: &Rig) -> Vec<String> {
    let c = rig.system.switchboard().counters();
    let counts = counts(rig);
    let mut found = Vec::new();
    let mut expect = |what: String, left: u64, right: u64| {
        if left != right {
            found.push(format!("{what}: {left} is not {right}"));
        }
    };
    for (n, it) in counts.iter().enumerate() {
        let (took, arrived) = (it.port.delivered, it.nic.arrived());
        expect(format!("NIC {n} took from the wire, and knows of"), took, arrived);
        let lost_by_link = it.nic.sent.saturating_sub(it.port.sent);
        let most = it.port.dropped_link_down;
        let sent = it.port.sent + lost_by_link.min(most);
        expect(format!("NIC {n} sent, and the switch got"), it.nic.sent, sent);
    }
    let received: u64 = counts.iter().map(|it| it.nic.received).sum();
    let vanished: u64 = counts.iter().map(|it| it.vanished).sum();
    let dropped = [
        &c.rx_no_guest,
        &c.rx_too_large,
        &c.rx_too_long,
        &c.rx_damaged,
        &c.rx_own,
        &c.rx_probes,
        &c.rx_twice,
        &c.rx_unknown,
        &c.rx_overrun,
        &c.rx_lost,
    ];
    let came = c.rx_frames.get() + dropped.iter().map(|it| it.get()).sum::<u64>() + vanished;
    expect("the NICs received, and came to the guest or were counted".into(), received, came);
    let sent = c.tx_confirmed.get() - c.tx_confirmed_own.get();
    let kept = [&c.tx_poisoned, &c.tx_left_behind, &c.tx_local, &c.tx_refused, &c.tx_unconfirmed];
    let went = sent + kept.iter().map(|it| it.get()).sum::<u64>();
    expect("the guest gave, and was sent or counted".into(), c.tx_frames.get(), went);
    expect("frames under way when all has settled".into(), c.tx_unconfirmed.get(), 0);
    found
}

/// Waits until nothing is under way, and checks that all adds up then.
fn assert_balanced(rig: &Rig) {
    let end = Instant::now() + SETTLED;
    while !imbalances(rig).is_empty() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(imbalances(rig), [""; 0]);
}

/// Injects a fault into the domain that serves, and waits until it has been rebuilt.
fn suffer(rig: &Rig, cause: Cause, variant: usize) {
    let failed = rig.active();
    let life = rig.system.failover().life(failed).unwrap();
    let slot = rig.slot(failed);
    let port = rig.wires.port_of(slot.nic.name()).map(|port| &**port);
    let victim = Victim { slot, life: &life, port };
    victim.inject(cause, variant).unwrap();
    assert_eq!(rig.wait_failover().record.from, failed);
    rig.wait("the domain's new life", |rig| {
        rig.system.failover().life(failed).is_some_and(|new| new.epoch() > life.epoch())
    });
    victim.repair(cause);
    rig.wait_whole();
    rig.run_for(A_WHILE);
}

fn balanced_after(cause: Cause, variants: usize) {
    let _alone = alone();
    let mut rig = Rig::start_with(without_drills);
    for variant in 0..variants {
        suffer(&rig, cause, variant);
    }
    rig.finish_traffic();
    assert_balanced(&rig);
}

#[test]
fn a_planned_switch_loses_no_frame_by_its_counters() {
    let _alone = alone();
    let mut rig = Rig::start_with(without_drills);
    for _ in 0..2 {
        rig.switch();
        rig.run_for(A_WHILE);
    }
    suffer(&rig, Cause::Crash, 2);
    rig.finish_traffic();
    assert_balanced(&rig);
}

#[test]
fn every_frame_is_accounted_for_over_crashes() {
    balanced_after(Cause::Crash, 3);
}

#[test]
fn every_frame_is_accounted_for_over_hangs() {
    balanced_after(Cause::Hang, 3);
}

#[test]
fn every_frame_is_accounted_for_over_stalls() {
    balanced_after(Cause::Stall, 2);
}

#[test]
fn every_frame_is_accounted_for_over_silence_on_the_way_out() {
    balanced_after(Cause::SilentTx, 2);
}

#[test]
fn what_a_silent_driver_received_has_vanished_and_is_counted() {
    let _alone = alone();
    let mut rig = Rig::start_with(without_drills);
    suffer(&rig, Cause::SilentRx, 0);
    rig.finish_traffic();
    assert_balanced(&rig);
    let vanished: u64 = counts(&rig).iter().map(|it| it.vanished).sum();
    assert!(vanished > 0, "a frame came to the driver, or its silence would not have been found");
}

#[test]
fn every_frame_is_accounted_for_over_wrong_registers() {
    balanced_after(Cause::NicRegister, 2);
}

#[test]
fn every_frame_is_accounted_for_over_pulled_cables() {
    balanced_after(Cause::Link, 2);
}

/// The guest takes nothing any more: what does not fit the rings is lost by the NIC, and counted.
#[test]
fn a_flood_into_a_slow_guest_is_accounted_for() {
    let _alone = alone();
    let mut rig = Rig::start_without_app_with(without_drills);
    let lan = Station::new(&mut rig);
    let mut guest = TestGuest::new();
    let _connection = Connection::start(rig.socket(), &guest);
    guest.exchange(&lan, EXCHANGE);
    let mut taken = 1;
    for number in 0..FLOOD {
        lan.send(number);
        if number % BURST == 0 {
            std::thread::sleep(Duration::from_millis(2));
            taken += std::iter::from_fn(|| guest.receive()).count() as u64;
            guest.offer_buffers();
        }
    }
    // What waits in the rings is neither here nor there yet.
    let mut rests = 0;
    while rests < 10 {
        guest.offer_buffers();
        std::thread::sleep(Duration::from_millis(5));
        let more = std::iter::from_fn(|| guest.receive()).count() as u64;
        taken += more;
        rests = if more == 0 { rests + 1 } else { 0 };
    }
    assert_balanced(&rig);
    let missed: u64 = counts(&rig).iter().map(|it| it.nic.missed).sum();
    eprintln!("{missed} of {FLOOD} frames missed");
    assert!(missed > 0, "the flood was none");
    assert_eq!(rig.system.switchboard().counters().rx_frames.get(), taken, "the guest's own count");
}

#[test]
fn frames_too_long_and_frames_for_others_are_counted() {
    let _alone = alone();
    let mut rig = Rig::start_without_app_with(without_drills);
    let lan = Station::new(&mut rig);
    let mut guest = TestGuest::new();
    let _connection = Connection::start(rig.socket(), &guest);
    guest.exchange(&lan, EXCHANGE);
    let before = counts(&rig);
    let mut long = frame(guest.mac, lan.mac, 1);
    long.resize(3000, 0);
    lan.send_bytes(&long);
    lan.send_to([2, 9, 9, 9, 9, 9], 2);
    let grown = |of: fn(&NicCounters) -> u64| {
        counts(&rig)
            .iter()
            .zip(&before)
            .map(|(now, then)| of(&now.nic) - of(&then.nic))
            .sum::<u64>()
    };
    rig.wait("both frames", |_| grown(|nic| nic.too_long) == 1 && grown(|nic| nic.filtered) >= 2);
    assert_balanced(&rig);
}

#[test]
fn a_flood_out_is_accounted_for_through_a_crash() {
    let _alone = alone();
    let mut rig = Rig::start_without_app_with(without_drills);
    let lan = Station::new(&mut rig);
    let mut guest = TestGuest::new();
    let _connection = Connection::start(rig.socket(), &guest);
    guest.exchange(&lan, EXCHANGE);
    let half = FLOOD / 2;
    let mut seen = Vec::new();
    for number in 0..FLOOD {
        while guest.tx.outstanding() >= guest.tx.size() / 2 {
            while guest.tx.take_used().is_some() {}
            seen.extend(lan.take_seen());
            std::thread::yield_now();
        }
        guest.send(&frame(lan.mac, guest.mac, number));
        if number == half {
            rig.crash_active();
        }
    }
    rig.wait_failover();
    rig.wait_whole();
    assert_balanced(&rig);
    seen.extend(lan.take_seen());
    seen.sort_unstable();
    seen.dedup();
    let counters = rig.system.switchboard().counters();
    let arrived = seen.iter().filter(|number| **number < FLOOD).count() as u64;
    let known = counters.tx_poisoned.get();
    let full: u64 = lan.dropped();
    assert!(
        arrived + known + full >= u64::from(FLOOD),
        "{arrived} arrived, {known} poison, {full}"
    );
}

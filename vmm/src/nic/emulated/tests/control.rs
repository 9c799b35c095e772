//! What the VMM does with the NIC, and what resets and switches do.

use std::time::Duration;

use super::super::EmulatedNic;
use super::bench::*;
use crate::nic::registers::{self as reg, ctrl, queue, rctl, status, tctl};
use crate::nic::{BarAccess, Nic};
use crate::wire::{EthernetSwitch, Wire};

#[test]
fn shut_units_stop_traffic_both_ways() {
    let bench = Bench::new();
    bench.nic.shut_units();
    bench.settle();
    bench.peer.send(&frame(MAC, PEER, 100));
    bench.send(0, &frame(PEER, MAC, 100));
    bench.settle();
    assert_eq!(bench.peer_has(), None);
    assert!(!bench.is_done(RX_RING, 0));
    assert_eq!(bench.read(reg::RCTL) & rctl::EN, 0);
    assert_eq!(bench.read(reg::TCTL) & tctl::EN, 0);
}

#[test]
fn nothing_leaves_after_shut_units_but_the_frame_in_hand() {
    let bench = Bench::new();
    for index in 0..63 {
        bench.put_frame(index, &frame(PEER, MAC, 1500));
    }
    bench.write(reg::TDT, 63);
    bench.peer_gets();
    bench.nic.shut_units();
    let gone = bench.port.counters().sent;
    bench.settle();
    let gone_in_the_end = bench.port.counters().sent;
    assert!(gone_in_the_end <= gone + 1);
    // The engine may have sent them all before: what it is told of from here on stays.
    bench.send(63, &frame(PEER, MAC, 1500));
    bench.settle();
    assert_eq!(bench.port.counters().sent, gone_in_the_end);
}

#[test]
fn statistics_clear_when_they_are_read() {
    let bench = Bench::new();
    bench.send(0, &frame(PEER, MAC, 60));
    bench.send(1, &frame(EVERYONE, MAC, 1514));
    bench.peer.send(&frame(MAC, PEER, 100));
    bench.peer.send(&frame(EVERYONE, PEER, 100));
    bench.peer.send(&frame([2, 7, 7, 7, 7, 7], PEER, 100));
    eventually("all seen", || {
        bench.is_done(RX_RING, 1) && bench.is_done(TX_RING, 1) && bench.peer_has().is_some()
    });
    bench.settle();
    let [gprc, bprc, gptc, tpr, tpt] = [0x4074, 0x4078, 0x4080, 0x40d0, 0x40d4];

    assert_eq!([gprc, bprc, gptc, tpr, tpt].map(|at| bench.read(at)), [2, 1, 2, 3, 2]);
    assert_eq!([gprc, bprc, gptc, tpr, tpt].map(|at| bench.read(at)), [0; 5]);
    assert_eq!(bench.read(0x4090), 64 + 1518, "GOTCL");
    assert_eq!(bench.read(0x4094), 0);
    assert_eq!(bench.read(0x4090), 0);
    assert_eq!(bench.nic.take_sent(), 0, "the same register");
}

#[test]
fn quiesce_ends_all_access_to_memory() {
    let bench = Bench::new();
    bench.nic.quiesce().unwrap();

    assert!(!bench.is_on(reg::RXDCTL) && !bench.is_on(reg::TXDCTL));
    let before = bench.bytes(0, MEMORY_BYTES as usize);
    bench.write(reg::RXDCTL, queue::ENABLE);
    bench.write(reg::TXDCTL, queue::ENABLE);
    bench.write(reg::EIMS, 3);
    bench.write(reg::RDT, 63);
    bench.write(reg::TDT, 5);
    bench.peer.send(&frame(MAC, PEER, 100));
    bench.port.set_link(false);
    bench.settle();
    assert_eq!(bench.bytes(0, MEMORY_BYTES as usize), before);
    assert_eq!(bench.messages(bench.nic.queue_event()), 0);
    assert_eq!(bench.messages(bench.nic.link_event()), 0, "messages are writes to memory too");
}

#[test]
fn a_driver_attaches_anew_after_quiesce() {
    let bench = Bench::new();
    bench.send(0, &frame(PEER, MAC, 100));
    bench.peer_gets();
    for round in 0..5 {
        bench.nic.shut_units();
        bench.nic.quiesce().unwrap();
        bench.nic.enable_bus_master().unwrap();
        bench.attach();
        bench.post_all();
        bench.send(0, &frame(PEER, MAC, 100 + round));
        assert_eq!(bench.peer_gets().len(), 100 + round);
        bench.peer.send(&frame(MAC, PEER, 200 + round));
        assert_eq!(bench.received(0).0 as usize, 200 + round);
    }
}

#[test]
fn quiesce_does_not_wait_for_a_link() {
    let bench = Bench::new();
    bench.port.set_link(false);
    bench.send(0, &frame(PEER, MAC, 100));
    bench.settle();
    bench.nic.quiesce().unwrap();
    assert!(!bench.is_on(reg::TXDCTL));
    bench.nic.enable_bus_master().unwrap();
    bench.port.set_link(true);
    bench.settle();
    assert_eq!(bench.peer_has(), None, "what was fetched is void");
}

#[test]
fn reset_restores_registers_but_not_the_link() {
    let bench = Bench::new();
    bench.write(reg::EITR, 0x40);
    bench.write(reg::RAL0 + 8, 0x1234);
    bench.write(reg::CTRL, ctrl::RST);
    eventually("the reset ends", || bench.read(reg::CTRL) & ctrl::RST == 0);

    assert!(bench.nic.link_up());
    let zero = [reg::RCTL, reg::GPIE, reg::IVAR0, reg::EIMS, reg::RAL0 + 8, reg::RDT];
    assert_eq!(zero.map(|offset| bench.read(offset)), [0; 6]);
    assert_eq!(bench.read(reg::EITR), 0x40);
    assert_eq!(bench.read(reg::RAL0), u32::from_le_bytes([2, 0, 0, 0]));
    assert_eq!(bench.read(reg::RAH0), 0x8000_1000);
    assert!(bench.is_on(reg::RXDCTL), "as on the real part, queue 0 is on, without a ring");

    bench.attach();
    bench.post_all();
    bench.send(0, &frame(PEER, MAC, 100));
    bench.peer_gets();
}

#[test]
fn a_reset_from_the_vmm_comes_back() {
    let bench = Bench::new();
    bench.read(reg::SWSM);
    bench.nic.reset().unwrap();
    assert_eq!(bench.read(reg::SWSM), 0, "a dead driver's semaphore is free again");
    bench.attach();
    bench.send(0, &frame(PEER, MAC, 100));
    bench.peer_gets();
}

#[test]
fn the_semaphore_belongs_to_who_reads_zero() {
    let bench = Bench::bare();
    assert_eq!([bench.read(reg::SWSM), bench.read(reg::SWSM)], [0, 1]);
    bench.write(reg::CTRL, ctrl::RST);
    assert_eq!(bench.read(reg::SWSM), 1, "survives");
    bench.write(reg::SWSM, 2);
    assert_eq!([bench.read(reg::SWSM), bench.read(reg::SWSM)], [2, 3]);
}

#[test]
fn master_disable_shows_in_status_when_the_bus_is_quiet() {
    let bench = Bench::new();
    assert_ne!(bench.read(reg::STATUS) & status::GIO_MASTER, 0);
    bench.write(reg::CTRL, bench.read(reg::CTRL) | ctrl::GIO_MASTER_DISABLE);
    eventually("quiet", || bench.read(reg::STATUS) & status::GIO_MASTER == 0);
    bench.send(0, &frame(PEER, MAC, 100));
    bench.settle();
    assert_eq!(bench.peer_has(), None);
    bench.write(reg::CTRL, bench.read(reg::CTRL) & !ctrl::GIO_MASTER_DISABLE);
    assert_eq!(bench.peer_gets().len(), 100);
}

#[test]
fn aliases_and_odd_places() {
    let bench = Bench::new();
    assert_eq!(bench.read(0x2800 + queue::BASE_LOW), IOVA as u32);
    assert_eq!(bench.read(0x3800 + queue::LENGTH), 64 * 16);
    assert_eq!(bench.read(0x1508), bench.read(reg::IMS));
    bench.write(0x2404, 0x55);
    assert_eq!(bench.read(0x2404), 0x55);
    bench.write(reg::RCTL + 1, u32::MAX);
    bench.write(0x1_fffc, u32::MAX);
    bench.write(u32::MAX - 3, u32::MAX);
    assert_eq!([reg::RCTL + 1, 0x1_fffc, u32::MAX - 3].map(|at| bench.read(at)), [0; 3]);
    assert_ne!(bench.read(reg::EECD) & 1 << 9, 0, "AUTO_RD");
    bench.write(reg::EERD, 2 << 2 | 1);
    assert_eq!(bench.read(reg::EERD), 0x1000 << 16 | 2 << 2 | 2);
}

#[test]
fn bus_mastering_starts_off() {
    let port = EthernetSwitch::new().attach("nic").unwrap();
    let nic = EmulatedNic::new("fresh", MAC, port).unwrap();
    assert!(!nic.device.bus_master());
    assert!(matches!(nic.bar(), BarAccess::Trapped(_)));
}

#[test]
fn the_engine_shows_that_it_lives_and_ends_with_the_nic() {
    let switch = EthernetSwitch::new();
    let port = switch.attach("nic").unwrap();
    let nic = EmulatedNic::new("alive", MAC, port.clone()).unwrap();
    let before = nic.progress();
    eventually("a heartbeat", || nic.progress() > before);
    drop(nic);
    let held = std::sync::Arc::strong_count(&port);
    assert_eq!(held, 1, "thread and device are gone");
}

#[test]
fn a_sleeping_engine_does_not_spin() {
    let bench = Bench::new();
    bench.send(0, &frame(PEER, MAC, 100));
    bench.peer.send(&frame(MAC, PEER, 100));
    bench.received(0);
    bench.port.set_link(false);
    bench.settle();
    let before = bench.nic.progress();
    std::thread::sleep(Duration::from_millis(250));
    assert!(bench.nic.progress() - before <= 6, "only the heartbeat");
}

#[test]
fn an_engine_that_broke_looks_like_a_device_that_is_gone() {
    let bench = Bench::new();
    bench.nic.device.die();
    assert_eq!(bench.read(reg::STATUS), reg::ALL_ONES);
    assert_ne!(bench.messages(bench.nic.link_event()), 0);
    assert!(bench.nic.quiesce().is_err());
    assert!(bench.nic.reset().is_err());
}

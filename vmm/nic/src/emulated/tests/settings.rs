//! Registers with which a NIC attaches and does not work, and what restores them.

use std::time::Duration;

use super::bench::*;
use crate::Nic;
use crate::registers::{self as reg, ctrl, ctrl_ext, dmacr, etqf, mdic, phpm, phy, rctl, status};
use crate::wire::Wire;

/// What a new driver does that trusts nothing, with a reset of its own.
fn reset_and_attach(bench: &Bench) {
    bench.write(reg::CTRL, ctrl::RST);
    eventually("the reset ends", || bench.read(reg::CTRL) & ctrl::RST == 0);
    bench.attach();
    bench.post_all();
}

/// What the VMM does that gives a NIC up, before the new driver.
fn function_reset_and_attach(bench: &Bench) {
    bench.nic.reset().unwrap();
    eventually("the link is up", || bench.nic.link_up());
    bench.attach();
    bench.post_all();
}

fn assert_sends_nothing(bench: &Bench, why: &str) {
    bench.send(0, &frame(PEER, MAC, 100));
    bench.settle();
    assert_eq!(bench.peer_has(), None, "{why}");
    assert!(!bench.is_done(TX_RING, 0), "{why}: what was not sent is not reported");
    assert_eq!(bench.nic.take_sent(), 0, "{why}");
}

fn assert_works(bench: &Bench) {
    bench.send(0, &frame(PEER, MAC, 100));
    assert_eq!(bench.peer_gets().len(), 100);
    bench.peer.send(&frame(MAC, PEER, 200));
    assert_eq!(bench.received(0).0, 200);
}

fn write_phy(bench: &Bench, register: u32, value: u16) {
    let command = mdic::WRITE | mdic::INTERNAL_PHY | register << mdic::REGISTER_SHIFT;
    bench.write(reg::MDIC, command | u32::from(value));
}

#[test]
fn a_bad_transmit_buffer_size_sends_nothing_until_the_function_is_reset() {
    let bench = Bench::new();
    bench.write(reg::TXPBS, 0x0400_0004);
    assert_sends_nothing(&bench, "no room for the longest packet");
    reset_and_attach(&bench);
    assert_sends_nothing(&bench, "the software reset keeps the sizes");
    function_reset_and_attach(&bench);
    assert_works(&bench);
}

#[test]
fn before_each_life_the_vmm_puts_back_what_no_driver_writes() {
    let bench = Bench::new();
    let spoilt = [reg::RXPBS, reg::TXPBS, reg::DMACR, reg::TQAVCC0, reg::TQAVCTRL, reg::DTXMXPKTSZ];
    let spoilt: Vec<u32> = spoilt.into_iter().chain([reg::ETQF0, reg::ETQF0 + 28]).collect();
    let before: Vec<u32> = spoilt.iter().map(|register| bench.read(*register)).collect();
    spoilt.iter().for_each(|register| bench.write(*register, 0x8000_0101));
    bench.nic.quiesce().unwrap();
    bench.nic.enable_bus_master().unwrap();
    let after: Vec<u32> = spoilt.iter().map(|register| bench.read(*register)).collect();
    assert_eq!(after, before);
    assert!(bench.nic.link_up(), "without a reset");
    bench.attach();
    bench.post_all();
    assert_works(&bench);
}

#[test]
fn a_receive_buffer_that_is_too_small_misses_what_does_not_fit() {
    let bench = Bench::new();
    bench.write(reg::RXPBS, 1);
    bench.peer.send(&frame(MAC, PEER, 1500));
    bench.peer.send(&frame(MAC, PEER, 300));
    assert_eq!(bench.received(0).0, 300);
    assert_eq!((bench.read(reg::MPC), bench.nic.take_received()), (1, 1));
    reset_and_attach(&bench);
    bench.peer.send(&frame(MAC, PEER, 1500));
    eventually("missed", || bench.read(reg::MPC) == 1);
    function_reset_and_attach(&bench);
    bench.peer.send(&frame(MAC, PEER, 1500));
    assert_eq!(bench.received(0).0, 1500);
}

#[test]
fn received_packets_wait_where_dma_is_coalesced() {
    let bench = Bench::new();
    let units = 200_000_000 / dmacr::WATCHDOG_UNIT_NS as u32;
    bench.write(reg::DMACR, dmacr::EN | units);
    bench.settle();
    bench.peer.send(&frame(MAC, PEER, 100));
    std::thread::sleep(Duration::from_millis(50));
    bench.settle();
    assert!(!bench.is_done(RX_RING, 0));
    assert_eq!(bench.received(0).0, 100, "when the watchdog timer expires");
    bench.peer.send(&frame(MAC, PEER, 101));
    bench.settle();
    assert!(!bench.is_done(RX_RING, 1));
    bench.write(reg::DMACR, 0);
    bench.settle();
    assert!(bench.is_done(RX_RING, 1), "at once");
    bench.write(reg::DMACR, dmacr::EN | units);
    reset_and_attach(&bench);
    assert_works(&bench);
}

#[test]
fn a_queue_that_lives_on_credits_and_gains_none_sends_nothing() {
    let bench = Bench::new();
    bench.write(reg::TQAVCC0, 1 << 31);
    bench.write(reg::TQAVCTRL, 0x101);
    assert_sends_nothing(&bench, "no credits");
    bench.write(reg::TQAVCTRL, 0);
    assert_eq!(bench.peer_gets().len(), 100);
}

#[test]
fn a_phy_that_leaves_the_link_is_a_pulled_cable() {
    let bench = Bench::new();
    bench.write(reg::PHPM, phpm::GO_LINK_DISCONNECT);
    eventually("vector 1", || bench.messages(bench.nic.link_event()) != 0);
    assert_eq!(bench.read(reg::STATUS) & status::LU, 0);
    reset_and_attach(&bench);
    assert!(!bench.nic.link_up(), "the software reset leaves the PHY alone");
    function_reset_and_attach(&bench);
    assert_works(&bench);
}

#[test]
fn another_link_mode_is_a_pulled_cable_until_a_reset() {
    let bench = Bench::new();
    bench.write(reg::CTRL_EXT, ctrl_ext::LINK_MODE);
    eventually("vector 1", || bench.messages(bench.nic.link_event()) != 0);
    assert!(!bench.nic.link_up());
    reset_and_attach(&bench);
    assert_works(&bench);
}

#[test]
fn loopback_in_the_mac_counts_what_never_reaches_the_cable() {
    let bench = Bench::new();
    bench.write(reg::RCTL, rctl::EN | rctl::SECRC | rctl::LBM_MAC << rctl::LBM_SHIFT);
    bench.peer.send(&frame(MAC, PEER, 300));
    bench.send(0, &frame(MAC, MAC, 100));
    assert_eq!(bench.received(0).0, 100, "its own");
    bench.settle();
    assert_eq!(bench.peer_has(), None);
    assert!(!bench.is_done(RX_RING, 1), "nothing from the cable");
    assert_eq!((bench.nic.take_sent(), bench.nic.take_received()), (1, 1));
    assert_eq!(bench.nic.first_sent_ns(), None, "no frame has left");
}

#[test]
fn loopback_in_the_phy_survives_the_software_reset_and_a_link_that_is_up() {
    let bench = Bench::new();
    write_phy(&bench, phy::BMCR, 0x1140 | phy::BMCR_LOOPBACK);
    reset_and_attach(&bench);
    assert!(bench.nic.link_up());
    bench.send(0, &frame(PEER, MAC, 100));
    eventually("sent", || bench.is_done(TX_RING, 0));
    bench.settle();
    assert_eq!(bench.peer_has(), None);
    function_reset_and_attach(&bench);
    assert_works(&bench);
}

#[test]
fn packets_for_a_queue_that_is_off_are_lost() {
    let bench = Bench::new();
    let lost = |bench: &Bench| {
        bench.peer.send(&frame(MAC, PEER, 100));
        eventually("missed", || bench.read(reg::MPC) == 1);
        !bench.is_done(RX_RING, 0)
    };
    bench.write(reg::MRQC, 1 << 3);
    assert!(lost(&bench));
    bench.write(reg::MRQC, 0);
    let ours = etqf::FILTER_ENABLE | etqf::QUEUE_ENABLE | 0x88b5;
    bench.write(reg::ETQF0 + 12, ours | 2 << etqf::QUEUE_SHIFT);
    assert!(lost(&bench));
    bench.write(reg::ETQF0 + 12, ours);
    bench.peer.send(&frame(MAC, PEER, 100));
    assert_eq!(bench.received(0).0, 100);
    bench.write(reg::ETQF0 + 12, ours | 2 << etqf::QUEUE_SHIFT);
    reset_and_attach(&bench);
    assert_works(&bench);
}

#[test]
fn a_function_reset_leaves_nothing_of_a_driver() {
    let bench = Bench::new();
    bench.read(reg::SWSM);
    bench.write(reg::SW_FW_SYNC, 2);
    bench.write(reg::EITR, 0x40);
    bench.write(reg::EITR + 4, 0x40);
    bench.nic.reset().unwrap();
    let zero = [reg::SWSM, reg::SW_FW_SYNC, reg::EITR, reg::EITR + 4];
    assert_eq!(zero.map(|offset| bench.read(offset)), [0; 4]);
    assert!(bench.nic.link_up(), "nobody had touched the PHY");
}

//! The cable, and what hangs on it.

use super::bench::*;
use crate::Nic;
use crate::registers::{self as reg, queue, status, tctl};
use crate::wire::Wire;

#[test]
fn a_change_comes_on_vector_one_and_can_be_acknowledged() {
    let bench = Bench::new();
    for up in [false, true, false] {
        bench.port.set_link(up);
        eventually("vector 1", || bench.messages(bench.nic.link_event()) != 0);
        assert_eq!(bench.nic.acknowledge_link(), up);
        assert_eq!(bench.read(reg::STATUS) & status::LU != 0, up);
        assert_eq!(bench.messages(bench.nic.queue_event()), 0);
    }
}

#[test]
fn frames_wait_while_the_link_is_down() {
    let bench = Bench::new();
    bench.port.set_link(false);
    bench.send(0, &frame(PEER, MAC, 100));
    bench.settle();
    assert!(!bench.is_done(TX_RING, 0), "unlike QEMU's, the descriptor stays pending");
    assert_eq!(bench.nic.take_sent(), 0);

    bench.port.set_link(true);

    assert_eq!(bench.peer_gets().len(), 100);
    eventually("done", || bench.is_done(TX_RING, 0));
}

#[test]
fn nothing_comes_in_while_the_link_is_down() {
    let bench = Bench::new();
    bench.port.set_link(false);
    bench.peer.send(&frame(MAC, PEER, 100));
    bench.settle();
    bench.port.set_link(true);
    bench.peer.send(&frame(MAC, PEER, 101));
    assert_eq!(bench.received(0).0, 101);
}

#[test]
fn a_transmit_queue_cannot_drain_without_a_link() {
    let bench = Bench::new();
    bench.port.set_link(false);
    bench.send(0, &frame(PEER, MAC, 100));
    bench.settle();
    bench.write(reg::TXDCTL, 0);
    bench.settle();
    assert!(bench.is_on(reg::TXDCTL));
    bench.write(reg::TCTL, tctl::PSP);
    bench.settle();
    assert!(bench.is_on(reg::TXDCTL), "nor with the unit off");

    bench.write(reg::TCTL, tctl::EN | tctl::PSP);
    bench.port.set_link(true);

    eventually("it drains", || !bench.is_on(reg::TXDCTL));
    assert_eq!(bench.peer_gets().len(), 100);
}

#[test]
fn a_transmit_queue_whose_unit_is_off_lets_go() {
    let bench = Bench::new();
    bench.write(reg::TCTL, tctl::PSP);
    bench.send(0, &frame(PEER, MAC, 100));
    bench.settle();
    bench.disable_queues();
    bench.write(reg::TXDCTL, queue::ENABLE);
    bench.write(reg::TCTL, tctl::EN | tctl::PSP);
    bench.settle();
    assert_eq!(bench.peer_has(), None);
}

#[test]
fn restarting_negotiation_drops_a_good_link_for_a_while() {
    let bench = Bench::new();
    bench.write(reg::MDIC, 0x1200 | 1 << 21 | 1 << 26);
    assert!(!bench.nic.link_up());
    eventually("LSC, down", || bench.messages(bench.nic.link_event()) != 0);
    bench.nic.acknowledge_link();
    eventually("LSC, up", || bench.messages(bench.nic.link_event()) != 0);
    assert!(bench.nic.acknowledge_link());
}

#[test]
fn the_phy_answers() {
    let bench = Bench::new();
    let ask = |register: u32| {
        bench.write(reg::MDIC, register << 16 | 1 << 21 | 2 << 26);
        eventually("MDIC is ready", || bench.read(reg::MDIC) >> 28 & 1 != 0);
        bench.read(reg::MDIC) & 0xffff
    };
    assert_eq!((ask(2), ask(3)), (0x0141, 0x0c00));
    assert_eq!(ask(1) & 4, 4);
    bench.port.set_link(false);
    eventually("LSC", || bench.messages(bench.nic.link_event()) != 0);
    assert_eq!(ask(1) & 4, 0);
}

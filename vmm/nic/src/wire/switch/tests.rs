//! What stations at a switch see of each other.

use super::*;

const A: [u8; 6] = [2, 0, 0, 0, 0, 0xa];
const B: [u8; 6] = [2, 0, 0, 0, 0, 0xb];
const EVERYONE: [u8; 6] = [0xff; 6];

fn frame(to: [u8; 6], from: [u8; 6]) -> Vec<u8> {
    [&to[..], &from[..], &[0x88, 0xb5], &[7; 46]].concat()
}

/// All frames that wait at a port.
fn drain(port: &Port) -> Vec<Vec<u8>> {
    let mut into = vec![0; MAX_FRAME_BYTES];
    std::iter::from_fn(|| port.receive(&mut into).map(|len| into[..len].to_vec())).collect()
}

fn three_ports() -> [Arc<Port>; 3] {
    let switch = EthernetSwitch::new();
    ["a", "b", "c"].map(|name| switch.attach(name).unwrap())
}

#[test]
fn unknown_destinations_are_flooded_and_known_ones_are_not() {
    let [a, b, c] = three_ports();

    a.send(&frame(B, A));
    assert_eq!((drain(&a).len(), drain(&b).len(), drain(&c).len()), (0, 1, 1));

    b.send(&frame(A, B));
    assert_eq!((drain(&a).len(), drain(&b).len(), drain(&c).len()), (1, 0, 0));
}

#[test]
fn broadcast_and_multicast_reach_every_other_port() {
    let [a, b, c] = three_ports();
    b.send(&frame(EVERYONE, B));
    a.send(&frame(EVERYONE, A));
    a.send(&frame([1, 0, 0x5e, 0, 0, 1], A));
    assert_eq!((drain(&a).len(), drain(&b).len(), drain(&c).len()), (1, 2, 3));
}

#[test]
fn a_station_that_moves_takes_its_frames_along() {
    let [a, b, c] = three_ports();
    b.send(&frame(EVERYONE, B));
    c.send(&frame(EVERYONE, B));
    [&a, &b, &c].into_iter().for_each(|port| drop(drain(port)));

    a.send(&frame(B, A));

    assert_eq!((drain(&b).len(), drain(&c).len()), (0, 1));
}

#[test]
fn a_frame_for_a_station_behind_the_same_port_goes_nowhere() {
    let [a, b, c] = three_ports();
    a.send(&frame(EVERYONE, B));
    [&b, &c].into_iter().for_each(|port| drop(drain(port)));
    a.send(&frame(B, A));
    assert_eq!((drain(&a).len(), drain(&b).len(), drain(&c).len()), (0, 0, 0));
}

#[test]
fn a_pulled_cable_loses_frames_both_ways_and_what_was_learned() {
    let [a, b, c] = three_ports();
    b.send(&frame(EVERYONE, B));
    a.send(&frame(B, A));
    drain(&c);

    b.set_link(false);

    assert!(!b.link_up());
    assert_eq!(b.state.link_changed.read().unwrap(), 1);
    assert_eq!(drain(&b).len(), 0, "what was waiting is lost with the cable");
    b.send(&frame(EVERYONE, B));
    a.send(&frame(B, A));
    assert_eq!((drain(&b).len(), drain(&c).len()), (0, 1), "flooded: nobody knows B any more");
    assert_eq!(b.counters().dropped_link_down, 3);

    b.set_link(true);
    a.send(&frame(B, A));
    assert_eq!(drain(&b).len(), 1);
}

#[test]
fn setting_the_link_to_what_it_is_signals_nothing() {
    let [a, ..] = three_ports();
    a.set_link(true);
    assert!(a.state.link_changed.read().is_err());
}

#[test]
fn the_queue_is_bounded_and_signals_once() {
    let [a, b, _] = three_ports();
    for _ in 0..QUEUE_FRAMES + 3 {
        a.send(&frame(EVERYONE, A));
    }
    assert_eq!(b.state.readable.read().unwrap(), 1, "only the first frame found the queue empty");
    assert_eq!(drain(&b).len(), QUEUE_FRAMES);
    let counters = b.counters();
    assert_eq!((counters.delivered, counters.dropped_full), (QUEUE_FRAMES as u64, 3));
}

#[test]
fn a_full_queue_of_full_frames_fits() {
    let [a, b, _] = three_ports();
    let mut longest = frame(EVERYONE, A);
    longest.resize(1518, 1);
    for _ in 0..QUEUE_FRAMES {
        a.send(&longest);
    }
    assert_eq!(drain(&b).len(), QUEUE_FRAMES);
}

#[test]
fn what_is_no_frame_is_not_carried() {
    let [a, b, _] = three_ports();
    a.send(&[0xff; 13]);
    a.send(&vec![0xff; MAX_FRAME_BYTES + 1]);
    a.send(&vec![0xff; MAX_FRAME_BYTES]);
    assert_eq!(drain(&b).len(), 1);
}

#[test]
fn ports_are_bounded_and_free_again_when_dropped() {
    let switch = EthernetSwitch::new();
    let mut ports: Vec<_> = (0..MAX_PORTS).map(|_| switch.attach("port").unwrap()).collect();
    assert!(matches!(switch.attach("late"), Err(SwitchError::NoPort { .. })));
    ports.pop();
    switch.attach("late").unwrap();
}

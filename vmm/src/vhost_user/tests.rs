//! The back-end behind a real socket, with the `vhost` crate's front-end or raw bytes on the other
//! side, a real switchboard, and a driver domain played by the test.

mod harness;
mod hostile;

use std::io::Write;

use vhost::VhostBackend;
use vhost::vhost_user::VhostUserFrontend;
use vhost::vhost_user::message::{VhostUserConfigFlags, VhostUserProtocolFeatures};
use vm_memory::{Bytes, GuestAddress};

use self::harness::{Fixture, TestFrontend, in_own_process, open_descriptors, wait_for};
use super::session::{FEATURES, PROTOCOL};
use crate::switchboard::fakes::{FakeGuest, MAC, frame};

#[test]
fn frames_go_both_ways() {
    let mut fixture = Fixture::new("both-ways");
    let mut front = TestFrontend::connect(&fixture, FakeGuest::new());
    front.start();
    fixture.echo(&mut front, 0..300);
    fixture.assert_no_violation();
}

#[test]
fn what_is_offered_can_be_asked_for() {
    let fixture = Fixture::new("offers");
    let mut front = TestFrontend::connect(&fixture, FakeGuest::new());
    assert_eq!(front.client.get_features().unwrap(), FEATURES);
    assert_eq!(front.client.get_protocol_features().unwrap(), PROTOCOL);
    front.negotiate();
    assert_eq!(front.client.get_queue_num().unwrap(), 2);
    assert_eq!(front.client.get_max_mem_slots().unwrap(), 32);
    let flags = VhostUserConfigFlags::WRITABLE;
    let (_, config) = front.client.get_config(0, 8, flags, &[0; 8]).unwrap();
    assert_eq!(config[..6], MAC);
    assert_eq!(config[6..], [1, 0], "link up");
    let (_, beyond) = front.client.get_config(4, 16, flags, &[0; 16]).unwrap();
    assert_eq!(beyond, [0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    front.client.reset_device().unwrap();
}

#[test]
fn stopping_a_ring_tells_where_it_stands_and_it_goes_on_there() {
    let mut fixture = Fixture::new("stop");
    let mut front = TestFrontend::connect(&fixture, FakeGuest::new());
    front.start();
    fixture.echo(&mut front, 0..10);
    let bases = [0, 1].map(|ring| front.client.get_vring_base(ring).unwrap());
    assert_eq!(bases, [10, 10]);
    // Stopped: chains stay where they are.
    front.guest.tx.send(&frame(true, 99, 100));
    front.guest.tx.kick();
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert_eq!(front.guest.tx.drain_used(), 0);
    front.start_rings(bases.map(|base| base as u16));
    assert_eq!(fixture.next_sent(), frame(true, 99, 100), "looked at without a kick");
    fixture.echo(&mut front, 10..20);
}

#[test]
fn the_call_is_signalled_whenever_it_is_set() {
    let fixture = Fixture::new("call");
    let mut front = TestFrontend::connect(&fixture, FakeGuest::new());
    front.negotiate();
    for _ in 0..3 {
        front.client.set_vring_call(0, &front.guest.rx.call).unwrap();
        wait_for("the call", || front.guest.rx.calls() == 1);
    }
}

#[test]
fn a_running_ring_can_be_changed_without_losing_a_frame() {
    let mut fixture = Fixture::new("change");
    let mut front = TestFrontend::connect(&fixture, FakeGuest::new());
    front.start();
    for round in 0..20 {
        front.client.set_vring_call(0, &front.guest.rx.call).unwrap();
        front.client.set_vring_enable(1, true).unwrap();
        front.share_memory();
        fixture.echo(&mut front, round * 7..round * 7 + 7);
    }
}

#[test]
fn memory_slots_come_and_go() {
    let mut fixture = Fixture::new("slots");
    let mut front = TestFrontend::connect(&fixture, FakeGuest::new());
    front.negotiate();
    let region = front.region();
    front.client.add_mem_region(&region).unwrap();
    assert!(front.client.add_mem_region(&region).is_err(), "overlaps itself");
    front.start_rings([0, 0]);
    fixture.echo(&mut front, 0..5);
    front.client.remove_mem_region(&region).unwrap();
    assert!(front.client.remove_mem_region(&region).is_err(), "gone already");
    front.client.add_mem_region(&region).unwrap();
    front.start_rings([0, 0]);
    fixture.echo(&mut front, 5..10);
}

/// The position comes from the guest's memory: each connection claims to begin at 0.
#[test]
fn a_hundred_connections_leave_descriptors_flat() {
    in_own_process("vhost_user::tests::a_hundred_connections_leave_descriptors_flat", || {
        let mut fixture = Fixture::new("hundred");
        let mut guest = FakeGuest::new();
        let mut before = 0;
        for round in 0..101 {
            let mut front = TestFrontend::connect(&fixture, guest);
            front.start();
            fixture.echo(&mut front, round * 5..round * 5 + 5);
            guest = front.disconnect(&fixture);
            let now = open_descriptors();
            if round == 0 {
                before = now;
            }
            assert_eq!(now, before, "after connection {round}");
        }
        fixture.assert_no_violation();
    });
}

#[test]
fn a_disconnect_in_mid_traffic_neither_skips_nor_repeats() {
    let mut fixture = Fixture::new("mid-traffic");
    let mut guest = FakeGuest::new();
    let mut expected = 0;
    let mut next = 0;
    for _ in 0..30 {
        let mut front = TestFrontend::connect(&fixture, guest);
        front.start();
        for number in next..next + 20 {
            front.guest.tx.send(&frame(true, number, 100));
            front.guest.tx.kick();
        }
        next += 20;
        // The connection ends while the switchboard is copying.
        guest = front.disconnect(&fixture);
        for sent in fixture.all_sent() {
            assert_eq!(sent, frame(true, expected, 100));
            expected += 1;
        }
        guest.tx.drain_used();
    }
    let mut front = TestFrontend::connect(&fixture, guest);
    front.start();
    while expected < next {
        assert_eq!(fixture.next_sent(), frame(true, expected, 100));
        expected += 1;
    }
    assert!(fixture.all_sent().is_empty());
}

#[test]
fn what_waits_in_a_ring_is_not_thrown_away_between_its_kick_and_its_enable() {
    let mut fixture = Fixture::new("held");
    let mut front = TestFrontend::connect(&fixture, FakeGuest::new());
    for number in 0..5 {
        front.guest.tx.send(&frame(true, number, 100));
    }
    front.negotiate();
    front.share_memory();
    front.start_without_enable([0, 0]);
    front.guest.tx.kick();
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert_eq!(front.guest.tx.drain_used(), 0, "neither sent nor thrown away");
    front.client.set_vring_enable(1, true).unwrap();
    for number in 0..5 {
        assert_eq!(fixture.next_sent(), frame(true, number, 100));
    }
    // Told to be off, it is emptied.
    front.client.set_vring_enable(1, false).unwrap();
    front.guest.tx.drain_used();
    front.guest.tx.send(&frame(true, 5, 100));
    front.guest.tx.kick();
    wait_for("the chain", || front.guest.tx.drain_used() == 1);
    assert!(fixture.all_sent().is_empty());
}

#[test]
fn a_second_front_end_is_served_after_the_first() {
    let mut fixture = Fixture::new("second");
    let mut first = TestFrontend::connect(&fixture, FakeGuest::new());
    first.start();
    let mut second = TestFrontend::connect(&fixture, FakeGuest::new());
    fixture.echo(&mut first, 0..3);
    drop(first);
    second.start();
    fixture.echo(&mut second, 3..6);
}

#[test]
fn enable_before_features_is_accepted() {
    let mut fixture = Fixture::new("early");
    let guest = FakeGuest::new();
    let mut raw = fixture.raw();
    // As QEMU: features are looked at, protocol features are set, each ring is enabled.
    raw.request(1, 0, &[]);
    raw.reply();
    let protocol = VhostUserProtocolFeatures::REPLY_ACK | VhostUserProtocolFeatures::MQ;
    raw.request(16, 0, &protocol.bits().to_ne_bytes());
    raw.request(3, 0, &[]);
    for ring in [0u32, 1] {
        raw.request(18, 8, &[ring.to_ne_bytes(), 1u32.to_ne_bytes()].concat());
        assert_eq!(raw.reply(), (18, 0u64.to_ne_bytes().to_vec()));
    }
    raw.request(2, 8, &FEATURES.to_ne_bytes());
    assert_eq!(raw.reply(), (2, 0u64.to_ne_bytes().to_vec()));
    // The rest with the crate's front-end on the same connection: enables are not repeated.
    let mut front = TestFrontend::on(raw.into_stream(), guest);
    front.negotiate();
    front.share_memory();
    front.start_without_enable([0, 0]);
    fixture.echo(&mut front, 0..5);
}

#[test]
fn without_protocol_features_rings_are_enabled_from_the_start() {
    let mut fixture = Fixture::new("plain");
    let mut front = TestFrontend::connect(&fixture, FakeGuest::new());
    front.client.set_owner().unwrap();
    let features = front.client.get_features().unwrap();
    front.client.set_features(features & !(1 << 30) & !(1 << 29)).unwrap();
    front.share_memory();
    front.start_without_enable([0, 0]);
    fixture.echo(&mut front, 0..5);
}

#[test]
fn a_reset_device_starts_anew() {
    let mut fixture = Fixture::new("reset");
    let mut front = TestFrontend::connect(&fixture, FakeGuest::new());
    front.start();
    fixture.echo(&mut front, 0..5);
    front.client.reset_device().unwrap();
    front.guest.rx.kick();
    front.start_rings([0, 0]);
    fixture.echo(&mut front, 5..10);
}

#[test]
fn kicks_need_not_be_eventfds() {
    for kind in ["pipe", "closed pipe", "file", "none"] {
        let mut fixture = Fixture::new("odd-kick");
        let mut front = TestFrontend::connect(&fixture, FakeGuest::new());
        front.start();
        let (read, write) = std::io::pipe().unwrap();
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        let base = front.client.get_vring_base(1).unwrap();
        front.configure(1, base as u16);
        let mut write = Some(write);
        match kind {
            "pipe" => front.kick_with(1, &read),
            "closed pipe" => {
                write = None;
                front.kick_with(1, &read);
            }
            "file" => front.kick_with(1, &file),
            _ => front.kick_with_nothing(1),
        }
        front.guest.tx.send(&frame(true, 1, 100));
        if let (Some(write), "pipe") = (&mut write, kind) {
            // More than a pipe holds, in all: it is drained.
            for _ in 0..40 {
                write.write_all(&[1; 4096]).unwrap();
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        }
        if kind != "closed pipe" {
            assert_eq!(fixture.next_sent(), frame(true, 1, 100), "{kind}");
        }
        fixture.assert_sleeps();
        drop(write);
        fixture.assert_sleeps();
    }
}

#[test]
fn a_guest_without_version_1_has_a_short_header() {
    let mut fixture = Fixture::new("legacy");
    let mut front = TestFrontend::connect(&fixture, FakeGuest::new());
    front.client.set_owner().unwrap();
    front.client.get_features().unwrap();
    front.client.set_features(1 << 5).unwrap();
    front.share_memory();
    front.start_without_enable([0, 0]);
    let sent = frame(true, 1, 80);
    let n = front.guest.tx.chain(&[(90, false)])[0];
    let address = front.guest.tx.buffer(n);
    front.guest.memory.write_slice(&[0; 10], GuestAddress(address)).unwrap();
    front.guest.memory.write_slice(&sent, GuestAddress(address + 10)).unwrap();
    front.guest.tx.offer(n);
    front.guest.tx.kick();
    assert_eq!(fixture.next_sent(), sent);
}

#[test]
fn the_socket_goes_with_the_server() {
    let fixture = Fixture::new("gone");
    let path = fixture.path.clone();
    let _front = TestFrontend::connect(&fixture, FakeGuest::new());
    assert!(path.exists());
    drop(fixture);
    assert!(!path.exists());
}

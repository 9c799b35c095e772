//! Front-ends that mean harm, or are broken: each costs its own connection and nothing else.

use std::io::Write;
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;

use proptest::prelude::*;
use vhost::VhostBackend;
use vm_memory::{Bytes, GuestAddress};

use super::harness::{Fixture, TestFrontend, in_own_process, message, open_descriptors, wait_for};
use crate::switchboard::fakes::{FakeGuest, GUEST_BYTES, QUEUE, frame, memfd};

#[test]
fn malformed_messages_end_their_connection() {
    let mut fixture = Fixture::new("malformed");
    let oversized = [5u32, 1, 1 << 30].map(u32::to_ne_bytes).concat();
    let cases: [(&str, Vec<u8>); 9] = [
        ("another version", [1u32, 3, 0].map(u32::to_ne_bytes).concat()),
        ("a reply", message(1, 4, &[])),
        ("an oversized message", oversized),
        ("an unknown request", message(99, 0, &[])),
        ("a request not supported", message(6, 0, &[0; 16])),
        ("a body too short", message(2, 0, &[0; 4])),
        ("features not offered", message(2, 0, &u64::MAX.to_ne_bytes())),
        ("a ring that is not there", message(8, 0, &[7; 8])),
        ("regions without descriptors", message(5, 0, &[&[1u8, 0, 0, 0][..], &[0; 36]].concat())),
    ];
    for (what, bytes) in cases {
        let mut raw = fixture.raw();
        raw.stream.write_all(&bytes).unwrap();
        raw.assert_closed();
        assert!(fixture.switchboard.is_running(), "{what}");
    }
    fixture.assert_serves();
}

#[test]
fn a_refusal_is_told_where_that_was_asked_for_and_the_connection_goes_on() {
    let fixture = Fixture::new("refusal");
    let mut raw = fixture.raw();
    raw.request(16, 0, &(1u64 << 3).to_ne_bytes());
    for (request, body) in [(99, &[0; 8][..]), (8, &[7; 8]), (2, &[255; 8]), (25, &[0; 20])] {
        raw.request(request, 8, body);
        assert_eq!(raw.reply(), (request, 1u64.to_ne_bytes().to_vec()));
    }
    raw.request(1, 0, &[]);
    assert_eq!(raw.reply().0, 1);
}

#[test]
fn a_message_that_is_never_finished_ends_the_connection() {
    let mut fixture = Fixture::new("unfinished");
    let mut raw = fixture.raw();
    raw.stream.write_all(&message(2, 0, &[0; 8])[..15]).unwrap();
    raw.assert_closed();
    let mut raw = fixture.raw();
    raw.stream.write_all(&[1, 0, 0]).unwrap();
    drop(raw);
    fixture.assert_serves();
}

#[test]
fn replies_that_nobody_reads_end_the_connection() {
    let mut fixture = Fixture::new("unread");
    let mut raw = fixture.raw();
    raw.stream.set_write_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
    let request = message(1, 0, &[]).repeat(100);
    // Ends in an error once the back-end has given up.
    while raw.stream.write_all(&request).is_ok() {}
    fixture.assert_serves();
}

#[test]
fn descriptors_that_nobody_asked_for_are_closed() {
    in_own_process(
        "vhost_user::tests::hostile::descriptors_that_nobody_asked_for_are_closed",
        || {
            let mut fixture = Fixture::new("fds");
            fixture.assert_serves();
            let file = memfd(4096);
            let one = [file.as_raw_fd()];
            let settle = |fixture: &Fixture| {
                let front = TestFrontend::connect(fixture, FakeGuest::new());
                drop(front.disconnect(fixture));
                open_descriptors()
            };
            let before = settle(&fixture);
            for fds in [1, 3, 33, 200] {
                let fds = vec![one[0]; fds];
                for request in [1u32, 3, 5, 12, 13, 37, 77] {
                    let mut raw = fixture.raw();
                    raw.request_with_fds(request, 0, &[0; 8], &fds);
                    raw.stream.shutdown(std::net::Shutdown::Write).unwrap();
                    raw.assert_closed();
                }
            }
            assert_eq!(settle(&fixture), before);
            fixture.assert_serves();
        },
    );
}

#[test]
fn a_region_larger_than_its_file_is_refused() {
    let mut fixture = Fixture::new("larger");
    let mut front = TestFrontend::connect(&fixture, FakeGuest::new());
    front.negotiate();
    let mut region = front.region();
    region.memory_size += 4096;
    assert!(front.client.set_mem_table(&[region]).is_err());
    region.memory_size = 4096;
    region.mmap_offset = GUEST_BYTES;
    assert!(front.client.set_mem_table(&[region]).is_err());
    region.mmap_offset = u64::MAX - 100;
    assert!(front.client.set_mem_table(&[region]).is_err());
    // The same connection can do better.
    front.share_memory();
    front.start_rings([0, 0]);
    fixture.echo(&mut front, 0..3);
}

#[test]
fn memory_that_is_truncated_later_costs_the_connection_only() {
    let mut fixture = Fixture::new("truncated");
    for round in 0..3 {
        let mut front = TestFrontend::connect(&fixture, FakeGuest::new());
        front.start();
        fixture.echo(&mut front, round * 10..round * 10 + 5);
        front.guest.tx.kick();
        front.guest.file.set_len(if round == 1 { 0x3000 } else { 0 }).unwrap();
        // The test's own access would fault too: only the back-end touches the memory now.
        for _ in 0..50 {
            fixture.domain.receive(&frame(false, 1, 100));
            fixture.domain.notify();
            front.guest.tx.kick();
        }
        wait_for("the end of the connection", || front.client.get_features().is_err());
        assert!(fixture.switchboard.is_running());
        std::mem::forget(front.guest.memory);
    }
    fixture.assert_serves();
    fixture.assert_no_violation();
}

#[test]
fn rings_outside_memory_are_refused() {
    let mut fixture = Fixture::new("outside");
    let mut front = TestFrontend::connect(&fixture, FakeGuest::new());
    front.negotiate();
    front.share_memory();
    front.configure(0, 0);
    front.client.set_vring_num(0, 0x4000).unwrap(); // the tables overlap and reach far
    for size in [0, 3, 0x8000] {
        front.client.set_vring_num(0, size).unwrap();
    }
    let config = vhost::VringConfigData {
        queue_max_size: QUEUE,
        queue_size: QUEUE,
        flags: 0,
        desc_table_addr: 0x1000,
        used_ring_addr: 0x2000,
        avail_ring_addr: 0x3000,
        log_addr: None,
    };
    front.client.set_vring_num(0, QUEUE).unwrap();
    front.client.set_vring_addr(0, &config).unwrap();
    assert!(front.client.set_vring_kick(0, &front.guest.rx.kick).is_err());
    front.start_rings([0, 0]);
    fixture.echo(&mut front, 0..3);
}

#[test]
fn impossible_indices_stop_the_ring_until_it_is_started_anew() {
    let mut fixture = Fixture::new("indices");
    let mut front = TestFrontend::connect(&fixture, FakeGuest::new());
    front.start();
    fixture.echo(&mut front, 0..3);
    let index = GuestAddress(front.guest.tx.avail() + 2);
    front.guest.memory.store(5000u16, index, Ordering::SeqCst).unwrap();
    front.guest.tx.kick();
    let counters = fixture.switchboard.counters();
    wait_for("the ring's end", || counters.guest_rings_broken.get() == 1);
    fixture.assert_sleeps();
    front.guest.memory.store(3u16, index, Ordering::SeqCst).unwrap();
    front.client.get_vring_base(1).unwrap();
    front.start_rings([0, 0]);
    fixture.echo(&mut front, 3..6);
}

/// A request as a fuzzer would have it: mostly known numbers, bodies of plausible size.
fn any_message() -> impl Strategy<Value = Vec<u8>> {
    let body = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..64),
        any::<u64>().prop_map(|n| n.to_ne_bytes().to_vec()),
        (0u32..3, any::<u32>()).prop_map(|(ring, n)| [ring, n].map(u32::to_ne_bytes).concat()),
        (0u64..3).prop_map(|ring| (ring | 1 << 8).to_ne_bytes().to_vec()),
    ];
    (0u32..50, any::<u8>(), body).prop_map(|(request, flags, body)| {
        // GET_ requests must not fill a socket that is not read; there are few in a case.
        message(request, u32::from(flags & 8), &body)
    })
}

#[test]
fn no_bytes_harm_the_back_end() {
    let fixture = std::cell::RefCell::new(Fixture::new("bytes"));
    let config = ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() };
    let random = prop::collection::vec(any::<u8>(), 0..200);
    let messages = prop::collection::vec(any_message(), 0..12).prop_map(|all| all.concat());
    proptest!(config, |(bytes in prop_oneof![random, messages])| {
        let fixture = fixture.borrow();
        let mut raw = fixture.raw();
        // The back-end may have closed it before all is written.
        let _ = raw.stream.write_all(&bytes);
        let _ = raw.stream.shutdown(std::net::Shutdown::Write);
        raw.assert_closed();
    });
    fixture.borrow_mut().assert_serves();
}

/// Random descriptors, indices and buffers, while frames come in.
#[test]
fn no_ring_content_harms_the_switchboard() {
    let mut fixture = Fixture::new("rings");
    let mut front = TestFrontend::connect(&fixture, FakeGuest::new());
    front.start();
    let mut seed = 0x1234_5678_9abc_def0u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for round in 0..300 {
        for ring in [&mut front.guest.rx, &mut front.guest.tx] {
            for n in 0..8 {
                let address = match random() % 4 {
                    0 => random(),
                    1 => ring.buffer(random() as u16 % QUEUE),
                    2 => ring.descriptors() + random() % 0x3000,
                    _ => ring.buffer(n),
                };
                let (len, flags) = (random() as u32 >> (random() % 32), random() as u16 & 7);
                ring.set_descriptor(
                    random() as u16 % QUEUE,
                    address,
                    len,
                    flags,
                    random() as u16 % 300,
                );
            }
            // As many chains as were used, so that the indices stay possible; ring content may
            // have been overwritten by the device itself, at the guest's own wish.
            let used =
                front.guest.memory.load::<u16>(GuestAddress(ring.used() + 2), Ordering::SeqCst);
            ring.available = used.unwrap();
            for _ in 0..4 {
                ring.offer(random() as u16 % QUEUE);
            }
            ring.kick();
        }
        if round % 8 == 0 {
            for _ in 0..4 {
                fixture.domain.receive(&frame(false, round, 300));
            }
            fixture.domain.notify();
            fixture.all_sent();
        }
        if round % 50 == 49 {
            front.client.get_vring_base(0).unwrap();
            front.client.get_vring_base(1).unwrap();
            front.start_rings([0, 0]);
        }
    }
    drop(front);
    fixture.assert_no_violation();
    // What was received meanwhile goes nowhere.
    wait_for("a rest", || {
        let frames = fixture.switchboard.counters().rx_no_guest.get();
        std::thread::sleep(std::time::Duration::from_millis(5));
        fixture.switchboard.counters().rx_no_guest.get() == frames
    });
    fixture.assert_serves();
}

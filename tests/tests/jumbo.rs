//! Frames of 9,000 bytes and frames with VLAN tags, both ways, while drivers crash.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use nic::wire::{MAX_FRAME_BYTES, Port, Wire};
use shared_ring::frame::longest;
use warmspare_tests::frontend::{Connection, GUEST_MAC, TestGuest, WRITE};
use warmspare_tests::rig::{Rig, alone};

const STATION: [u8; 6] = [0x02, 0x77, 0x73, 0, 0, 0x31];
const ETHERTYPE: [u8; 2] = [0x88, 0xb5];
/// Bytes of the header before each frame (virtio 1.3, 5.1.6).
const HEADER_BYTES: usize = 12;
/// Bytes of a descriptor's own buffer.
const BUFFER_BYTES: usize = 4096;
const FAILOVERS: u32 = 20;

/// A numbered frame of this length, each byte of which depends on its number and its place.
fn frame(to: [u8; 6], from: [u8; 6], number: u32, len: usize) -> Vec<u8> {
    let mut frame = [&to[..], &from[..], &ETHERTYPE, &number.to_le_bytes()].concat();
    frame.extend((frame.len()..len).map(|at| (at / 7) as u8 ^ number as u8));
    frame
}

/// The number of a frame of ours.
///
/// # Panics
/// Panics if it is not whole.
fn number_of(got: &[u8], from: [u8; 6], len: usize) -> Option<u32> {
    if got.get(6..12) != Some(&from[..]) || got[12..14] != ETHERTYPE {
        return None;
    }
    let number = u32::from_le_bytes(got[14..18].try_into().unwrap());
    let to = got[..6].try_into().unwrap();
    assert!(got == frame(to, from, number, len), "frame {number} is damaged");
    Some(number)
}

/// A guest and a station that exchange frames of one length.
struct Bench {
    rig: Rig,
    port: Arc<Port>,
    guest: TestGuest,
    _connection: Connection,
    len: usize,
    /// Numbers of all frames that have come to the station.
    seen: BTreeSet<u32>,
}

impl Bench {
    fn new(mtu: u16, len: usize) -> Self {
        let mut rig = Rig::start_without_app_with(|topology| topology.mtu = mtu);
        let port = rig.lan("station");
        let guest = TestGuest::new();
        let connection = Connection::start(rig.socket(), &guest);
        let seen = BTreeSet::new();
        let mut bench = Self { rig, port, guest, _connection: connection, len, seen };
        bench.guest.offer_buffers();
        bench
    }

    /// The guest sends a frame in as many descriptors as it takes.
    fn send(&mut self, number: u32) {
        while self.guest.tx.take_used().is_some() {}
        let frame = frame(STATION, GUEST_MAC, number, self.len);
        let bytes = [&[0; HEADER_BYTES][..], &frame].concat();
        let (first, size) = (self.guest.tx.next_head(), self.guest.tx.size());
        let parts: Vec<_> = bytes.chunks(BUFFER_BYTES).collect();
        for (n, part) in parts.iter().enumerate() {
            let descriptor = (first + n as u16) % size;
            self.guest.ram.write(self.guest.tx.buffer(descriptor), part);
        }
        let chain: Vec<_> = parts.iter().map(|part| (part.len() as u32, 0)).collect();
        self.guest.tx.add(&chain);
        self.guest.tx.kick();
    }

    fn send_back(&self, number: u32) {
        self.port.send(&frame(GUEST_MAC, STATION, number, self.len));
    }

    /// The next frame that the guest has received, merged from its buffers of 2 KiB.
    fn receive(&mut self) -> Option<Vec<u8>> {
        let rx = &mut self.guest.rx;
        let (head, bytes) = rx.take_used()?;
        let mut whole = self.guest.ram.read(rx.buffer(head), bytes as usize);
        for _ in 1..u16::from_le_bytes([whole[10], whole[11]]) {
            let (head, bytes) = rx.take_used().expect("all parts of a frame at once");
            whole.extend(self.guest.ram.read(rx.buffer(head), bytes as usize));
        }
        Some(whole.split_off(HEADER_BYTES))
    }

    /// Numbers of the frames that have come to the guest.
    fn at_guest(&mut self) -> Vec<u32> {
        let len = self.len;
        let frames: Vec<_> = std::iter::from_fn(|| self.receive()).collect();
        while self.guest.rx.outstanding() < 100 {
            self.guest.rx.add(&[(2048, WRITE)]);
        }
        self.guest.rx.kick();
        frames.iter().filter_map(|frame| number_of(frame, STATION, len)).collect()
    }

    /// Numbers of the frames that have come to the station.
    fn at_station(&self) -> Vec<u32> {
        let mut bytes = vec![0; MAX_FRAME_BYTES];
        std::iter::from_fn(|| self.port.receive(&mut bytes).map(|len| bytes[..len].to_vec()))
            .filter_map(|frame| number_of(&frame, GUEST_MAC, self.len))
            .collect()
    }

    /// Exchanges frames from this number on until one has gone each way.
    fn exchange(&mut self, number: &mut u32) {
        let (mut out, mut back) = (false, false);
        for _ in 0..5000 {
            *number += 1;
            self.send(*number);
            self.send_back(*number);
            std::thread::sleep(Duration::from_millis(1));
            let seen = self.at_station();
            out |= !seen.is_empty();
            self.seen.extend(seen);
            back |= !self.at_guest().is_empty();
            if out && back {
                return;
            }
        }
        panic!("out: {out}, back: {back}");
    }
}

#[test]
fn frames_of_9000_bytes_go_both_ways_through_failovers() {
    let _alone = alone();
    let mut bench = Bench::new(9000, 9014);
    let mut number = 0;
    bench.exchange(&mut number);
    let mut sent = BTreeSet::new();
    for _ in 0..FAILOVERS {
        bench.rig.wait_whole();
        let failed = bench.rig.crash_active();
        for _ in 0..30 {
            number += 1;
            bench.send(number);
            sent.insert(number);
            bench.send_back(number);
            std::thread::sleep(Duration::from_micros(300));
            let seen = bench.at_station();
            bench.seen.extend(seen);
            bench.at_guest();
        }
        assert_eq!(bench.rig.wait_failover().record.from, failed);
        bench.exchange(&mut number);
    }
    for _ in 0..1000 {
        let seen = bench.at_station();
        bench.seen.extend(seen);
        if sent.is_subset(&bench.seen) {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let missing: Vec<_> = sent.difference(&bench.seen).collect();
    let counters = bench.rig.system.switchboard().counters();
    assert!(counters.tx_resent.get() > 0, "frames were in hand at a failure");
    assert_eq!(counters.tx_poisoned.get(), 0);
    assert_eq!(counters.violations.get(), 0);
    assert_eq!((counters.rx_too_long.get(), counters.tx_too_long.get()), (0, 0));
    assert!(missing.is_empty(), "never sent: {missing:?}");
}

#[test]
fn frames_of_full_size_with_three_tags_pass_by_default_and_no_longer_ones() {
    let _alone = alone();
    let mut bench = Bench::new(1500, longest(1500));
    assert_eq!(bench.len, 1518 - 4 + 12, "without the frame check sequence");
    let mut number = 0;
    bench.exchange(&mut number);
    bench.rig.switch();
    bench.exchange(&mut number);
    bench.rig.run_for(Duration::from_millis(20));
    drop((bench.at_station(), bench.at_guest()));
    bench.len += 1;
    for _ in 0..10 {
        number += 1;
        bench.send(number);
        bench.send_back(number);
    }
    bench.rig.wait("all to be refused and counted", |rig| {
        let refused: u64 = rig.system.slots().iter().map(|it| it.nic.counters().too_long).sum();
        let counters = rig.system.switchboard().counters();
        counters.tx_too_long.get() == 10 && refused + counters.rx_too_long.get() == 10
    });
    assert_eq!((bench.at_station().len(), bench.at_guest().len()), (0, 0));
}

//! Habits of real front-ends that have broken back-ends: QEMU's order of messages, its stops and
//! resets, and guests whose rings are not checked because no kick came.

use std::os::fd::AsRawFd;
use std::time::Duration;

use lab::fault::{self, Site};
use warmspare_tests::frontend::{
    DriverRing, GUEST_MAC, RawFrontend, Request, TestGuest, body, frame, number_of, wait,
};

use crate::Bench;

/// Virtio features that QEMU accepts for a Linux guest, out of those offered.
const DRIVER_FEATURES: u64 = 1 << 32 | 1 << 29 | 1 << 28 | 1 << 15 | 1 << 16 | 1 << 5;
/// Feature bit 30, which stands for the protocol features.
const BIT_30: u64 = 1 << 30;
/// Protocol features that QEMU accepts: bits 0 to 8 and 10 to 19.
const QEMU_PROTOCOL: u64 = 0xf_fdff;

/// QEMU's side of a connection.
struct Qemu {
    raw: RawFrontend,
}

impl Qemu {
    /// Sends all that QEMU sends before the guest has a driver.
    fn connect(bench: &Bench, guest: &TestGuest) -> Self {
        let raw = RawFrontend::connect(bench.rig.socket());
        let features = raw.get(Request::GET_FEATURES, &[]).number();
        assert_eq!(features & (DRIVER_FEATURES | BIT_30), DRIVER_FEATURES | BIT_30);
        let protocol = raw.get(Request::GET_PROTOCOL_FEATURES, &[]).number() & QEMU_PROTOCOL;
        raw.send(Request::SET_PROTOCOL_FEATURES, &body::number(protocol), &[]);
        // QEMU takes a back-end without MQ for one of a single pair, and asks no further.
        assert_eq!(protocol & 1, 0);
        assert!(raw.get(Request::GET_MAX_MEM_SLOTS, &[]).number() >= 8);
        raw.send(Request::SET_OWNER, &[], &[]);
        raw.get(Request::GET_FEATURES, &[]);
        let this = Self { raw };
        for ring in guest.rings() {
            this.set_call(ring);
            let none = body::number(u64::from(ring.index) | 0x100);
            this.raw.send(Request::SET_VRING_ERR, &none, &[]);
        }
        this.enable(guest);
        this
    }

    fn set_call(&self, ring: &DriverRing) {
        let (number, fd) = (body::number(u64::from(ring.index)), ring.call_event().as_raw_fd());
        self.raw.send(Request::SET_VRING_CALL, &number, &[fd]);
    }

    /// Enables the rings and waits for the reply; QEMU does this before SET_FEATURES.
    fn enable(&self, guest: &TestGuest) {
        for ring in guest.rings() {
            let enabled = self.raw.ask(Request::SET_VRING_ENABLE, &body::state(ring.index, 1), &[]);
            assert_eq!(enabled, 0);
        }
    }

    /// Sends what QEMU sends when the driver is ready.
    fn start(&self, guest: &TestGuest) {
        self.enable(guest);
        let features = body::number(DRIVER_FEATURES | BIT_30);
        self.raw.send(Request::SET_FEATURES, &features, &[]);
        let fd = guest.ram.file().as_raw_fd();
        let region = body::single(&body::whole(guest));
        assert_eq!(self.raw.ask(Request::ADD_MEM_REG, &region, &[fd]), 0);
        for ring in guest.rings() {
            let base = u32::from(ring.used_index());
            let send = |request, body: Vec<u8>| self.raw.send(request, &body, &[]);
            send(Request::SET_VRING_NUM, body::state(ring.index, u32::from(ring.size())));
            send(Request::SET_VRING_BASE, body::state(ring.index, base));
            assert_eq!(self.raw.ask(Request::SET_VRING_ADDR, &body::addresses(ring), &[]), 0);
            let kick = ring.kick_event().as_raw_fd();
            self.raw.send(Request::SET_VRING_KICK, &body::number(u64::from(ring.index)), &[kick]);
            self.set_call(ring);
        }
        self.set_status(0xf);
    }

    fn set_status(&self, status: u64) {
        self.raw.send(Request::SET_STATUS, &body::number(status), &[]);
        assert_eq!(self.raw.get(Request::GET_STATUS, &[]).number(), status);
    }

    /// Sends what QEMU sends when the machine stops, and at a reset; returns the rings' positions.
    fn stop(&self, guest: &TestGuest) -> [u32; 2] {
        guest.rings().map(|ring| {
            let reply = self.raw.get(Request::GET_VRING_BASE, &body::state(ring.index, 0));
            assert_eq!(reply.body[..4], ring.index.to_ne_bytes());
            u32::from_ne_bytes(reply.body[4..].try_into().unwrap())
        })
    }

    fn remove_memory(&self, guest: &TestGuest) {
        let region = body::single(&body::whole(guest));
        assert_eq!(self.raw.ask(Request::REM_MEM_REG, &region, &[]), 0);
    }
}

#[test]
fn qemus_order_of_messages_is_served() {
    let mut bench = Bench::new();
    let mut guest = TestGuest::new();
    let qemu = Qemu::connect(&bench, &guest);
    // QEMU resets devices several times before Linux is up.
    for _ in 0..4 {
        qemu.set_status(0);
        qemu.enable(&guest);
    }
    qemu.start(&guest);
    bench.exchange(&mut guest);
}

#[test]
fn a_machine_that_stops_and_goes_on_loses_and_repeats_nothing() {
    let mut bench = Bench::new();
    let mut guest = TestGuest::new();
    let qemu = Qemu::connect(&bench, &guest);
    let mut expected = Vec::new();
    for round in 0..10 {
        qemu.start(&guest);
        guest.offer_buffers();
        for n in 0..20 {
            guest.send(&frame(bench.lan.mac, GUEST_MAC, round * 100 + n));
            expected.push(round * 100 + n);
        }
        // The stop comes while frames are in flight.
        let positions = qemu.stop(&guest);
        let used = guest.rings().map(|ring| u32::from(ring.used_index()));
        assert_eq!(positions, used, "nothing is in flight between turns");
        bench.rig.run_for(Duration::from_millis(2));
        assert_eq!(guest.rings().map(|ring| u32::from(ring.used_index())), used);
        qemu.remove_memory(&guest);
    }
    qemu.start(&guest);
    wait("all chains", || guest.tx.outstanding() == 0);
    bench.lan.expect(919);
    assert_eq!(bench.lan.take_seen(), expected);
    bench.exchange(&mut guest);
}

#[test]
fn a_position_is_told_back_where_the_ring_never_ran() {
    let bench = Bench::new();
    let raw = RawFrontend::negotiate(bench.rig.socket());
    raw.send(Request::SET_VRING_BASE, &body::state(1, 4321), &[]);
    let reply = raw.get(Request::GET_VRING_BASE, &body::state(1, 0));
    assert_eq!(reply.body, body::state(1, 4321));
}

#[test]
fn after_a_reset_nothing_is_touched_until_the_rings_start_again() {
    let mut bench = Bench::new();
    let reset_device = |qemu: &Qemu| assert_eq!(qemu.raw.ask(Request::RESET_DEVICE, &[], &[]), 0);
    let resets: [&dyn Fn(&Qemu); 2] = [&reset_device, &|qemu| qemu.set_status(0)];
    for reset in resets {
        let mut guest = TestGuest::new();
        let qemu = Qemu::connect(&bench, &guest);
        qemu.start(&guest);
        bench.exchange(&mut guest);
        bench.lan.take_seen();
        reset(&qemu);
        guest.send(&frame(bench.lan.mac, GUEST_MAC, 5));
        bench.lan.expect_silence(Duration::from_millis(20));
        assert_eq!(guest.tx.outstanding(), 1);
        qemu.remove_memory(&guest);
        // A driver starts anew in the same memory, with rings that it has cleared.
        let mut fresh = TestGuest::new();
        qemu.start(&fresh);
        bench.exchange(&mut fresh);
    }
}

#[test]
fn both_rings_are_looked_at_without_a_kick() {
    let bench = Bench::new();
    let mut guest = TestGuest::new();
    guest.rx.add(&[(2048, warmspare_tests::frontend::WRITE)]);
    guest.queue(&frame(bench.lan.mac, GUEST_MAC, 31));
    let qemu = Qemu::connect(&bench, &guest);
    qemu.start(&guest);
    bench.lan.expect(31);
    bench.lan.send(32);
    let mut received = None;
    wait("a frame for the guest", || {
        received = guest.receive();
        received.is_some()
    });
    assert_eq!(number_of(&received.unwrap()), Some(32));
}

#[test]
fn a_disabled_ring_moves_nothing_and_an_enabled_one_does() {
    let mut bench = Bench::new();
    let mut guest = TestGuest::new();
    let qemu = Qemu::connect(&bench, &guest);
    qemu.start(&guest);
    bench.exchange(&mut guest);
    for _ in 0..3 {
        for ring in [0, 1] {
            assert_eq!(qemu.raw.ask(Request::SET_VRING_ENABLE, &body::state(ring, 0), &[]), 0);
        }
        bench.lan.take_seen();
        guest.offer_buffers();
        guest.send(&frame(bench.lan.mac, GUEST_MAC, 8));
        bench.lan.send(9);
        bench.lan.expect_silence(Duration::from_millis(10));
        assert!(guest.receive().is_none());
        qemu.enable(&guest);
        bench.exchange(&mut guest);
    }
}

#[test]
fn failovers_happen_behind_an_open_socket() {
    let mut bench = Bench::new();
    let mut guest = TestGuest::new();
    let qemu = Qemu::connect(&bench, &guest);
    qemu.start(&guest);
    for _ in 0..3 {
        let failed = bench.rig.active();
        let life = bench.rig.system.failover().life(failed).unwrap();
        fault::corrupt_code(bench.rig.slot(failed), life.image(), Site::Loop).unwrap();
        // The message thread stops and starts rings all the while, and the driver has work to do.
        for n in 0..50 {
            guest.send(&frame(bench.lan.mac, GUEST_MAC, n));
            qemu.stop(&guest);
            qemu.remove_memory(&guest);
            qemu.start(&guest);
        }
        assert_eq!(bench.rig.wait_failover().record.from, failed);
        bench.exchange(&mut guest);
        bench.rig.wait_whole();
    }
    assert!(qemu.raw.is_alive());
}

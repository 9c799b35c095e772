//! Front-ends that count a device's queues in their own ways. Each ends up with one pair of queues.
//!
//! The order of messages and the counting are those of Cloud Hypervisor after v53.0 (revision
//! ae44c29, 20 August 2026) and of crosvm (revision f1e797a, 21 August 2026). QEMU's are in
//! [`crate::habits`].

use std::os::fd::AsRawFd;

use warmspare_tests::frontend::{DriverRing, RawFrontend, Request, TestGuest, body};

use crate::Bench;

/// `VHOST_USER_PROTOCOL_F_MQ`.
const MQ: u64 = 1;
/// `VHOST_USER_PROTOCOL_F_CONFIG`.
const CONFIG: u64 = 1 << 9;
/// Bit 30, which stands for the protocol features.
const BIT_30: u64 = 1 << 30;

/// Carries a request out in the way of a front-end: with an acknowledgement, or without.
type Say = fn(&RawFrontend, Request, &[u8], &[i32]);

fn acknowledged(raw: &RawFrontend, request: Request, body: &[u8], fds: &[i32]) {
    assert_eq!(raw.ask(request, body, fds), 0, "{request:?}");
}

fn unacknowledged(raw: &RawFrontend, request: Request, body: &[u8], fds: &[i32]) {
    raw.send(request, body, fds);
}

fn fd_of(ring: &DriverRing, kick: bool) -> i32 {
    if kick { ring.kick_event().as_raw_fd() } else { ring.call_event().as_raw_fd() }
}

/// Negotiates what is in both masks. Returns the virtio features and the protocol features.
fn negotiate(raw: &RawFrontend, features: u64, protocol: u64) -> (u64, u64) {
    raw.send(Request::SET_OWNER, &[], &[]);
    let features = raw.get(Request::GET_FEATURES, &[]).number() & features;
    assert_ne!(features & BIT_30, 0);
    let protocol = raw.get(Request::GET_PROTOCOL_FEATURES, &[]).number() & protocol;
    raw.send(Request::SET_PROTOCOL_FEATURES, &body::number(protocol), &[]);
    (features, protocol)
}

/// The queues that a front-end counts: those that the back-end names, or its own number.
fn queues(raw: &RawFrontend, protocol: u64, otherwise: u64) -> u64 {
    match protocol & MQ {
        0 => otherwise,
        _ => raw.get(Request::GET_QUEUE_NUM, &[]).number(),
    }
}

fn describe(raw: &RawFrontend, ring: &DriverRing, say: Say) {
    let index = body::number(u64::from(ring.index));
    say(raw, Request::SET_VRING_ADDR, &body::addresses(ring), &[]);
    let base = u32::from(ring.used_index());
    say(raw, Request::SET_VRING_BASE, &body::state(ring.index, base), &[]);
    say(raw, Request::SET_VRING_CALL, &index, &[fd_of(ring, false)]);
    say(raw, Request::SET_VRING_KICK, &index, &[fd_of(ring, true)]);
}

fn share(raw: &RawFrontend, guest: &TestGuest, say: Say) {
    let fd = guest.ram.file().as_raw_fd();
    say(raw, Request::SET_MEM_TABLE, &body::table(&[body::whole(guest)]), &[fd]);
}

fn set_size(raw: &RawFrontend, ring: &DriverRing, say: Say) {
    let size = body::state(ring.index, u32::from(ring.size()));
    say(raw, Request::SET_VRING_NUM, &size, &[]);
}

fn enable(raw: &RawFrontend, ring: &DriverRing, on: bool, say: Say) {
    say(raw, Request::SET_VRING_ENABLE, &body::state(ring.index, u32::from(on)), &[]);
}

/// Both rings stop as at a driver's reset: disabled, then asked for their positions.
fn reset(raw: &RawFrontend, guest: &TestGuest, say: Say) {
    for ring in guest.rings() {
        enable(raw, ring, false, say);
        raw.get(Request::GET_VRING_BASE, &body::state(ring.index, 0));
    }
}

/// Cloud Hypervisor with one pair, as its command line asks by default. It refuses a back-end of
/// fewer queues.
struct CloudHypervisor {
    raw: RawFrontend,
    features: u64,
}

impl CloudHypervisor {
    const FEATURES: u64 =
        1 << 32 | 1 << 29 | BIT_30 | 1 << 15 | 1 << 17 | 1 << 21 | 1 << 5 | 1 << 3 | 1 << 22 | 1;
    /// MQ, LOG_SHMFD, REPLY_ACK, CONFIG, INFLIGHT_SHMFD, CONFIGURE_MEM_SLOTS, DEVICE_STATE.
    const PROTOCOL: u64 = MQ | 1 << 1 | 1 << 3 | CONFIG | 1 << 12 | 1 << 15 | 1 << 19;
    const QUEUES: u64 = 2;

    fn connect(bench: &Bench) -> Self {
        let raw = RawFrontend::connect(bench.rig.socket());
        let (features, protocol) = negotiate(&raw, Self::FEATURES, Self::PROTOCOL);
        let most = queues(&raw, protocol, Self::QUEUES);
        assert!(Self::QUEUES <= most, "it refuses a back-end of {most} queues");
        if protocol & CONFIG != 0 {
            let head: Vec<u8> = [0u32, 24, 1].iter().flat_map(|word| word.to_ne_bytes()).collect();
            let reply = raw.get(Request::GET_CONFIG, &[head, vec![0; 24]].concat());
            assert_eq!(reply.body.len(), 36);
        }
        Self { raw, features }
    }

    fn activate(&self, guest: &TestGuest) {
        let say: Say = acknowledged;
        say(&self.raw, Request::SET_FEATURES, &body::number(self.features), &[]);
        share(&self.raw, guest, say);
        guest.rings().iter().for_each(|ring| set_size(&self.raw, ring, say));
        guest.rings().iter().for_each(|ring| describe(&self.raw, ring, say));
        guest.rings().iter().for_each(|ring| enable(&self.raw, ring, true, say));
    }
}

/// crosvm. It takes the back-end's number of queues, or three without one (the third would be the
/// control queue), and waits for no acknowledgement.
struct Crosvm {
    raw: RawFrontend,
    features: u64,
    queues: u64,
}

impl Crosvm {
    /// The device's own bits, and those of the ring that it knows.
    const FEATURES: u64 = 0xff_ffff | 1 << 28 | 1 << 29 | BIT_30 | 1 << 32;
    /// MQ, REPLY_ACK, BACKEND_REQ, CONFIG, DEVICE_STATE, SHMEM.
    const PROTOCOL: u64 = MQ | 1 << 3 | 1 << 5 | CONFIG | 1 << 19 | 1 << 20;

    fn connect(bench: &Bench) -> Self {
        let raw = RawFrontend::connect(bench.rig.socket());
        let (features, protocol) = negotiate(&raw, Self::FEATURES, Self::PROTOCOL);
        let queues = queues(&raw, protocol, 3);
        Self { raw, features, queues }
    }

    fn activate(&self, guest: &TestGuest) {
        let say: Say = unacknowledged;
        say(&self.raw, Request::SET_FEATURES, &body::number(self.features), &[]);
        share(&self.raw, guest, say);
        for ring in guest.rings() {
            assert!(u64::from(ring.index) < self.queues, "the device lacks queue {}", ring.index);
            set_size(&self.raw, ring, say);
            describe(&self.raw, ring, say);
            enable(&self.raw, ring, true, say);
        }
    }
}

#[test]
fn cloud_hypervisor_accepts_the_device_and_is_served_again_after_a_reset() {
    let mut bench = Bench::new();
    let front_end = CloudHypervisor::connect(&bench);
    for _ in 0..3 {
        let mut guest = TestGuest::new();
        front_end.activate(&guest);
        bench.exchange(&mut guest);
        reset(&front_end.raw, &guest, acknowledged);
    }
}

#[test]
fn crosvm_makes_a_device_that_sends_and_receives_and_is_served_again_after_a_reset() {
    let mut bench = Bench::new();
    let front_end = Crosvm::connect(&bench);
    for _ in 0..3 {
        let mut guest = TestGuest::new();
        front_end.activate(&guest);
        bench.exchange(&mut guest);
        reset(&front_end.raw, &guest, unacknowledged);
    }
    assert!(front_end.raw.is_alive());
}

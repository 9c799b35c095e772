//! A switchboard behind a socket, and the two ways to talk to it.

use std::fs::File;
use std::io::{Read, Write};
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vhost::vhost_user::message::VhostUserHeaderFlag;
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vmm_sys_util::eventfd::EventFd;
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

use super::super::{VhostUserConfig, VhostUserServer};
use crate::domain::{DomainId, DomainSlot};
use crate::switchboard::fakes::{
    FakeDomain, FakeGuest, FakeNic, FakeRing, GUEST_BASE, GUEST_BYTES, MAC, QUEUE, Violations,
    duplicate, frame, slots,
};
use crate::switchboard::{Switchboard, SwitchboardConfig};

/// Where the fake front-end has the guest's memory in its own address space.
const USER_BASE: u64 = 0x7f00_0000_0000;

/// Waits for something that another thread does, at most a few seconds.
pub(super) fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let since = Instant::now();
    while !done() {
        assert!(since.elapsed() < Duration::from_secs(5), "{what} did not come");
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Open descriptors of this process.
pub(super) fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Runs a test's body in a process of its own: descriptors are counted by process.
pub(super) fn in_own_process(name: &str, body: impl FnOnce()) {
    const ALONE: &str = "WARMSPARE_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return body();
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}\n{errors}");
}

/// The back-end, with domain 0 active and played by the test.
pub(super) struct Fixture {
    // Dropped in this order.
    pub(super) server: VhostUserServer,
    pub(super) switchboard: Switchboard,
    pub(super) domain: FakeDomain,
    pub(super) path: PathBuf,
    nic: Arc<FakeNic>,
    violations: Arc<Violations>,
    /// Frames taken from the domain's ring that no test has asked for.
    sent: std::collections::VecDeque<Vec<u8>>,
    _slots: Vec<Arc<DomainSlot>>,
}

impl Fixture {
    pub(super) fn new(name: &str) -> Self {
        let (slots, [nic, _]) = slots();
        let violations = Arc::new(Violations::default());
        let switchboard = Switchboard::spawn(SwitchboardConfig {
            slots: slots.clone(),
            tx_pool: slots[0].tx_pool.clone(),
            mac: MAC,
            violations: violations.clone(),
        })
        .unwrap();
        switchboard.install(DomainId(0), 1).unwrap();
        switchboard.activate(DomainId(0), 1).unwrap();
        let unique = format!("warmspare-{name}-{}-{:?}", std::process::id(), Instant::now());
        let unique: String = unique.chars().filter(|c| c.is_alphanumeric() || *c == '-').collect();
        let path = std::env::temp_dir().join(&unique[..unique.len().min(60)]);
        let config = VhostUserConfig { name: name.to_owned(), socket: path.clone(), mac: MAC };
        let server = VhostUserServer::spawn(config, switchboard.port()).unwrap();
        let domain = FakeDomain::new(&slots[0], 1);
        let sent = Default::default();
        Self { server, switchboard, domain, path, nic, violations, sent, _slots: slots }
    }

    /// Takes what was posted to the domain, claims it and has the NIC count it.
    fn pump(&mut self) {
        let taken = self.domain.take_posted(1024);
        self.nic.send(taken.len() as u32);
        let buffers = self.domain.in_hand.len();
        self.domain.claim(buffers);
        self.domain.notify();
        self.sent.extend(taken);
    }

    /// The next frame that the domain was given.
    pub(super) fn next_sent(&mut self) -> Vec<u8> {
        wait_for("a frame for the domain", || {
            self.pump();
            !self.sent.is_empty()
        });
        self.sent.pop_front().unwrap()
    }

    /// All frames that the domain was given by now.
    pub(super) fn all_sent(&mut self) -> Vec<Vec<u8>> {
        self.pump();
        self.sent.drain(..).collect()
    }

    /// Each number goes from the guest to the domain and back to the guest.
    pub(super) fn echo(&mut self, front: &mut TestFrontend, numbers: Range<u32>) {
        for number in numbers {
            front.guest.rx.add(&[(2048, true)]);
            front.guest.tx.send(&frame(true, number, 100));
            front.guest.tx.kick();
            assert_eq!(self.next_sent(), frame(true, number, 100));
            self.domain.receive(&frame(false, number, 200));
            self.domain.notify();
            let mut received = None;
            wait_for("a frame for the guest", || {
                received = front.guest.rx.take_received();
                received.is_some()
            });
            assert_eq!(received.unwrap().1, frame(false, number, 200));
            front.guest.tx.drain_used();
        }
    }

    pub(super) fn assert_no_violation(&self) {
        assert_eq!(self.violations.0.lock().unwrap()[..], []);
    }

    /// That the switchboard sleeps between whatever wakes it.
    pub(super) fn assert_sleeps(&self) {
        let turns = self.switchboard.counters().turns.get();
        std::thread::sleep(Duration::from_millis(50));
        let turns = self.switchboard.counters().turns.get() - turns;
        assert!(turns < 500, "{turns} turns in 50 ms");
        assert!(self.switchboard.is_running());
    }

    /// That the back-end serves a well-behaved front-end.
    pub(super) fn assert_serves(&mut self) {
        let mut front = TestFrontend::connect(self, FakeGuest::new());
        front.start();
        self.all_sent();
        self.echo(&mut front, 1000..1003);
    }

    /// A connection for raw bytes.
    pub(super) fn raw(&self) -> Raw {
        let stream = UnixStream::connect(&self.path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        Raw { stream }
    }
}

/// A front-end of bytes.
pub(super) struct Raw {
    pub(super) stream: UnixStream,
}

impl Raw {
    pub(super) fn request(&mut self, request: u32, flags: u32, body: &[u8]) {
        self.stream.write_all(&message(request, flags, body)).unwrap();
    }

    pub(super) fn request_with_fds(
        &mut self,
        request: u32,
        flags: u32,
        body: &[u8],
        fds: &[RawFd],
    ) {
        let bytes = message(request, flags, body);
        self.stream.send_with_fds(&[&bytes[..]], fds).unwrap();
    }

    /// The next reply: request and body.
    pub(super) fn reply(&mut self) -> (u32, Vec<u8>) {
        let mut words = [0; 12];
        self.stream.read_exact(&mut words).unwrap();
        let word = |n: usize| u32::from_ne_bytes(words[4 * n..4 * n + 4].try_into().unwrap());
        assert_eq!(word(1) & 7, 5, "a reply");
        let mut body = vec![0; word(2) as usize];
        self.stream.read_exact(&mut body).unwrap();
        (word(0), body)
    }

    /// That the back-end closes the connection, within its deadlines.
    pub(super) fn assert_closed(&mut self) {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
            Err(error) => panic!("not closed: {error}"),
        }
    }

    pub(super) fn into_stream(self) -> UnixStream {
        self.stream
    }
}

/// The bytes of a message; `flags` beside the version.
pub(super) fn message(request: u32, flags: u32, body: &[u8]) -> Vec<u8> {
    let words = [request, flags | 1, body.len() as u32];
    let mut bytes: Vec<u8> = words.into_iter().flat_map(u32::to_ne_bytes).collect();
    bytes.extend_from_slice(body);
    bytes
}

/// The `vhost` crate's front-end with a guest.
pub(super) struct TestFrontend {
    pub(super) client: Frontend,
    pub(super) guest: FakeGuest,
    /// The connection once more, for what the crate's front-end does not send.
    stream: UnixStream,
}

impl TestFrontend {
    pub(super) fn connect(fixture: &Fixture, guest: FakeGuest) -> Self {
        Self::on(UnixStream::connect(&fixture.path).unwrap(), guest)
    }

    pub(super) fn on(stream: UnixStream, guest: FakeGuest) -> Self {
        let client = Frontend::from_stream(stream.try_clone().unwrap(), 2);
        Self { client, guest, stream }
    }

    /// Ends the connection and waits until nothing of it is left.
    pub(super) fn disconnect(self, fixture: &Fixture) -> FakeGuest {
        let Self { client, guest, stream } = self;
        drop((client, stream));
        // The next connection is accepted only after the end of this one.
        let mut raw = fixture.raw();
        raw.request(1, 0, &[]);
        raw.reply();
        drop(raw);
        let seen = fixture.server.connections();
        let mut raw = fixture.raw();
        raw.request(1, 0, &[]);
        raw.reply();
        assert!(fixture.server.connections() > seen);
        drop(raw);
        wait_for("the end of the connection", || unused(fixture));
        guest
    }

    pub(super) fn negotiate(&mut self) {
        self.client.set_owner().unwrap();
        let mut features = self.client.get_features().unwrap();
        if !self.guest.event_idx {
            features &= !(1 << 29);
        }
        let protocol = self.client.get_protocol_features().unwrap();
        self.client.set_protocol_features(protocol).unwrap();
        self.client.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        self.client.set_features(features).unwrap();
    }

    pub(super) fn region(&self) -> VhostUserMemoryRegionInfo {
        VhostUserMemoryRegionInfo {
            guest_phys_addr: GUEST_BASE,
            memory_size: GUEST_BYTES,
            userspace_addr: USER_BASE,
            mmap_offset: 0,
            mmap_handle: self.guest.file.as_raw_fd(),
        }
    }

    pub(super) fn share_memory(&self) {
        self.client.set_mem_table(&[self.region()]).unwrap();
    }

    fn ring(&self, index: usize) -> &FakeRing {
        if index == 0 { &self.guest.rx } else { &self.guest.tx }
    }

    /// Everything of a ring but its kick.
    pub(super) fn configure(&mut self, index: usize, base: u16) {
        let user = |address: u64| address - GUEST_BASE + USER_BASE;
        let ring = self.ring(index);
        let config = VringConfigData {
            queue_max_size: QUEUE,
            queue_size: QUEUE,
            flags: 0,
            desc_table_addr: user(ring.descriptors()),
            used_ring_addr: user(ring.used()),
            avail_ring_addr: user(ring.avail()),
            log_addr: None,
        };
        self.client.set_vring_num(index, QUEUE).unwrap();
        self.client.set_vring_base(index, base).unwrap();
        self.client.set_vring_addr(index, &config).unwrap();
        self.client.set_vring_call(index, &self.ring(index).call).unwrap();
    }

    pub(super) fn start_without_enable(&mut self, bases: [u16; 2]) {
        for (index, base) in bases.into_iter().enumerate() {
            self.configure(index, base);
            self.client.set_vring_kick(index, &self.ring(index).kick).unwrap();
        }
        // Without acknowledgements a reply shows that the rest was done.
        self.client.get_features().unwrap();
    }

    pub(super) fn start_rings(&mut self, bases: [u16; 2]) {
        self.start_without_enable(bases);
        for index in 0..2 {
            self.client.set_vring_enable(index, true).unwrap();
        }
    }

    /// All of it, as if nothing had been before.
    pub(super) fn start(&mut self) {
        self.negotiate();
        self.share_memory();
        self.start_rings([0, 0]);
    }

    /// Starts a ring with whatever descriptor as its kick.
    pub(super) fn kick_with(&mut self, index: usize, fd: &impl AsRawFd) {
        // The crate's front-end takes an EventFd, which is but a descriptor.
        let file = File::from(duplicate(fd));
        // SAFETY: the descriptor is given away by `into_raw_fd`.
        let event = unsafe { EventFd::from_raw_fd(std::os::fd::IntoRawFd::into_raw_fd(file)) };
        self.client.set_vring_kick(index, &event).unwrap();
    }

    /// Starts a ring that is to be polled.
    pub(super) fn kick_with_nothing(&mut self, index: usize) {
        let body = (index as u64 | 1 << 8).to_ne_bytes();
        self.stream.write_all(&message(12, 0, &body)).unwrap();
        self.client.get_features().unwrap();
    }
}

/// Whether no connection is being served: what the last one had is given back.
fn unused(fixture: &Fixture) -> bool {
    let text = std::fs::read_to_string("/proc/net/unix").unwrap();
    let path = fixture.path.to_str().unwrap();
    // The listener alone has the path then.
    text.lines().filter(|line| line.ends_with(path)).count() == 1
}

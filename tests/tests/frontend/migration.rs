//! Live migration of guests: the log of written pages.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use lab::fault::{Cause, Victim};
use warmspare_tests::frontend::{
    DriverRing, FEATURES, GUEST_BASE, GUEST_MAC, GuestRam, RawFrontend, Request, TestGuest, body,
    frame, memfd, open_fds, wait,
};

use crate::Bench;

/// `VHOST_F_LOG_ALL`.
const LOG_ALL: u64 = 1 << 26;
const PAGE: u64 = 4096;
/// Variant of the hang fault: the transmit path.
const IN_TRANSMIT: usize = 1;
/// Number of guests that leave while their driver hangs.
const DEPARTURES: usize = 5;
/// How long the test waits for a frame that must not be sent again.
const QUIET: Duration = Duration::from_millis(50);

fn log_bytes(guest: &TestGuest) -> u64 {
    (GUEST_BASE + guest.ram.bytes()) / PAGE / 8
}

/// A log as a front-end has it: mapped, and cleared while the back-end writes to it.
struct Log {
    file: File,
    bytes: usize,
    map: *mut AtomicU8,
}

impl Log {
    fn new(guest: &TestGuest) -> Self {
        let bytes = log_bytes(guest) as usize;
        let file = memfd(bytes as u64);
        // SAFETY: the call makes a new mapping of a file of the same length; the result is checked.
        let map = unsafe {
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            let fd = file.as_raw_fd();
            libc::mmap(std::ptr::null_mut(), bytes, protection, libc::MAP_SHARED, fd, 0)
        };
        assert_ne!(map, libc::MAP_FAILED);
        Self { file, bytes, map: map.cast() }
    }

    /// Clears the marks and returns the addresses of the marked pages.
    fn take(&self) -> BTreeSet<u64> {
        // SAFETY: `new` has mapped this memory, and it stays mapped as long as `self` lives.
        let log = unsafe { std::slice::from_raw_parts(self.map, self.bytes) };
        let bytes = log.iter().map(|byte| byte.swap(0, Ordering::SeqCst)).enumerate();
        let pages = bytes.flat_map(|(n, byte)| {
            (0..8).filter(move |bit| byte >> bit & 1 != 0).map(move |bit| 8 * n as u64 + bit)
        });
        pages.map(|page| page * PAGE).collect()
    }

    fn give(&self, raw: &RawFrontend) {
        let body = [self.bytes as u64, 0].iter().flat_map(|w| w.to_ne_bytes()).collect::<Vec<_>>();
        // Like QEMU, this does not set the flag that asks for the reply.
        raw.send(Request::SET_LOG_BASE, &body, &[self.file.as_raw_fd()]);
        assert_eq!(raw.reply().expect("a reply").request, Request::SET_LOG_BASE as u32);
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // SAFETY: `new` has mapped this memory, and nothing refers to it any more.
        unsafe { libc::munmap(self.map.cast(), self.bytes) };
    }
}

/// Switches logging on or off, in QEMU's order.
fn set_logging(raw: &RawFrontend, guest: &TestGuest, on: bool) {
    let features = if on { FEATURES | LOG_ALL } else { FEATURES };
    assert_eq!(raw.ask(Request::SET_FEATURES, &body::number(features), &[]), 0);
    for ring in guest.rings() {
        let mut addresses = body::addresses(ring);
        addresses[4] = u8::from(on);
        let end = addresses.len();
        addresses[end - 8..].copy_from_slice(&ring.used().to_ne_bytes());
        assert_eq!(raw.ask(Request::SET_VRING_ADDR, &addresses, &[]), 0);
    }
}

fn snapshot(guest: &TestGuest) -> Vec<u8> {
    guest.ram.read(GUEST_BASE, guest.ram.bytes() as usize)
}

/// Returns true if the device writes to this page: used rings and receive buffers.
fn is_devices(guest: &TestGuest, page: u64) -> bool {
    let used = guest.rings().map(DriverRing::used).contains(&page);
    used || (guest.rx.buffer(0)..=guest.rx.buffer(255)).contains(&page)
}

/// Returns the device-written pages whose contents have changed.
fn changed(guest: &TestGuest, before: &[u8], now: &[u8]) -> BTreeSet<u64> {
    let pages = before.chunks(PAGE as usize).zip(now.chunks(PAGE as usize)).enumerate();
    let pages = pages.filter(|(_, (a, b))| a != b);
    let pages = pages.map(|(n, _)| GUEST_BASE + n as u64 * PAGE);
    pages.filter(|page| is_devices(guest, *page)).collect()
}

#[test]
fn marks_are_exact_when_on_and_none_when_off_and_traffic_goes_on() {
    let mut bench = Bench::new();
    let mut guest = TestGuest::new();
    let raw = RawFrontend::start(bench.rig.socket(), &guest);
    let log = Log::new(&guest);
    bench.exchange(&mut guest);
    log.give(&raw);
    for round in 0..10 {
        set_logging(&raw, &guest, true);
        let before = snapshot(&guest);
        for _ in 0..=round {
            bench.exchange(&mut guest);
        }
        set_logging(&raw, &guest, false);
        let (marked, written) = (log.take(), changed(&guest, &before, &snapshot(&guest)));
        assert!(marked.is_superset(&written), "{marked:x?} lack some of {written:x?}");
        assert!(marked.iter().all(|page| is_devices(&guest, *page)), "{marked:x?}");
        assert!(marked.len() <= 2 + 4 * (round + 1), "{} marks", marked.len());
        bench.exchange(&mut guest);
        assert_eq!(log.take(), BTreeSet::new());
    }
}

/// Does what a migration does: copies the guest's memory page by page while frames come in.
#[test]
fn a_guest_whose_marked_pages_are_copied_goes_on_elsewhere() {
    let mut bench = Bench::new();
    let mut guest = TestGuest::new();
    let raw = RawFrontend::start(bench.rig.socket(), &guest);
    let mut log = Log::new(&guest);
    log.give(&raw);
    set_logging(&raw, &guest, true);
    let mut copy = snapshot(&guest);
    let mut number = 0;
    for pass in 0..30 {
        wait("room in the transmit ring", || guest.tx.outstanding() < 128);
        guest.offer_buffers();
        for _ in 0..40 {
            number += 1;
            bench.lan.send(number);
            guest.queue(&frame(bench.lan.mac, GUEST_MAC, number));
        }
        guest.tx.kick();
        if pass % 10 == 9 {
            // The front-end changes the log, as it does when memory was added; it reads the old log
            // after the reply.
            let next = Log::new(&guest);
            next.give(&raw);
            let old = std::mem::replace(&mut log, next);
            copy_pages(&guest, &mut copy, &old.take());
            std::thread::sleep(std::time::Duration::from_millis(1));
            assert_eq!(old.take(), BTreeSet::new(), "the old log is written to");
        }
        copy_pages(&guest, &mut copy, &log.take());
        while guest.rx.take_used().is_some() {}
        while guest.tx.take_used().is_some() {}
    }
    let positions = [0, 1]
        .map(|ring| raw.get(Request::GET_VRING_BASE, &body::state(ring, 0)).body[4..].to_vec());
    copy_pages(&guest, &mut copy, &log.take());
    // Pages that the driver itself writes are marked by the guest's processor and not checked here.
    assert_eq!(
        changed(&guest, &copy, &snapshot(&guest)),
        BTreeSet::new(),
        "written without a mark"
    );
    for (ring, position) in guest.rings().iter().zip(positions) {
        assert_eq!(position[..2], ring.used_index().to_ne_bytes());
    }
    std::thread::sleep(std::time::Duration::from_millis(2));
    assert_eq!(log.take(), BTreeSet::new(), "nothing is written after the stop");
    drop(raw);
    let _raw = RawFrontend::start(bench.rig.socket(), &guest);
    bench.exchange(&mut guest);
}

fn copy_pages(guest: &TestGuest, copy: &mut [u8], pages: &BTreeSet<u64>) {
    for page in pages {
        let at = (page - GUEST_BASE) as usize;
        copy[at..at + PAGE as usize].copy_from_slice(&guest.ram.read(*page, PAGE as usize));
    }
}

#[test]
fn a_log_that_is_truncated_under_traffic_costs_that_connection_only() {
    let mut bench = Bench::new();
    bench.assert_serves();
    let before = open_fds();
    for _ in 0..5 {
        let mut guest = TestGuest::new();
        let raw = RawFrontend::start(bench.rig.socket(), &guest);
        let file = memfd(log_bytes(&guest));
        let body = [log_bytes(&guest), 0];
        let body = body.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<_>>();
        assert_eq!(raw.ask(Request::SET_LOG_BASE, &body, &[file.as_raw_fd()]), 0);
        set_logging(&raw, &guest, true);
        bench.exchange(&mut guest);
        file.set_len(0).unwrap();
        guest.offer_buffers();
        for n in 0..64 {
            bench.lan.send(n);
            guest.send(&frame(bench.lan.mac, GUEST_MAC, n));
        }
        raw.expect_end();
    }
    assert_eq!(open_fds(), before);
    bench.assert_serves();
}

#[test]
fn logs_that_are_not_there_are_refused_and_others_short_or_askew_hold_nobody_up() {
    let mut bench = Bench::new();
    let mut guest = TestGuest::new();
    let raw = RawFrontend::start(bench.rig.socket(), &guest);
    let file = memfd(3 * PAGE);
    file.write_all_at(&[0; 16], 0).unwrap();
    let give = |bytes: u64, offset: u64, fd| {
        let body = [bytes, offset].iter().flat_map(|w| w.to_ne_bytes()).collect::<Vec<_>>();
        raw.ask(Request::SET_LOG_BASE, &body, &[fd])
    };
    for (bytes, offset) in [
        (0, 0),
        (3 * PAGE + 1, 0),
        (1, 3 * PAGE),
        (PAGE, u64::MAX - 5),
        (u64::MAX, 0),
        (1, 1 << 63),
    ] {
        assert_ne!(give(bytes, offset, file.as_raw_fd()), 0, "{bytes:#x} at {offset:#x}");
    }
    for path in ["/dev/zero", "/dev/null", "/proc/self/exe", "/proc/self/mem", "/tmp"] {
        let other = File::open(path).unwrap();
        assert_ne!(give(16, 0, other.as_raw_fd()), 0, "{path}");
    }
    // The guest's memory can serve as a log like any other file; a log of one byte is accepted too.
    let ram: &GuestRam = &guest.ram;
    for (bytes, offset, fd) in
        [(1, 4097, file.as_raw_fd()), (PAGE, guest.ram.bytes() - PAGE, ram.file().as_raw_fd())]
    {
        assert_eq!(give(bytes, offset, fd), 0);
    }
    set_logging(&raw, &guest, true);
    bench.exchange(&mut guest);
}

/// As soon as GET_VRING_BASE is answered, the guest may run elsewhere with the same address.
#[test]
fn what_a_guest_sent_last_is_out_when_it_has_left_and_nothing_follows() {
    let mut bench = Bench::new();
    let mut rounds_all_out = 0;
    for _ in 0..DEPARTURES {
        let mut guest = TestGuest::new();
        let raw = RawFrontend::start(bench.rig.socket(), &guest);
        bench.exchange(&mut guest);
        let numbers = [0; 8].map(|_| bench.fresh_number());
        bench.lan.take_seen();
        // The driver hangs on the last frames, and it takes milliseconds to find that.
        let failed = bench.rig.active();
        let life = bench.rig.system.failover().life(failed).unwrap();
        let victim = Victim { slot: bench.rig.slot(failed), life: &life, port: None };
        victim.inject(Cause::Hang, IN_TRANSMIT).unwrap();
        let counters = bench.rig.system.switchboard().counters();
        let left_before = counters.tx_left_behind.get();
        numbers.iter().for_each(|n| guest.queue(&frame(bench.lan.mac, GUEST_MAC, *n)));
        guest.tx.kick();
        wait("the frames to be taken", || guest.tx.outstanding() == 0);
        for ring in guest.rings() {
            raw.get(Request::GET_VRING_BASE, &body::state(ring.index, 0));
        }
        let seen: BTreeSet<_> = bench.lan.take_seen().into_iter().collect();
        assert!(seen.is_subset(&BTreeSet::from(numbers)), "{seen:?}");
        let announced = counters.announced.get();
        assert_eq!(bench.rig.wait_failover().record.from, failed);
        bench.rig.wait_whole();
        bench.rig.crash_active();
        bench.rig.wait_failover();
        bench.rig.wait_whole();
        bench.lan.expect_silence(QUIET);
        // If the machine stalls, the fault may not be found before the answer is due.
        let left_behind = counters.tx_left_behind.get() - left_before;
        let told = seen.len() as u64 + left_behind;
        assert!(told >= numbers.len() as u64, "out: {seen:?}, left behind: {left_behind}");
        assert_eq!(counters.announced.get(), announced, "the address was announced again");
        rounds_all_out += usize::from(seen.len() == numbers.len());
    }
    let most = rounds_all_out > DEPARTURES / 2;
    assert!(most, "all were out in {rounds_all_out} of {DEPARTURES} departures");
    bench.assert_serves();
}

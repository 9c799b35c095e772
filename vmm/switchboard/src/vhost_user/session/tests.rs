mod log;

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use shared_ring::frame::DEFAULT_MTU;
use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::fakes::{
    FakeGuest, FakeRing, GUEST_BASE, GUEST_BYTES, MAC, QUEUE, Violations, memfd, slots,
};
use crate::{Switchboard, SwitchboardConfig};

const USER_BASE: u64 = 0x7f00_0000_0000;
const ALL_FEATURES: u64 = FEATURES;

/// A session on a running switchboard without domains at work, and a guest for it.
struct Bench {
    session: Session,
    guest: FakeGuest,
    _switchboard: Switchboard,
}

impl Bench {
    fn new() -> Self {
        let (slots, _) = slots();
        let tx_pool = slots[0].tx_pool.clone();
        let violations = Arc::new(Violations::default());
        let config = SwitchboardConfig {
            slots,
            tx_pool,
            macs: vec![MAC],
            mtu: DEFAULT_MTU,
            rules: Vec::new(),
            announce: crate::AnnounceConfig::default(),
            violations,
        };
        let switchboard = Switchboard::spawn(config).unwrap();
        let session = Session::new(switchboard.port(0).unwrap(), MAC);
        Self { session, guest: FakeGuest::new(), _switchboard: switchboard }
    }

    /// With protocol features and memory.
    fn ready() -> Self {
        let mut bench = Self::new();
        let protocol = OFFERED_PROTOCOL.bits();
        bench.send(FrontendReq::SET_PROTOCOL_FEATURES, &number(protocol)).unwrap();
        assert_eq!(bench.ask(FrontendReq::SET_FEATURES, &number(ALL_FEATURES)), 0);
        assert_eq!(bench.ask_with_memory(FrontendReq::SET_MEM_TABLE, &table()), 0);
        bench
    }

    fn handle(
        &mut self,
        request: u32,
        wants_reply: bool,
        body: &[u8],
        files: Vec<File>,
    ) -> Result<Option<Vec<u8>>, ConnectionError> {
        let files = files.into_iter().map(Into::into).collect();
        self.session.handle(Message { request, wants_reply, body: body.to_vec(), files })
    }

    /// Without an acknowledgement.
    fn send(
        &mut self,
        request: FrontendReq,
        body: &[u8],
    ) -> Result<Option<Vec<u8>>, ConnectionError> {
        self.handle(request as u32, false, body, vec![])
    }

    /// With one.
    fn ask(&mut self, request: FrontendReq, body: &[u8]) -> u64 {
        let reply = self.handle(request as u32, true, body, vec![]).unwrap().unwrap();
        u64::from_ne_bytes(reply.try_into().unwrap())
    }

    fn ask_with_memory(&mut self, request: FrontendReq, body: &[u8]) -> u64 {
        let file = self.guest.file.try_clone().unwrap();
        let reply = self.handle(request as u32, true, body, vec![file]).unwrap().unwrap();
        u64::from_ne_bytes(reply.try_into().unwrap())
    }

    /// Describes the transmit ring and sets its kick descriptor.
    fn start_ring(&mut self) {
        let ring = &self.guest.tx;
        let addresses = addresses(ring);
        let kick = File::from(ring.kick.as_fd_owned());
        assert_eq!(self.ask(FrontendReq::SET_VRING_NUM, &state(1, u32::from(QUEUE))), 0);
        assert_eq!(self.ask(FrontendReq::SET_VRING_ADDR, &addresses), 0);
        let request = FrontendReq::SET_VRING_KICK as u32;
        self.handle(request, true, &number(1), vec![kick]).unwrap();
    }

    fn enable(&mut self, value: u32) -> u64 {
        self.ask(FrontendReq::SET_VRING_ENABLE, &state(1, value))
    }

    /// Stops the transmit ring; its position.
    fn stop_ring(&mut self) -> u32 {
        let reply = self.send(FrontendReq::GET_VRING_BASE, &state(1, 0)).unwrap().unwrap();
        assert_eq!(reply[..4], 1u32.to_ne_bytes());
        u32::from_ne_bytes(reply[4..].try_into().unwrap())
    }

    /// Pretends that the device has used chains up to an index.
    fn set_used(&self, index: u16) {
        let address = GuestAddress(self.guest.tx.used() + 2);
        self.guest.memory.store(index, address, Ordering::SeqCst).unwrap();
    }
}

trait Duplicate {
    fn as_fd_owned(&self) -> std::os::fd::OwnedFd;
}

impl Duplicate for vmm_sys_util::eventfd::EventFd {
    fn as_fd_owned(&self) -> std::os::fd::OwnedFd {
        use std::os::fd::AsRawFd;
        // SAFETY: an open descriptor, borrowed for the duration of the call.
        let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(self.as_raw_fd()) };
        fd.as_fd().try_clone_to_owned().unwrap()
    }
}

fn number(value: u64) -> Vec<u8> {
    value.to_ne_bytes().to_vec()
}

fn state(ring: u32, value: u32) -> Vec<u8> {
    [ring, value].iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn region() -> Vec<u8> {
    words(&[GUEST_BASE, GUEST_BYTES, USER_BASE, 0])
}

fn table() -> Vec<u8> {
    [state(1, 0), region()].concat()
}

fn addresses(ring: &FakeRing) -> Vec<u8> {
    let user = |address: u64| address - GUEST_BASE + USER_BASE;
    let all = [user(ring.descriptors()), user(ring.used()), user(ring.avail()), 0];
    [state(1, 0), words(&all)].concat()
}

#[test]
fn a_ring_runs_once_it_is_whole_and_enabled() {
    let mut bench = Bench::ready();
    bench.set_used(7);
    bench.start_ring();
    assert_eq!(bench.stop_ring(), 0, "not enabled yet: it never ran");
    bench.start_ring();
    assert_eq!(bench.enable(1), 0);
    assert_eq!(bench.stop_ring(), 7, "it ran from the used index");
}

#[test]
fn an_early_enable_holds() {
    let mut bench = Bench::new();
    bench.send(FrontendReq::SET_PROTOCOL_FEATURES, &number(OFFERED_PROTOCOL.bits())).unwrap();
    assert_eq!(bench.enable(1), 0);
    assert_eq!(bench.ask(FrontendReq::SET_FEATURES, &number(ALL_FEATURES)), 0);
    assert_eq!(bench.ask_with_memory(FrontendReq::SET_MEM_TABLE, &table()), 0);
    bench.set_used(9);
    bench.start_ring();
    assert_eq!(bench.stop_ring(), 9);
}

#[test]
fn without_protocol_features_a_started_ring_is_enabled() {
    let mut bench = Bench::ready();
    let features = ALL_FEATURES & !request::PROTOCOL_FEATURES;
    assert_eq!(bench.ask(FrontendReq::SET_FEATURES, &number(features)), 0);
    bench.set_used(3);
    bench.start_ring();
    assert_eq!(bench.stop_ring(), 3);
}

#[test]
fn resets_stop_rings_and_leave_them_enabled() {
    for (request, body) in
        [(FrontendReq::RESET_DEVICE, vec![]), (FrontendReq::SET_STATUS, number(0))]
    {
        let mut bench = Bench::ready();
        bench.enable(1);
        bench.set_used(5);
        bench.start_ring();
        assert_eq!(bench.ask(request, &body), 0);
        bench.set_used(40);
        assert_eq!(bench.stop_ring(), 5, "{request:?}: it stopped at the reset");
        bench.start_ring();
        assert_eq!(bench.stop_ring(), 40, "{request:?}: it runs without another enable");
    }
}

#[test]
fn a_ring_that_was_disabled_for_its_stop_waits_for_the_next_enable() {
    let mut bench = Bench::ready();
    bench.start_ring();
    assert_eq!((bench.enable(1), bench.enable(0)), (0, 0));
    bench.stop_ring();
    bench.start_ring();
    bench.guest.tx.send(&[0; 60]);
    assert_eq!(bench.stop_ring(), 0, "nothing was thrown away");
    bench.start_ring();
    assert_eq!(bench.enable(0), 0);
    assert_eq!(bench.stop_ring(), 1, "told to be disabled, it throws away");
}

#[test]
fn memory_may_go_and_come_under_a_ring() {
    let mut bench = Bench::ready();
    bench.enable(1);
    bench.start_ring();
    let single = [vec![0; 8], region()].concat();
    assert_eq!(bench.ask(FrontendReq::REM_MEM_REG, &single), 0);
    bench.set_used(11);
    assert_eq!(bench.ask_with_memory(FrontendReq::ADD_MEM_REG, &single), 0);
    assert_eq!(bench.stop_ring(), 11);
}

#[test]
fn a_region_that_overlaps_is_refused_and_changes_nothing() {
    let mut bench = Bench::ready();
    bench.enable(1);
    bench.start_ring();
    let single = [vec![0; 8], region()].concat();
    assert_eq!(bench.ask_with_memory(FrontendReq::ADD_MEM_REG, &single), 1);
    bench.set_used(2);
    // A restart shows that the ring still has its memory.
    assert_eq!(bench.enable(1), 0);
    assert_eq!(bench.stop_ring(), 2);
}

#[test]
fn a_position_that_was_set_is_told_back() {
    let mut bench = Bench::ready();
    assert_eq!(bench.ask(FrontendReq::SET_VRING_BASE, &state(1, 321)), 0);
    assert_eq!(bench.stop_ring(), 321);
    assert_eq!(bench.ask(FrontendReq::SET_VRING_BASE, &state(1, 65_536)), 1);
}

#[test]
fn refusals_are_acknowledgements_only_where_they_can_be() {
    let mut bench = Bench::ready();
    assert_eq!(bench.ask(FrontendReq::SET_VRING_NUM, &state(2, 256)), 1);
    let refused = |result| matches!(result, Err(ConnectionError::Refused { .. }));
    assert!(refused(bench.send(FrontendReq::SET_VRING_NUM, &state(2, 256))));
    // GET_VRING_BASE has a reply of its own.
    let request = FrontendReq::GET_VRING_BASE as u32;
    assert!(refused(bench.handle(request, true, &state(2, 0), vec![])));
    assert!(refused(bench.handle(999, false, &[], vec![])));
    assert_eq!(bench.handle(999, true, &[], vec![]).unwrap(), Some(number(1)));
}

#[test]
fn before_acknowledgements_are_negotiated_none_is_sent() {
    let mut bench = Bench::new();
    let request = FrontendReq::SET_OWNER as u32;
    assert_eq!(bench.handle(request, true, &[], vec![]).unwrap(), None);
}

#[test]
fn descriptors_where_none_belong_are_malformed() {
    let mut bench = Bench::ready();
    for (request, body, count) in [
        (FrontendReq::GET_FEATURES, vec![], 1),
        (FrontendReq::SET_MEM_TABLE, table(), 2),
        (FrontendReq::SET_VRING_CALL, number(1), 0),
        (FrontendReq::SET_VRING_CALL, number(1 | NO_DESCRIPTOR), 1),
        (FrontendReq::ADD_MEM_REG, [vec![0; 8], region()].concat(), 0),
    ] {
        let files = (0..count).map(|_| memfd(4096)).collect();
        let result = bench.handle(request as u32, true, &body, files);
        assert!(matches!(result, Err(ConnectionError::Malformed(_))), "{request:?}: {result:?}");
    }
}

#[test]
fn truncated_memory_starts_no_ring() {
    let mut bench = Bench::ready();
    bench.enable(1);
    bench.guest.file.set_len(0).unwrap();
    let addresses = addresses(&bench.guest.tx);
    assert_eq!(bench.ask(FrontendReq::SET_VRING_NUM, &state(1, u32::from(QUEUE))), 0);
    assert_eq!(bench.ask(FrontendReq::SET_VRING_ADDR, &addresses), 0);
    assert_eq!(bench.ask(FrontendReq::SET_VRING_KICK, &number(1 | NO_DESCRIPTOR)), 1);
}

#[test]
fn a_call_is_signalled_when_it_is_set() {
    let mut bench = Bench::ready();
    let call = File::from(bench.guest.tx.call.as_fd_owned());
    bench.handle(FrontendReq::SET_VRING_CALL as u32, true, &number(1), vec![call]).unwrap();
    assert_eq!(bench.guest.tx.calls(), 1);
}

#[test]
fn a_guest_may_be_given_a_smaller_mtu_and_no_larger_one() {
    let mut bench = Bench::ready();
    for (mtu, refused) in [(68, 0), (1400, 0), (1500, 0), (1501, 1), (67, 1), (u64::MAX, 1)] {
        assert_eq!(bench.ask(FrontendReq::NET_SET_MTU, &number(mtu)), refused, "{mtu}");
    }
}

#[test]
fn the_configuration_space_has_mac_and_mtu_and_ends_in_zeroes() {
    let mut bench = Bench::ready();
    let ask = |offset: u32, size: u32| {
        let head = [offset, size, 0].into_iter().flat_map(|word| word.to_ne_bytes());
        head.chain(std::iter::repeat_n(0, size as usize)).collect::<Vec<u8>>()
    };
    let reply = bench.send(FrontendReq::GET_CONFIG, &ask(0, 16)).unwrap().unwrap();
    assert_eq!(reply[12..18], MAC);
    let [low, high] = DEFAULT_MTU.to_le_bytes();
    assert_eq!(reply[18..], [1, 0, 1, 0, low, high, 0, 0, 0, 0]);
    let reply = bench.send(FrontendReq::GET_CONFIG, &ask(u32::MAX, 4)).unwrap().unwrap();
    assert_eq!(reply[12..], [0; 4]);
    assert!(bench.send(FrontendReq::GET_CONFIG, &ask(0, 16)[..20]).is_err());
}

/// A region behind the guest's own.
fn region_behind() -> Vec<u8> {
    words(&[GUEST_BASE + GUEST_BYTES, 4096, USER_BASE + GUEST_BYTES, 0])
}

/// A file that is no memory, as an NVDIMM's on a disk.
fn no_memory() -> File {
    File::open("/proc/self/exe").unwrap()
}

#[test]
fn a_region_that_is_no_memory_is_left_out_and_the_guest_is_served() {
    let mut bench = Bench::ready();
    bench.enable(1);
    let request = FrontendReq::SET_MEM_TABLE as u32;
    let both = [state(2, 0), region(), region_behind()].concat();
    let files = vec![bench.guest.file.try_clone().unwrap(), no_memory()];
    assert_eq!(bench.handle(request, true, &both, files).unwrap(), Some(number(0)));
    bench.set_used(4);
    bench.start_ring();
    assert_eq!(bench.stop_ring(), 4, "it runs");
    // A ring may not lie in it.
    let mut addresses = addresses(&bench.guest.tx);
    addresses[8..16].copy_from_slice(&(USER_BASE + GUEST_BYTES).to_ne_bytes());
    bench.start_ring();
    assert_eq!(bench.ask(FrontendReq::SET_VRING_ADDR, &addresses), 1);
    // It goes as it came, once.
    let single = [vec![0; 8], region_behind()].concat();
    assert_eq!(bench.ask(FrontendReq::REM_MEM_REG, &single), 0);
    assert_eq!(bench.ask(FrontendReq::REM_MEM_REG, &single), 1);
    let add = FrontendReq::ADD_MEM_REG as u32;
    assert_eq!(bench.handle(add, true, &single, vec![no_memory()]).unwrap(), Some(number(0)));
}

#[test]
fn memory_of_which_nothing_is_memory_is_refused() {
    let mut bench = Bench::ready();
    let request = FrontendReq::SET_MEM_TABLE as u32;
    let reply = bench.handle(request, true, &table(), vec![no_memory()]).unwrap();
    assert_eq!(reply, Some(number(1)));
}

#[test]
fn regions_that_are_left_out_take_slots_too() {
    let mut bench = Bench::ready();
    let request = FrontendReq::ADD_MEM_REG as u32;
    for n in 1..MAX_REGIONS as u64 + 4 {
        let region = words(&[n << 40, 4096, n << 40, 0]);
        let body = [vec![0; 8], region].concat();
        let reply = bench.handle(request, true, &body, vec![no_memory()]).unwrap();
        assert_eq!(reply, Some(number(u64::from(n >= MAX_REGIONS as u64))), "{n}");
    }
}

#[test]
fn memory_and_log_of_a_guest_have_a_bound_together() {
    const TIB: u64 = 1 << 40;
    let mut bench = Bench::ready();
    let large = memfd(5 * TIB);
    let add = |bench: &mut Bench, at: u64, bytes: u64| {
        let body = [vec![0; 8], words(&[at, bytes, at, 0])].concat();
        let files = vec![large.try_clone().unwrap()];
        bench.handle(FrontendReq::ADD_MEM_REG as u32, true, &body, files).unwrap()
    };
    assert_eq!(add(&mut bench, TIB, 4 * TIB), Some(number(1)));
    assert_eq!(add(&mut bench, TIB, 3 * TIB), Some(number(0)));
    assert_eq!(add(&mut bench, 5 * TIB, TIB), Some(number(1)));
    let log = |bench: &mut Bench, bytes: u64| {
        let files = vec![large.try_clone().unwrap()];
        bench.handle(FrontendReq::SET_LOG_BASE as u32, true, &words(&[bytes, 0]), files).unwrap()
    };
    assert_eq!(log(&mut bench, TIB), Some(number(1)));
    assert_eq!(log(&mut bench, TIB / 2), Some(number(0)));
    assert_eq!(add(&mut bench, 5 * TIB, TIB / 2), Some(number(1)));
    assert_eq!(add(&mut bench, 5 * TIB, TIB / 4), Some(number(0)));
}

#[test]
fn announcements_that_are_asked_for_never_end_the_connection() {
    let mut bench = Bench::ready();
    let mut own = [0; 8];
    own[..6].copy_from_slice(&MAC);
    for _ in 0..100 {
        assert_eq!(bench.send(FrontendReq::SEND_RARP, &[2, 0, 0, 0, 0, 9, 0, 0]).unwrap(), None);
        assert_eq!(bench.send(FrontendReq::SEND_RARP, &own).unwrap(), None);
    }
    assert_eq!(bench.ask(FrontendReq::SEND_RARP, &own), 0);
}

#[test]
fn one_pair_of_queues_is_offered_however_it_is_asked() {
    let mut bench = Bench::new();
    let mut ask = |request| {
        let reply = bench.send(request, &[]).unwrap().unwrap();
        u64::from_ne_bytes(reply.try_into().unwrap())
    };
    assert_eq!(ask(FrontendReq::GET_PROTOCOL_FEATURES) & 1, 0, "MQ");
    assert_eq!(ask(FrontendReq::GET_QUEUE_NUM), 2);
}
